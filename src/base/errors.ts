/**
 * The one error class of Ebb. Every refusal carries an errno chosen on purpose (it is what the
 * application's system call will report), a sentence a person can act on, the cause, and whether
 * trying again may help.
 */
import { Errno, errnoCode, errnoCodeOf } from './errno.ts';
import type { ErrnoCode } from './errno.ts';

export interface EbbErrorOptions {
  /** What made this happen; kept for logs. */
  readonly cause?: unknown;
  /** Whether the same request may succeed later. Default: by code, see `isRetryableCode`. */
  readonly retryable?: boolean;
  /** The other side asked to wait this long (HTTP Retry-After). 0 <= retryAfterMs. */
  readonly retryAfterMs?: number;
  /**
   * The other side was reached: it said itself that it cannot serve this now (HTTP 5xx, 429), or what it said of this
   * object cannot be believed. Default false.
   */
  readonly answered?: boolean;
}

export class EbbError extends Error {
  override readonly name = 'EbbError';
  /** Positive, as in errno(3). */
  readonly errno: number;
  readonly code: ErrnoCode;
  readonly retryable: boolean;
  readonly retryAfterMs: number | undefined;
  readonly answered: boolean;

  constructor(code: ErrnoCode, message: string, options: EbbErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.errno = Errno[code];
    this.retryable = options.retryable ?? isRetryableCode(code);
    this.retryAfterMs = options.retryAfterMs;
    this.answered = options.answered ?? false;
  }
}

/**
 * Errors that pass by themselves: a network that hiccuped, a resource that is short for a moment.
 * EIO is not among them (a broken disk stays broken): who knows better says `retryable: true`.
 * EINTR neither: the requester gave up. ENOSPC and EDQUOT need somebody to make room first.
 */
const retryableCodes: ReadonlySet<ErrnoCode> = new Set<ErrnoCode>([
  'EAGAIN',
  'EBUSY',
  'ECOMM',
  'ECONNABORTED',
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTDOWN',
  'EHOSTUNREACH',
  'EMFILE',
  'ENETDOWN',
  'ENETRESET',
  'ENETUNREACH',
  'ENFILE',
  'ENOBUFS',
  'ENOMEM',
  'ENOTCONN',
  'EPIPE',
  'ETIME',
  'ETIMEDOUT',
]);

/** Whether an error of this code is worth another try when nobody said otherwise. */
export function isRetryableCode(code: ErrnoCode): boolean {
  return retryableCodes.has(code);
}

/** Makes an `EbbError`. `message` is a sentence for people, without credentials. */
export function ebbError(code: ErrnoCode, message: string, options?: EbbErrorOptions): EbbError {
  return new EbbError(code, message, options);
}

/**
 * Codes of Node, its resolver and undici that are not errno names, as errors of this table.
 * Sources: getaddrinfo(3), undici docs/api/Errors.md, Node's errors documentation.
 */
const foreignCodes: ReadonlyMap<string, { readonly code: ErrnoCode; readonly retryable: boolean }> =
  new Map([
    ['ENOTFOUND', { code: 'EHOSTUNREACH', retryable: false }],
    ['EAI_AGAIN', { code: 'EHOSTUNREACH', retryable: true }],
    ['EAI_FAIL', { code: 'EHOSTUNREACH', retryable: false }],
    ['EAI_NODATA', { code: 'EHOSTUNREACH', retryable: false }],
    ['EAI_NONAME', { code: 'EHOSTUNREACH', retryable: false }],
    ['ABORT_ERR', { code: 'EINTR', retryable: false }],
    ['UND_ERR_ABORTED', { code: 'EINTR', retryable: false }],
    ['UND_ERR_CONNECT_TIMEOUT', { code: 'ETIMEDOUT', retryable: true }],
    ['UND_ERR_HEADERS_TIMEOUT', { code: 'ETIMEDOUT', retryable: true }],
    ['UND_ERR_BODY_TIMEOUT', { code: 'ETIMEDOUT', retryable: true }],
    ['UND_ERR_SOCKET', { code: 'ECONNRESET', retryable: true }],
    ['UND_ERR_CLOSED', { code: 'ESHUTDOWN', retryable: false }],
    ['UND_ERR_DESTROYED', { code: 'ESHUTDOWN', retryable: false }],
  ] as const);

/** What a call that was given up rejects with: the reason of its signal, which has fired. */
export function abortError(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason;
  return reason instanceof Error ? reason : ebbError('EINTR', String(reason));
}

const causeDepthMax = 8;

/**
 * Turns anything that was thrown into an `EbbError`; an `EbbError` is returned as it is.
 * Understands Node's system errors (`code` or negative `errno`), aborted signals (EINTR, or the
 * signal's own `EbbError` reason when that is what was thrown), timeouts (ETIMEDOUT), resolver and
 * undici codes, and errors that only wrap one of these as their cause (`fetch failed`). Everything
 * else becomes `fallbackCode`.
 */
export function toEbbError(error: unknown, fallbackCode: ErrnoCode = 'EIO'): EbbError {
  if (error instanceof EbbError) return error;
  let current: unknown = error;
  for (let depth = 0; depth < causeDepthMax && current instanceof Error; depth += 1) {
    if (current instanceof EbbError) {
      const { code, retryable, retryAfterMs, answered } = current;
      return ebbError(code, messageOf(error), { cause: error, retryable, retryAfterMs, answered });
    }
    const known = classify(current);
    if (known !== undefined) {
      const message = depth === 0 ? messageOf(error) : `${messageOf(error)}: ${current.message}`;
      return ebbError(known.code, message, { cause: error, retryable: known.retryable });
    }
    current = current.cause;
  }
  return ebbError(fallbackCode, messageOf(error), { cause: error });
}

interface Classified {
  readonly code: ErrnoCode;
  readonly retryable: boolean;
}

function classify(error: Error): Classified | undefined {
  if (error.name === 'AbortError') return { code: 'EINTR', retryable: false };
  if (error.name === 'TimeoutError') return { code: 'ETIMEDOUT', retryable: true };
  const { code, errno } = error as { code?: unknown; errno?: unknown };
  if (typeof code === 'string') {
    const known = errnoCode(code);
    if (known !== undefined) return { code: known, retryable: isRetryableCode(known) };
    const foreign = foreignCodes.get(code);
    if (foreign !== undefined) return foreign;
  }
  if (typeof errno === 'number') {
    const known = errnoCodeOf(errno);
    if (known !== undefined) return { code: known, retryable: isRetryableCode(known) };
  }
  return undefined;
}

function messageOf(error: unknown): string {
  if (error instanceof Error) return error.message === '' ? error.name : error.message;
  return String(error);
}
