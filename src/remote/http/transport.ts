/**
 * One request, one answer, no policy: what the undici transport and the fast lane have in common. Redirects,
 * credentials and the meaning of statuses are decided by their callers (http-client.ts and up).
 */
import { createSecureContext, getCACertificates } from 'node:tls';
import type { SecureContext, SecureContextOptions } from 'node:tls';
import { ebbError } from '../../base/errors.ts';
import type { HeaderFields } from './attributes.ts';
import type { RangeSink } from '../remote.ts';

export interface HttpRequest {
  readonly method: 'GET' | 'HEAD';
  /** `https://host:port`. */
  readonly origin: string;
  /** Path and query as they go into the request line. */
  readonly path: string;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  /** The answer is a listing, which servers make as they send it: one in chunks is nothing unusual. */
  readonly mayBeChunked?: boolean;
}

export interface AnswerHead {
  readonly status: number;
  readonly headers: HeaderFields;
}

/** Where a body goes: memory of the receiver, as in `RangeSink`. */
export type BodyTarget = Pick<RangeSink, 'buffer' | 'filled'>;

export interface AnswerReceiver {
  /**
   * Called with the head of the final answer (not 1xx): once, or once more while `filled` has not been called (the
   * request was sent again then). Gives the target for the body, or undefined when the body is not wanted: the
   * request is done then. May throw: the connection is closed, `send` rejects with it.
   */
  head(head: AnswerHead): BodyTarget | undefined;
}

export interface Transport {
  /**
   * Resolves when the whole body (as framed by Content-Length or chunks, verified) was passed on and `filled` of
   * its last piece was awaited. Rejects with what `head`, `buffer` or `filled` threw, with the signal's reason, or
   * with a network error as thrown by the platform (errors.ts explains them).
   */
  send(request: HttpRequest, receiver: AnswerReceiver, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** A body nobody wants is read to its end up to this size, to keep the connection; else the connection goes. */
export const drainBytesMax = 64 * 1024;

/**
 * A connection that nobody uses is kept so long for whoever comes next, unless the server says less: a new one costs a
 * round trip, with TLS two. A server that closes it sooner is noticed. Below the minute after which the first firewalls
 * forget a connection without a word.
 */
export const idleMsMax = 30_000;

export interface TransportLimits {
  /** Open connections per origin. */
  readonly connections: number;
  readonly connectTimeoutMs: number;
  /** From the request to the head of the answer. */
  readonly headersTimeoutMs: number;
  /** Between two pieces of a body. */
  readonly bodyTimeoutMs: number;
}

/** PEM texts. */
export interface TlsOptions {
  /** Authorities besides those of the system and of Node. */
  readonly ca: string | undefined;
  readonly clientCertificate: string | undefined;
  readonly clientKey: string | undefined;
  /** Accept any certificate. */
  readonly insecure: boolean;
}

/**
 * As node:tls wants them. Made once for many connections: reading hundreds of authorities takes time. Throws EINVAL
 * when OpenSSL cannot use what the files hold.
 */
export function tlsConnectOptions(tls: TlsOptions): {
  secureContext?: SecureContext;
  rejectUnauthorized: boolean;
} {
  const rejectUnauthorized = !tls.insecure;
  const { ca, clientCertificate, clientKey } = tls;
  if (ca === undefined && clientCertificate === undefined) return { rejectUnauthorized };
  const secureContext = newContext({
    ...(ca === undefined ? {} : { ca: [...platformAuthorities(), ca] }),
    ...(clientCertificate === undefined ? {} : { cert: clientCertificate }),
    ...(clientKey === undefined ? {} : { key: clientKey }),
  });
  return { secureContext, rejectUnauthorized };
}

function newContext(options: SecureContextOptions): SecureContext {
  try {
    return createSecureContext(options);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw ebbError('EINVAL', `The certificates cannot be used: ${why}`, { cause: error });
  }
}

/** What Node trusts by itself (its own list, NODE_EXTRA_CA_CERTS) and what the system does, each once. */
function platformAuthorities(): string[] {
  return [...new Set([...getCACertificates('default'), ...getCACertificates('system')])];
}
