/** What statuses and network failures mean to the one who asked: an errno, a sentence, whether to try again. */
import { errnoCode } from '../../base/errno.ts';
import { EbbError, ebbError } from '../../base/errors.ts';
import { field, parseHttpDate, parseLength } from './attributes.ts';
import type { HeaderFields } from './attributes.ts';

/** A server may ask for longer; then it is asked again after this anyway. */
const retryAfterMsMax = 60 * 60 * 1000;

/** `Retry-After` in milliseconds from now: seconds or a date (RFC 9110, section 10.2.3). */
export function retryAfterMs(headers: HeaderFields, nowMs: number): number | undefined {
  const text = field(headers, 'retry-after');
  if (text === undefined) return undefined;
  if (/^\d{1,9}$/.test(text)) return Math.min(retryAfterMsMax, Number(text) * 1000);
  const date = parseHttpDate(text);
  if (date === undefined) return undefined;
  return Math.min(retryAfterMsMax, Math.max(0, date.seconds * 1000 - nowMs));
}

/** The error for a status that is no success. `what` is the URL, without credentials. */
export function statusError(
  status: number,
  headers: HeaderFields,
  what: string,
  nowMs: number,
): EbbError {
  switch (status) {
    case 401:
      return ebbError(
        'EACCES',
        `The server wants credentials for ${what} (401): none were given, or not the right ones.`,
      );
    case 403:
      return ebbError('EACCES', `The server refuses access to ${what} (403).`);
    case 404:
    case 410:
      return ebbError('ENOENT', `The server has no ${what} (${status}).`);
    case 407:
      return ebbError('EACCES', `The proxy wants credentials (407) for ${what}.`);
    case 408:
    case 425:
    case 429:
    case 503: {
      const afterMs = retryAfterMs(headers, nowMs);
      const message = `The server is busy and postponed ${what} (${status}).`;
      const wait = afterMs === undefined ? {} : { retryAfterMs: afterMs };
      return ebbError('EIO', message, { retryable: true, answered: true, ...wait });
    }
    case 414:
      return ebbError('ENAMETOOLONG', `The server finds the URL ${what} too long (414).`);
    case 416: {
      const size = parseLength(/\/(\d+)$/.exec(field(headers, 'content-range') ?? '')?.[1]);
      const has = size === undefined ? 'has fewer bytes' : `has ${size} bytes`;
      return ebbError('EIO', `The range lies beyond the end: ${what} ${has} (416).`);
    }
    default: {
      const retryable = status >= 500 && status !== 501 && status !== 505;
      const message = `The server answered ${status} for ${what}.`;
      return ebbError('EIO', message, { retryable, answered: true });
    }
  }
}

const ownCertificate = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
]);

/** Of a TLS connection that stood: what came did not decrypt. A new connection may do. */
export const damagedCode = 'EBB_TLS_DAMAGED';

const explanations: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'its certificate has expired',
  CERT_NOT_YET_VALID: 'its certificate is not valid yet (is the clock right?)',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another host name',
  UND_ERR_HEADERS_TIMEOUT: 'it did not start to answer in time',
  UND_ERR_BODY_TIMEOUT: 'it stopped sending in the middle of the answer',
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: 'the answer was shorter or longer than it promised',
  UND_ERR_SOCKET: 'it closed the connection in the middle of the answer',
  [damagedCode]: 'what it sent was damaged on the way',
  UND_ERR_HEADERS_OVERFLOW: 'the head of its answer is too long',
  UND_ERR_CONNECT_TIMEOUT: 'no connection within the time limit',
  ECONNREFUSED: 'nobody listens there (connection refused)',
  ECONNRESET: 'it cut the connection',
  EPIPE: 'it cut the connection',
  ENOTFOUND: 'its name is unknown (DNS)',
  EAI_AGAIN: 'its name cannot be looked up now (DNS)',
  EHOSTUNREACH: 'the host cannot be reached',
  ENETUNREACH: 'the network cannot be reached',
  ETIMEDOUT: 'no answer within the time limit',
};

/** How undici's ProxyAgent tells of a proxy's refusal: the status stands in the message alone. */
const proxyRefusal = /^Proxy (?:Authentication Required|response) \((\d{3})\)/;

/** Turns what undici, node:net and node:tls throw into an error. `host` is for the sentence. */
export function networkError(error: unknown, host: string): EbbError {
  if (error instanceof EbbError) return error;
  const refusedBy = error instanceof Error ? proxyRefusal.exec(error.message)?.[1] : undefined;
  if (refusedBy === '407') return statusError(407, {}, host, 0);
  if (refusedBy === '403') {
    return ebbError('EACCES', `The proxy refuses the way to ${host} (403).`, { cause: error });
  }
  const code = codeOf(error);
  if (code === 'ERR_INVALID_ARG_VALUE' && describe(error).includes('options.servername')) {
    const message =
      'A proxy that is spoken to by https: must be given by its host name, not by its address.';
    return ebbError('EINVAL', message, { cause: error, retryable: false });
  }
  const detail = explanations[code] ?? describe(error);
  const sentence = `${host}: ${detail}.`;
  const retry = { cause: error, retryable: true };
  if (code === 'UND_ERR_DESTROYED' || code === 'UND_ERR_CLOSED') {
    return ebbError('ESHUTDOWN', `The connection to ${host} was closed by us.`, { cause: error });
  }
  if (ownCertificate.has(code)) {
    const message =
      `${host}: its certificate is not signed by an authority that this system trusts (${code}). ` +
      'Name the authority with --ca-file, or accept any certificate with --insecure.';
    return ebbError('EACCES', message, { cause: error, retryable: false });
  }
  if (/^(?:CERT_|ERR_TLS_)/.test(code)) {
    return ebbError('EACCES', sentence, { cause: error, retryable: false });
  }
  if (/wrong.version.number/i.test(describe(error))) {
    const message = `${host}: it does not speak TLS there; is it http: instead of https:?`;
    return ebbError('EIO', message, { cause: error, retryable: false });
  }
  if (/^(?:ERR_SSL_|EPROTO)/.test(code)) {
    const message = `${host}: the TLS handshake failed (${describe(error)}).`;
    return ebbError('EIO', message, { cause: error, retryable: false });
  }
  if (code === 'UND_ERR_CONNECT_TIMEOUT') return ebbError('ETIMEDOUT', sentence, retry);
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN')
    return ebbError('EHOSTUNREACH', sentence, retry);
  const connecting = ['ECONNREFUSED', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH'].includes(code);
  return ebbError(connecting ? (errnoCode(code) ?? 'EIO') : 'EIO', sentence, retry);
}

/** The first code in the chain of causes; of an AggregateError (several addresses) the first one's. */
function codeOf(error: unknown): string {
  let current: unknown = error;
  for (let depth = 0; depth < 8 && current instanceof Error; depth += 1) {
    const { code, errors } = current as { code?: unknown; errors?: unknown };
    if (typeof code === 'string' && code !== '') return code;
    current = Array.isArray(errors) ? (errors as unknown[])[0] : current.cause;
  }
  return '';
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.message === '' ? error.name : error.message.replace(/[\s.]+$/, '').slice(0, 300);
}
