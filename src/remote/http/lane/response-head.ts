/**
 * The head of an HTTP/1.1 answer, parsed strictly. Pure. Everything that is not the plain case (RFC 9112 with a
 * Content-Length and nothing else that frames the body; for listings also chunks) is `unusual`, and the general client
 * gets the request: the lane must never guess where a body begins or ends.
 */
import { withoutOptionalWhitespace } from '../attributes.ts';
import type { HeaderFields } from '../attributes.ts';

export const headBytesMax = 16 * 1024;
const fieldsMax = 128;

export type ParsedHead =
  | { readonly is: 'incomplete' }
  | { readonly is: 'unusual'; readonly why: string }
  | {
      readonly is: 'head';
      readonly status: number;
      readonly headers: HeaderFields;
      /** Including the empty line. */
      readonly headBytes: number;
      /** Infinity: it comes in chunks. */
      readonly bodyBytes: number;
      readonly keepAlive: boolean;
      /** How long the server says it keeps a connection without a request (`Keep-Alive: timeout=5`). */
      readonly idleMaxMs: number | undefined;
    };

const statusLine = /^HTTP\/1\.1 ([1-9]\d\d)(?: [\t\u0020-\u007e\u0080-\u00ff]*)?$/;
const fieldLine = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*([\t\u0020-\u007e\u0080-\u00ff]*)$/;

/**
 * How the answer may be framed. `bodiless`: the answer to a HEAD, which ends with its head whatever its fields say (RFC
 * 9112, section 6.3). `chunked`: by a Content-Length or by chunks.
 */
export type BodyKind = 'plain' | 'bodiless' | 'chunked';

/** Looks at the first bytes of an answer. Never throws. */
export function parseResponseHead(bytes: Uint8Array, kind: BodyKind = 'plain'): ParsedHead {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = view.indexOf('\r\n\r\n');
  if (end < 0) {
    return bytes.length > headBytesMax ? unusual('the head is too long') : { is: 'incomplete' };
  }
  if (end > headBytesMax) return unusual('the head is too long');
  const [first = '', ...lines] = view.toString('latin1', 0, end).split('\r\n');
  const status = Number(statusLine.exec(first)?.[1] ?? Number.NaN);
  if (Number.isNaN(status)) return unusual('the status line');
  if (status < 200 || status === 204 || status === 304 || status > 599) {
    return unusual(`status ${status}`);
  }
  if (lines.length > fieldsMax) return unusual('too many fields');
  const headers = parseFields(lines);
  if (headers === undefined) return unusual('a malformed field');
  return framed(status, headers, end + 4, kind);
}

function unusual(why: string): ParsedHead {
  return { is: 'unusual', why };
}

function parseFields(lines: readonly string[]): Record<string, string | string[]> | undefined {
  const headers: Record<string, string | string[]> = Object.create(null) as Record<string, string>;
  for (const line of lines) {
    const match = fieldLine.exec(line);
    if (match === null) return undefined;
    const name = (match[1] ?? '').toLowerCase();
    const value = withoutOptionalWhitespace(match[2] ?? '');
    const before = headers[name];
    if (before === undefined) headers[name] = value;
    else headers[name] = Array.isArray(before) ? [...before, value] : [before, value];
  }
  return headers;
}

function framed(
  status: number,
  headers: HeaderFields,
  headBytes: number,
  kind: BodyKind,
): ParsedHead {
  const bodyBytes = kind === 'bodiless' ? 0 : bodyLength(headers, kind === 'chunked');
  if (bodyBytes === undefined)
    return unusual('neither a Content-Length alone nor chunks that are allowed');
  const connection = [headers['connection'] ?? ''].flat().join(',').toLowerCase();
  const keepAlive = !connection.split(',').some((token) => token.trim() === 'close');
  return { is: 'head', status, headers, headBytes, bodyBytes, keepAlive, idleMaxMs: hint(headers) };
}

/** Undefined: not beyond doubt. */
function bodyLength(headers: HeaderFields, mayBeChunked: boolean): number | undefined {
  const coding = headers['transfer-encoding'];
  const length = headers['content-length'];
  if (coding !== undefined) {
    const isChunked = typeof coding === 'string' && coding.toLowerCase() === 'chunked';
    return mayBeChunked && isChunked && length === undefined ? Infinity : undefined;
  }
  return typeof length === 'string' && /^\d{1,15}$/.test(length) ? Number(length) : undefined;
}

/** RFC 9112 leaves the field to tradition (RFC 2068, section 19.7.1); Apache and Node send it. */
function hint(headers: HeaderFields): number | undefined {
  const text = [headers['keep-alive'] ?? ''].flat().join(',');
  const seconds = /(?:^|[,;])\s*timeout\s*=\s*(\d{1,6})\s*(?:[,;]|$)/i.exec(text)?.[1];
  return seconds === undefined ? undefined : Number(seconds) * 1_000;
}
