/**
 * The web server of `ebb demo`: one directory, read-only, on loopback, with listings, ETag and ranges (RFC 9110).
 * A process of its own, so that it neither slows nor blocks the program that reads the mount:
 *
 *   node server.ts DIRECTORY
 *
 * Prints one JSON object a line: `{ "port" }` first, then one for each request. Ends when its standard input does,
 * that is, when the demo ends in whatever way.
 */
import { createReadStream } from 'node:fs';
import type { Stats } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { http } from '../../base/late-modules.ts';
import { renderListing } from './listing.ts';

/** One request as the demo gets to know it. */
export interface ServedRequest {
  readonly path: string;
  readonly method: string;
  readonly status: number;
  /** Of the file's bytes that were asked for; both undefined for listings. */
  readonly offsetBytes?: number;
  readonly lengthBytes?: number;
}

export interface ByteRange {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
}

const readBlockBytes = 1024 * 1024;

/**
 * The one range of a Range header over `sizeBytes`: the range, undefined when the header does not apply (absent,
 * several ranges, another unit), or 'unsatisfiable' (416). RFC 9110, section 14.
 */
export function parseRange(
  header: string | undefined,
  sizeBytes: number,
): ByteRange | undefined | 'unsatisfiable' {
  const match = /^bytes=([0-9]*)-([0-9]*)$/.exec(header ?? '');
  const [, first = '', last = ''] = match ?? [];
  if (match === null || (first === '' && last === '')) return undefined;
  if (first === '') {
    const suffix = Math.min(Number(last), sizeBytes);
    return suffix === 0 ? 'unsatisfiable' : { start: sizeBytes - suffix, end: sizeBytes };
  }
  const start = Number(first);
  const end = last === '' ? sizeBytes : Math.min(Number(last) + 1, sizeBytes);
  if (last !== '' && Number(last) < start) return undefined;
  return start >= sizeBytes ? 'unsatisfiable' : { start, end };
}

async function serve(
  root: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<ServedRequest> {
  const method = request.method ?? 'GET';
  const urlPath = decodeURIComponent((request.url ?? '/').split('?', 1)[0] ?? '/');
  const file = path.join(root, path.posix.normalize(`/${urlPath}`));
  const plain = (status: number, headers: Record<string, string> = {}): ServedRequest => {
    response.writeHead(status, headers).end();
    return { path: urlPath, method, status };
  };
  if (method !== 'GET' && method !== 'HEAD') return plain(405, { allow: 'GET, HEAD' });
  const found = await stat(file).catch(() => undefined);
  if (found === undefined || (!found.isDirectory() && !found.isFile())) return plain(404);
  if (!found.isDirectory()) return serveFile(file, urlPath, found, request, response);
  if (!urlPath.endsWith('/')) return plain(301, { location: `${encodeURI(urlPath)}/` });
  const html = renderListing(urlPath, await entriesOf(file));
  response.writeHead(200, {
    'content-type': 'text/html; charset=utf-8',
    'content-length': Buffer.byteLength(html),
  });
  response.end(method === 'HEAD' ? undefined : html);
  return { path: urlPath, method, status: 200 };
}

async function entriesOf(directory: string): Promise<Parameters<typeof renderListing>[1]> {
  const entries = await Promise.all(
    (await readdir(directory)).map(async (name) => {
      const found = await stat(path.join(directory, name)).catch(() => undefined);
      if (found === undefined || !(found.isDirectory() || found.isFile())) return [];
      const { size: sizeBytes, mtimeMs } = found;
      return [{ name, isDirectory: found.isDirectory(), sizeBytes, mtimeMs }];
    }),
  );
  return entries.flat();
}

async function serveFile(
  file: string,
  urlPath: string,
  found: Stats,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<ServedRequest> {
  const method = request.method ?? 'GET';
  // The form of Apache: size and modification time in microseconds, which tells two contents of one second apart.
  const etag = `"${found.size.toString(16)}-${Math.floor(found.mtimeMs * 1000).toString(16)}"`;
  const common = {
    etag,
    'last-modified': found.mtime.toUTCString(),
    'accept-ranges': 'bytes',
    'content-type': 'application/octet-stream',
  };
  const end = (status: number, headers: Record<string, string> = {}): ServedRequest => {
    response.writeHead(status, { ...common, ...headers }).end();
    return { path: urlPath, method, status };
  };
  const ifMatch = request.headers['if-match'];
  if (ifMatch !== undefined && ifMatch !== '*' && ifMatch !== etag) return end(412);
  if (request.headers['if-none-match'] === etag) return end(304);
  const ifRange = request.headers['if-range'];
  const applies = ifRange === undefined || ifRange === etag;
  const range = applies ? parseRange(request.headers.range, found.size) : undefined;
  if (range === 'unsatisfiable') return end(416, { 'content-range': `bytes */${found.size}` });
  const { start, end: stop } = range ?? { start: 0, end: found.size };
  const status = range === undefined ? 200 : 206;
  response.writeHead(status, {
    ...common,
    'content-length': stop - start,
    ...(range === undefined ? {} : { 'content-range': `bytes ${start}-${stop - 1}/${found.size}` }),
  });
  if (method === 'HEAD' || stop === start) response.end();
  else await send(file, start, stop, response);
  return { path: urlPath, method, status, offsetBytes: start, lengthBytes: stop - start };
}

async function send(
  file: string,
  start: number,
  end: number,
  response: ServerResponse,
): Promise<void> {
  const source = createReadStream(file, { start, end: end - 1, highWaterMark: readBlockBytes });
  await pipeline(source, response).catch(() => {}); // the client went away
}

function main(root: string): void {
  const say = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`);
  const server = http().createServer((request, response) => {
    serve(root, request, response).then(say, () => response.destroy());
  });
  server.listen(0, '127.0.0.1', () => say({ port: (server.address() as AddressInfo).port }));
  process.stdin.resume().once('close', () => process.exit(0));
}

if (import.meta.main) main(path.resolve(process.argv[2] ?? '.'));
