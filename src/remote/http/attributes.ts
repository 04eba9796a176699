/**
 * What the header fields of an answer say about an object: exact size, modification time, version, range.
 * Pure. Sources: RFC 9110 sections 5.6.7 (dates), 8.6 (Content-Length), 8.8 (validators), 14.4 (Content-Range).
 */
import { ebbError } from '../../base/errors.ts';
import type { ObjectAttributes, Timestamp } from '../remote.ts';

/** Lower-case field names; a field that came more than once is an array. */
export type HeaderFields = Readonly<Record<string, string | readonly string[] | undefined>>;

/** The value of a field that must come at most once; undefined when it is missing or came more than once. */
export function field(headers: HeaderFields, name: string): string | undefined {
  const value = headers[name];
  return typeof value === 'string' ? withoutOptionalWhitespace(value) : undefined;
}

/** RFC 9110 section 5.6.3: spaces and tabs. `trim` would take U+00A0, a byte that belongs to the value, too. */
export function withoutOptionalWhitespace(value: string): string {
  let start = 0;
  let end = value.length;
  while (start < end && isSpaceOrTab(value.charCodeAt(start))) start += 1;
  while (end > start && isSpaceOrTab(value.charCodeAt(end - 1))) end -= 1;
  return value.slice(start, end);
}

/** The members of a field that is a list, in lower case, over all its lines (RFC 9110, section 5.3). */
export function listField(headers: HeaderFields, name: string): string[] {
  const lines = [headers[name] ?? []].flat();
  return lines
    .flatMap((line) => line.split(','))
    .map((member) => withoutOptionalWhitespace(member).toLowerCase());
}

function isSpaceOrTab(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

/** A decimal length. Undefined when it is none; EOVERFLOW when a Number cannot hold it exactly. */
export function parseLength(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,40}$/.test(text)) return undefined;
  const value = Number(text);
  if (!Number.isSafeInteger(value)) {
    throw ebbError('EOVERFLOW', `The server names a size of ${text} bytes; the limit is 2^53 - 1.`);
  }
  return value;
}

export interface ContentRange {
  readonly firstByte: number;
  readonly lastByte: number;
  /** Undefined: `*`, the server does not know. */
  readonly totalBytes: number | undefined;
}

/** `bytes 0-99/1000`. Undefined when it is malformed or contradicts itself. */
export function parseContentRange(text: string | undefined): ContentRange | undefined {
  const match = /^bytes[ \t]+(\d{1,40})-(\d{1,40})\/(\d{1,40}|\*)$/i.exec(text ?? '');
  if (match === null) return undefined;
  const firstByte = parseLength(match[1]);
  const lastByte = parseLength(match[2]);
  const totalBytes = match[3] === '*' ? undefined : parseLength(match[3]);
  if (firstByte === undefined || lastByte === undefined || lastByte < firstByte) return undefined;
  if (totalBytes !== undefined && lastByte >= totalBytes) return undefined;
  return { firstByte, lastByte, totalBytes };
}

