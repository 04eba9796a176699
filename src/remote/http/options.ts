/**
 * What a user says about an HTTP remote, checked and taken apart: where it is, the secrets it needs, the limits
 * of patience. Secrets leave this file only inside header fields; `displayName` and messages never have them.
 */
import { readFile } from 'node:fs/promises';

import { ebbError, toEbbError } from '../../base/errors.ts';
import type { TlsOptions, TransportLimits } from './transport.ts';

export interface HttpRemoteOptions {
  /** `http:` or `https:`; may hold user and password; neither query nor fragment. A directory. */
  readonly url: string;
  readonly user?: string;
  readonly password?: string;
  /** Instead of user and password. */
  readonly bearerToken?: string;
  /** More header fields for every request to this origin (they may be secrets: never sent elsewhere). */
  readonly headers?: Readonly<Record<string, string>>;
  /** URL of a proxy. Default: what http_proxy, https_proxy and no_proxy say. `''`: none. */
  readonly proxy?: string;
  /** PEM file of certificate authorities to trust in addition to the system's. */
  readonly caFile?: string;
  /** PEM files of a client certificate and its key; only together. */
  readonly clientCertificateFile?: string;
  readonly clientKeyFile?: string;
  /** Accept any server certificate. */
  readonly insecure?: boolean;
  /** Open connections to the origin, 1..256. Default 16. */
  readonly connections?: number;
  /** More of them, for requests that must not wait until a read gets on. 0 <= spareConnections. Default 0. */
  readonly spareConnections?: number;
  /** Default 10,000. */
  readonly connectTimeoutMs?: number;
  /** From a request to the head of its answer. Default 30,000. */
  readonly headersTimeoutMs?: number;
  /** Between two pieces of a body. Default 30,000. */
  readonly bodyTimeoutMs?: number;
  /** Read ranges through the fast lane (lane/) where it can. Default true. */
  readonly fastLane?: boolean;
}

/** The checked form. */
export interface HttpTarget {
  /** `https://host:port`, default ports left out. */
  readonly origin: string;
  /** Raw (percent-encoded) path with a slash at both ends. */
  readonly basePath: string;
  /** The URL without credentials. */
  readonly displayName: string;
  /** Header fields for this origin only, lower-case names: credentials and the user's own. */
  readonly privateHeaders: Readonly<Record<string, string>>;
  readonly limits: TransportLimits;
  readonly tls: TlsOptions;
  /** A proxy's URL, `environment`, or undefined for none. */
  readonly proxy: string | undefined;
}

const connectionsDefault = 16;
const connectionsMax = 256;
const connectTimeoutMsDefault = 10_000;
const answerTimeoutMsDefault = 30_000;
const timeoutMsMax = 24 * 60 * 60 * 1000;

/** Fields that the protocol needs for itself. */
const reservedFields = new Set(
  (
    'host connection content-length transfer-encoding upgrade te trailer keep-alive expect range ' +
    'if-range if-match if-none-match if-modified-since if-unmodified-since accept-encoding ' +
    'proxy-connection'
  ).split(' '),
);

/** Checks options and reads the certificate files. Throws EINVAL with a sentence, or what reading a file gave. */
export async function httpTarget(options: HttpRemoteOptions): Promise<HttpTarget> {
  const url = parseUrl(options.url);
  const basePath = url.pathname.endsWith('/') ? url.pathname : `${url.pathname}/`;
  return {
    origin: url.origin,
    basePath,
    displayName: url.origin + basePath,
    privateHeaders: { ...ownHeaders(options.headers ?? {}), ...authorization(options, url) },
    limits: limitsOf(options),
    tls: await tlsOf(options),
    proxy: proxyOf(options.proxy),
  };
}

function parseUrl(text: string): URL {
  // The text itself may hold a password, so it is in no message.
  if (!URL.canParse(text)) throw ebbError('EINVAL', 'The remote has no valid URL.');
  const url = new URL(text);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw ebbError(
      'EINVAL',
      `A remote of this kind begins with http: or https:, not ${url.protocol}`,
    );
  }
  if (url.search !== '' || url.hash !== '') {
    throw ebbError('EINVAL', `${url.origin}${url.pathname}: a directory has no query or fragment.`);
  }
  return url;
}

