/**
 * What is answered to a request: first the honest answer of a static file server, then what the
 * faults make of it.
 */
import { createHash } from 'node:crypto';
import { lstat, open, readdir, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { formatListing, parseRange } from './http-text.ts';
import type { ByteRange, ListingEntry, RequestHead } from './http-text.ts';
import type { FaultSet } from './rules.ts';

export interface Answer extends AsyncDisposable {
  readonly status: number;
  /** Header lines, without those about the body's length. */
  readonly lines: string[];
  /** Body bytes as announced. */
  readonly sizeBytes: number;
  /** Sent without Content-Length, as chunks. */
  readonly chunked: boolean;
  readonly isFile: boolean;
  /**
   * Body bytes `[offset, offset + length)`; may be asked beyond `sizeBytes` (for bodies that are
   * too long).
   */
  read(offset: number, length: number): Promise<Buffer>;
}

const loginPage = Buffer.from(
  '<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Sign in</h1>' +
    '<form action="/login" method="post"><input name="user"><a href="/forgot">Forgot?</a></form></body></html>\n',
);
const errorPage = Buffer.from(
  '<html><head><title>Oops</title></head><body><h1>Something went wrong</h1>' +
    '<p>Please try again later.</p><a href="/">Home</a></body></html>\n',
);

function fixed(status: number, lines: string[], body: Uint8Array, chunked = false): Answer {
  const bytes = Buffer.from(body);
  return {
    status,
    lines,
    sizeBytes: bytes.length,
    chunked,
    isFile: false,
    read: async (offset, length) => bytes.subarray(offset, offset + length),
    [Symbol.asyncDispose]: async () => {},
  };
}

const htmlType = 'Content-Type: text/html';

export function simpleAnswer(status: number, lines: string[] = [], body?: string): Answer {
  const page = body ?? `<html><body><h1>${status}</h1></body></html>\n`;
  return fixed(status, [htmlType, ...lines], Buffer.from(page));
}

let changingEtags = 0;

/** Faults that replace the answer as a whole; undefined: there is an answer of the file system. */
function substitute(request: RequestHead, faults: FaultSet): Answer | undefined {
  const status = faults.get('status');
  if (status !== undefined) {
    const lines = status.retryAfter === undefined ? [] : [`Retry-After: ${status.retryAfter}`];
    if (status.status === 401) lines.push('WWW-Authenticate: Basic realm="origin"');
    return simpleAnswer(status.status, lines, status.body);
  }
  if (faults.has('headRefused') && request.method === 'HEAD') {
    return simpleAnswer(405, ['Allow: GET']);
  }
  if (faults.has('htmlPage')) return fixed(200, [htmlType], errorPage);
  if (request.target.startsWith('/login')) return fixed(200, [htmlType], loginPage);
  if (faults.has('loginRedirect')) {
    const back = encodeURIComponent(request.target);
    return simpleAnswer(302, [`Location: /login?next=${back}`]);
  }
  if (faults.has('redirectLoop')) {
    const [path, query = 'loop=0'] = request.target.split('?');
    return simpleAnswer(302, [`Location: ${path}?loop=${Number(query.split('=')[1]) + 1}`]);
  }
  return undefined;
}

/**
 * `path` is decoded, with leading slash, without `..`. Dot files are served, but (as by nginx) not
 * listed.
 */
export async function answer(
  root: string,
  path: Buffer,
  request: RequestHead,
  faults: FaultSet,
): Promise<Answer> {
  const instead = substitute(request, faults);
  if (instead !== undefined) return instead;
  const local = Buffer.concat([Buffer.from(root), path]);
  try {
    const stats = await stat(local);
    const wantsDirectory = path.at(-1) === 0x2f;
    if (stats.isDirectory()) {
      if (wantsDirectory) return await listing(local, path, faults);
      return simpleAnswer(301, [`Location: ${request.target}/`]);
    }
    if (!stats.isFile() || wantsDirectory) return simpleAnswer(404);
    return await file(await open(local, 'r'), request, faults);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EACCES') return simpleAnswer(403);
    return simpleAnswer(
      code === 'ENOENT' || code === 'ENOTDIR' || code === 'ENAMETOOLONG' ? 404 : 500,
    );
  }
}

async function listing(local: Buffer, path: Buffer, faults: FaultSet): Promise<Answer> {
  const entries: ListingEntry[] = [];
  for (const name of await readdir(local, { encoding: 'buffer' })) {
    if (name[0] === 0x2e) continue;
    const at = Buffer.concat([local, name]);
    const stats = await stat(at).catch(() => lstat(at));
    entries.push({
      name,
      isDirectory: stats.isDirectory(),
      sizeBytes: stats.size,
      mtimeMs: stats.mtimeMs,
    });
  }
  entries.sort((one, other) => {
    if (one.isDirectory !== other.isDirectory) return one.isDirectory ? -1 : 1;
    return one.name.compare(other.name);
  });
  const shown = faults.has('listingHalf') ? entries.filter((_, index) => index % 2 === 0) : entries;
  let page = formatListing(path.toString(), shown);
  const cut = faults.get('listingCut');
  if (cut?.clean === true) page = page.subarray(0, cut.afterBytes);
  return fixed(200, [htmlType], page, true);
}

interface Validators {
  readonly etag: string | undefined;
  readonly lastModified: string | undefined;
}

function validators(stats: { mtimeMs: number; size: number }, faults: FaultSet): Validators {
  const seconds = Math.floor(stats.mtimeMs / 1000);
  const replaced = faults.get('replaced');
  const shift = replaced !== undefined && replaced.sameValidators !== true ? 7 : 0;
  let etag: string | undefined = `"${(seconds + shift).toString(16)}-${stats.size.toString(16)}"`;
  if (faults.has('changingEtag')) {
    changingEtags += 1;
    etag = `"changing-${changingEtags}"`;
  }
  etag = faults.get('etag')?.value ?? etag;
  if (faults.has('noEtag')) etag = undefined;
  const lastModified = faults.has('noLastModified')
    ? undefined
    : new Date((seconds + shift) * 1000).toUTCString();
  return { etag, lastModified };
}

/**
 * RFC 9110, 13: If-Match and If-Unmodified-Since fail with 412; If-Range decides whether Range
 * counts.
 */
function precondition(request: RequestHead, { etag, lastModified }: Validators): 412 | undefined {
  const ifMatch = request.headers.get('if-match');
  if (ifMatch !== undefined && ifMatch !== '*') {
    const wanted = ifMatch.split(',').map((each) => each.trim());
    return etag === undefined || !wanted.includes(etag) ? 412 : undefined;
  }
  const since = request.headers.get('if-unmodified-since');
  if (since === undefined || lastModified === undefined) return undefined;
  return Date.parse(lastModified) > Date.parse(since) ? 412 : undefined;
}

function rangeCounts(request: RequestHead, { etag, lastModified }: Validators): boolean {
  const ifRange = request.headers.get('if-range');
  return ifRange === undefined || ifRange === etag || ifRange === lastModified;
}

async function file(handle: FileHandle, request: RequestHead, faults: FaultSet): Promise<Answer> {
  const stats = await handle.stat();
  const known = validators(stats, faults);
  const refused = precondition(request, known);
  const ranged = rangeCounts(request, known) && !faults.has('ignoreRange');
  const range = ranged ? parseRange(request.headers.get('range'), stats.size) : undefined;
  if (refused !== undefined || range === 'unsatisfiable') {
    await handle.close();
    if (refused !== undefined) return simpleAnswer(refused);
    return simpleAnswer(416, [`Content-Range: bytes */${stats.size}`]);
  }
  if (faults.has('gzip')) return await zipped(handle, known);
  const lies = request.method === 'HEAD' ? faults.get('headLies') : undefined;
  const etag = lies?.etag ?? known.etag;
  const lastModified = lies?.lastModified ?? known.lastModified;
  const lines = ['Content-Type: application/octet-stream', 'Accept-Ranges: bytes'];
  if (etag !== undefined) lines.push(`ETag: ${etag}`);
  if (lastModified !== undefined) lines.push(`Last-Modified: ${lastModified}`);
  if (faults.has('multipart') && range !== undefined) {
    return await multipart(handle, range, stats.size, lines);
  }
  const sent = range ?? { start: 0, end: stats.size };
  const start = sent.start + (range === undefined ? 0 : (faults.get('shiftRange')?.byBytes ?? 0));
  const contentRange = formatContentRange(start, sent.end - sent.start, stats.size, faults);
  if (range !== undefined && contentRange !== undefined) lines.push(contentRange);
  const bodyStart = start + (range === undefined ? 0 : (faults.get('shiftBody')?.byBytes ?? 0));
  return {
    status: range === undefined ? 200 : 206,
    lines,
    sizeBytes: lies?.sizeBytes ?? sent.end - sent.start,
    chunked: faults.has('chunked'),
    isFile: true,
    read: (offset, length) => readFile(handle, bodyStart, offset, length, faults),
    [Symbol.asyncDispose]: () => handle.close(),
  };
}

function formatContentRange(
  start: number,
  lengthBytes: number,
  sizeBytes: number,
  faults: FaultSet,
): string | undefined {
  if (faults.has('noContentRange')) return undefined;
  const total = faults.has('unknownTotal')
    ? '*'
    : (faults.get('wrongTotal')?.totalBytes ?? sizeBytes);
  return `Content-Range: bytes ${start}-${start + lengthBytes - 1}/${total}`;
}

/** Beyond the end of the file (bodies that are too long, shifted ranges) there are letters `x`. */
async function readFile(
  handle: FileHandle,
  bodyStart: number,
  offset: number,
  length: number,
  faults: FaultSet,
): Promise<Buffer> {
  const bytes = Buffer.alloc(length, 'x');
  await handle.read(bytes, 0, length, Math.max(0, bodyStart + offset));
  const midway = faults.get('replacedMidway')?.afterBytes ?? Infinity;
  const invertFrom = faults.has('replaced') ? 0 : midway - offset;
  for (let index = Math.max(0, invertFrom); index < length; index += 1) {
    bytes[index] = (bytes[index] ?? 0) ^ 0xff;
  }
  return bytes;
}

async function zipped(handle: FileHandle, { etag }: Validators): Promise<Answer> {
  const body = gzipSync(await handle.readFile());
  await handle.close();
  const lines = ['Content-Type: application/octet-stream', 'Content-Encoding: gzip'];
  if (etag !== undefined) lines.push(`ETag: ${etag}`);
  return fixed(200, lines, body);
}

async function multipart(
  handle: FileHandle,
  range: ByteRange,
  sizeBytes: number,
  lines: readonly string[],
): Promise<Answer> {
  const bytes = Buffer.alloc(range.end - range.start);
  await handle.read(bytes, 0, bytes.length, range.start);
  await handle.close();
  const boundary = createHash('sha1').update(bytes).digest('hex');
  const contentRange = `Content-Range: bytes ${range.start}-${range.end - 1}/${sizeBytes}`;
  const body = Buffer.concat([
    Buffer.from(`--${boundary}\r\n${contentRange}\r\n\r\n`),
    bytes,
    Buffer.from(`\r\n--${boundary}--\r\n`),
  ]);
  const others = lines.filter((line) => !line.startsWith('Content-Type'));
  return fixed(206, [`Content-Type: multipart/byteranges; boundary=${boundary}`, ...others], body);
}
