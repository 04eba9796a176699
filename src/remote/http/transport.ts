/**
 * One request, one answer, no policy: what the undici transport and the fast lane have in common. Redirects,
 * credentials and the meaning of statuses are decided by their callers (http-client.ts and up).
 */
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
}

export interface AnswerHead {
  readonly status: number;
  readonly headers: HeaderFields;
}

/** Where a body goes: memory of the receiver, as in `RangeSink`. */
export type BodyTarget = Pick<RangeSink, 'buffer' | 'filled'>;

export interface AnswerReceiver {
  /**
   * Called once with the head of the final answer (not 1xx). Gives the target for the body, or undefined when
   * the body is not wanted: the request is done then. May throw: the connection is closed, `send` rejects with it.
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
  readonly ca: string | undefined;
  readonly clientCertificate: string | undefined;
  readonly clientKey: string | undefined;
  /** Accept any certificate. */
  readonly insecure: boolean;
}

/** As node:tls wants them; keys that are absent keep the platform's defaults. */
export function tlsConnectOptions(tls: TlsOptions): {
  ca?: string;
  cert?: string;
  key?: string;
  rejectUnauthorized: boolean;
} {
  return {
    ...(tls.ca === undefined ? {} : { ca: tls.ca }),
    ...(tls.clientCertificate === undefined ? {} : { cert: tls.clientCertificate }),
    ...(tls.clientKey === undefined ? {} : { key: tls.clientKey }),
    rejectUnauthorized: !tls.insecure,
  };
}