export const monthNames = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');
const imfDate =
  /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (\d{2}) ([A-Z][a-z]{2}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT$/;

/** IMF-fixdate, the one form that servers may generate. Undefined for everything else. */
export function parseHttpDate(text: string | undefined): Timestamp | undefined {
  const match = imfDate.exec(text ?? '');
  if (match === null) return undefined;
  const [, day = '', month = '', year = '', hour = '', minute = '', second = ''] = match;
  return timestampOf([year, month, day, hour, minute, second]);
}

/** Seconds since 1970 of a UTC date; `[year, month name, day, hour, minute, second]`; undefined when impossible. */
export function timestampOf(parts: readonly [string, string, ...string[]]): Timestamp | undefined {
  const [year, monthName, ...rest] = parts;
  const month = monthNames.indexOf(monthName);
  const [day = 0, hour = 0, minute = 0, second = 0] = rest.map(Number);
  if (month < 0 || hour > 23 || minute > 59 || second > 60) return undefined;
  // Not Date.UTC: it takes the first hundred years for those of the twentieth century.
  const date = new Date(0);
  date.setUTCFullYear(Number(year), month, day);
  if (date.getUTCDate() !== day) return undefined;
  const seconds = date.getTime() / 1000 + (hour * 60 + minute) * 60 + second;
  return { seconds, nanoseconds: 0 };
}

export interface EntityTag {
  readonly weak: boolean;
  /** As sent, with quotes and `W/`. */
  readonly text: string;
}

/** An entity tag. Undefined when it is missing or malformed. */
export function parseEntityTag(text: string | undefined): EntityTag | undefined {
  if (text === undefined || !/^(?:W\/)?"[\u0021\u0023-\u007e\u0080-\uffff]*"$/.test(text)) {
    return undefined;
  }
  return { weak: text.startsWith('W/'), text };
}

const strongPrefix = 'etag:';

interface Facts {
  readonly tag: EntityTag | undefined;
  readonly sizeBytes: number | undefined;
  readonly mtime: Timestamp | undefined;
}

/**
 * The version string, in order of trust: strong entity tag; weak tag with size and date; date with size. Undefined when
 * the answer shows neither tag nor date: a size alone would fit any other content of that length, and pieces that are
 * asked for one by one could come of two contents.
 */
export function versionOf(facts: Facts): string | undefined {
  const { tag, sizeBytes, mtime } = facts;
  if (tag !== undefined && !tag.weak) return strongPrefix + tag.text;
  if (tag === undefined && mtime === undefined) return undefined;
  const parts: string[] = [];
  if (tag !== undefined) parts.push(`weak:${tag.text}`);
  if (mtime !== undefined) parts.push(`mtime=${mtime.seconds}`);
  if (sizeBytes !== undefined) parts.push(`size=${sizeBytes}`);
  return parts.join(';');
}

function weakVersionOf(facts: Facts): string | undefined {
  const text = facts.tag?.text ?? '';
  return versionOf({ ...facts, tag: { weak: true, text: `W/${text}` } });
}

/** The strong entity tag inside a version string: usable with If-Match. */
export function strongTagOf(version: string | undefined): string | undefined {
  return version?.startsWith(strongPrefix) === true
    ? version.slice(strongPrefix.length)
    : undefined;
}

/** How an answer's version compares with the one asked for. */
export type VersionMatch = 'same' | 'other' | 'unknown';

/**
 * `same`: equal, or the one asked for was weak and the answer now has the strong form of the same tag with equal date
 * and size (Apache's tags are weak for a second after a change). `unknown`: the answer lacks the evidence that the
 * version asked for rests on (an error page without an entity tag, say), so it proves nothing about the object.
 */
export function matchVersion(
  expected: string,
  headers: HeaderFields,
  sizeBytes: number | undefined,
): VersionMatch {
  const tag = parseEntityTag(field(headers, 'etag'));
  const mtime = parseHttpDate(field(headers, 'last-modified'));
  const facts = { tag, sizeBytes, mtime };
  const actual = versionOf(facts);
  if (actual === expected) return 'same';
  if (actual === undefined) return 'unknown';
  if (expected.startsWith('weak:') && tag !== undefined && !tag.weak) {
    return weakVersionOf(facts) === expected ? 'same' : 'other';
  }
  return evidenceOf(actual) === evidenceOf(expected) ? 'other' : 'unknown';
}

/** Whether what a server says of an object now, by the same rules, confirms that it still is `expected`. */
export function isConfirmedBy(expected: string, attributes: ObjectAttributes): boolean {
  const { version, sizeBytes, mtime } = attributes;
  if (version === expected) return true;
  const text = strongTagOf(version);
  if (text === undefined) return false;
  return weakVersionOf({ tag: { weak: false, text }, sizeBytes, mtime }) === expected;
}

function evidenceOf(version: string): string {
  if (version.startsWith(strongPrefix)) return 'strong tag';
  const weak = version.startsWith('weak:') ? 'weak tag ' : '';
  const date = /(?:^|;)mtime=-?\d+(?:;|$)/.test(version) ? 'date ' : '';
  const size = /(?:^|;)size=\d+$/.test(version) ? 'size' : '';
  return weak + date + size;
}

/** Attributes of a file from the fields of an answer whose complete size is `sizeBytes`. */
export function fileAttributes(
  headers: HeaderFields,
  sizeBytes: number | undefined,
): ObjectAttributes {
  const tag = parseEntityTag(field(headers, 'etag'));
  const mtime = parseHttpDate(field(headers, 'last-modified'));
  const version = versionOf({ tag, sizeBytes, mtime });
  return {
    kind: 'file',
    ...(sizeBytes === undefined ? {} : { sizeBytes }),
    ...(mtime === undefined ? {} : { mtime }),
    ...(version === undefined ? {} : { version }),
  };
}

/**
 * So many seconds after the time of a file its next content may still have that time: whole seconds are cut off, and a
 * kernel's clock for files is a little behind.
 */
const blindSeconds = 2;

/**
 * For so long, in ms, the content may change without its version: a date, and a tag that is made of it and the size,
 * is no strong validator within its second (RFC 9110, section 8.8.2.2). What is sent before may be of another content
 * than what is sent later. By the server's own clock, where it tells the time; 0 when it does not, or has another tag.
 */
export function blindForMs(headers: HeaderFields): number {
  const tag = parseEntityTag(field(headers, 'etag'));
  const changed = parseHttpDate(field(headers, 'last-modified'))?.seconds;
  const sent = parseHttpDate(field(headers, 'date'))?.seconds;
  if (changed === undefined || sent === undefined) return 0;
  if (tag !== undefined && !isMadeOfSeconds(tag, changed)) return 0;
  // What a cache has is as old as it says (RFC 9111, section 5.1), however many digits that has.
  const age = field(headers, 'age') ?? '';
  const seconds = sent + (/^\d+$/.test(age) ? Number(age) : 0) - changed;
  return Math.abs(seconds) < blindSeconds ? (blindSeconds - seconds) * 1000 : 0;
}

/** nginx: seconds and size in hexadecimal; Caddy until 2.7: the same to the base of 36, without a dash. */
function isMadeOfSeconds({ text }: EntityTag, seconds: number): boolean {
  const opaque = text.slice(text.indexOf('"') + 1);
  return opaque.startsWith(`${seconds.toString(16)}-`) || opaque.startsWith(seconds.toString(36));
}

/**
 * Whether the end of the connection is all that ends the body (RFC 9112, section 6.3): a connection that breaks looks
 * the same.
 */
export function endsWithConnection(headers: HeaderFields): boolean {
  const isChunked = headers['transfer-encoding'] !== undefined;
  return !isChunked && parseLength(field(headers, 'content-length')) === undefined;
}

/** Media type without parameters, lower case; `''` when there is none. */
export function mediaType(headers: HeaderFields): string {
  return (field(headers, 'content-type') ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? '';
}

export function isHtml(headers: HeaderFields): boolean {
  const type = mediaType(headers);
  return type === 'text/html' || type === 'application/xhtml+xml';
}

/** Whether a key's name suggests a web page, so that HTML is what one expects there. */
export function isNamedLikeHtml(key: string): boolean {
  return /\.(?:x?html?|xht|shtml|php)$/i.test(key);
}