function authorization(options: HttpRemoteOptions, url: URL): Record<string, string> {
  const user = options.user ?? decoded(url.username);
  const password = options.password ?? decoded(url.password);
  if (options.bearerToken !== undefined) {
    if (user !== '') throw ebbError('EINVAL', 'Give a bearer token or a user, not both.');
    checkFieldValue('authorization', options.bearerToken);
    return { authorization: `Bearer ${options.bearerToken}` };
  }
  if (user === '' && password === '') return {};
  if (user.includes(':')) throw ebbError('EINVAL', 'A user name for HTTP cannot hold a colon.');
  const pair = Buffer.from(`${user}:${password}`, 'utf8').toString('base64');
  return { authorization: `Basic ${pair}` };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function ownHeaders(headers: Readonly<Record<string, string>>): Record<string, string> {
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    const lower = name.toLowerCase();
    if (!/^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(lower)) {
      throw ebbError('EINVAL', `${JSON.stringify(name)} is not the name of a header field.`);
    }
    if (reservedFields.has(lower)) {
      throw ebbError('EINVAL', `The header field ${lower} is not yours to set.`);
    }
    checkFieldValue(lower, value);
    result[lower] = value;
  }
  return result;
}

function checkFieldValue(name: string, value: string): void {
  if (!/^[\t\u0020-\u007e\u0080-\u00ff]*$/.test(value)) {
    throw ebbError('EINVAL', `The value of ${name} holds characters that no header field can.`);
  }
}

function limitsOf(options: HttpRemoteOptions): TransportLimits {
  const check = (name: string, value: number, maximum: number): number => {
    if (!Number.isSafeInteger(value) || value < 1 || value > maximum) {
      throw ebbError('EINVAL', `${name} must be a whole number from 1 to ${maximum}.`);
    }
    return value;
  };
  const { connections = connectionsDefault, connectTimeoutMs = connectTimeoutMsDefault } = options;
  const { headersTimeoutMs = answerTimeoutMsDefault, bodyTimeoutMs = answerTimeoutMsDefault } =
    options;
  return {
    connections:
      check('connections', connections, connectionsMax) + (options.spareConnections ?? 0),
    connectTimeoutMs: check('connectTimeoutMs', connectTimeoutMs, timeoutMsMax),
    headersTimeoutMs: check('headersTimeoutMs', headersTimeoutMs, timeoutMsMax),
    bodyTimeoutMs: check('bodyTimeoutMs', bodyTimeoutMs, timeoutMsMax),
  };
}

async function tlsOf(options: HttpRemoteOptions): Promise<TlsOptions> {
  const { caFile, clientCertificateFile, clientKeyFile } = options;
  if ((clientCertificateFile === undefined) !== (clientKeyFile === undefined)) {
    throw ebbError('EINVAL', 'A client certificate and its key are only of use together.');
  }
  return {
    ca: await pem(caFile),
    clientCertificate: await pem(clientCertificateFile),
    clientKey: await pem(clientKeyFile),
    insecure: options.insecure ?? false,
  };
}

async function pem(file: string | undefined): Promise<string | undefined> {
  if (file === undefined) return undefined;
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw toEbbError(error, 'EIO');
  });
  if (!text.includes('-----BEGIN ')) throw ebbError('EINVAL', `${file} is not a PEM file.`);
  return text;
}

function proxyOf(proxy: string | undefined): string | undefined {
  if (proxy === '') return undefined;
  if (proxy !== undefined) {
    if (!URL.canParse(proxy)) throw ebbError('EINVAL', 'The proxy has no valid URL.');
    return proxy;
  }
  const names = ['http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'];
  return names.some((name) => (process.env[name] ?? '') !== '') ? 'environment' : undefined;
}
