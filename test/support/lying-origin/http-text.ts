/**
 * The few pieces of HTTP/1.1 text (RFC 9110, 9112) that the lying origin reads and writes by hand.
 * Pure.
 */

export interface RequestHead {
  readonly method: string;
  /** As it came, percent-encoded, with query. */
  readonly target: string;
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
  readonly keepAlive: boolean;
}

/** Parses a request head without its final empty line; undefined when it is none. */
export function parseRequestHead(text: string): RequestHead | undefined {
  const [first = '', ...lines] = text.split('\r\n');
  const match = /^([A-Z]+) (\S+) HTTP\/1\.([01])$/.exec(first);
  if (match === null) return undefined;
  const headers = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(':');
    if (colon > 0) headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
  }
  const connection = headers.get('connection')?.toLowerCase() ?? '';
  const keepAlive = match[3] === '1' ? connection !== 'close' : connection === 'keep-alive';
  return { method: match[1] ?? '', target: match[2] ?? '', headers, keepAlive };
}

/** Percent-decodes to bytes; undefined when it is malformed. The query is left out. */
export function decodeTarget(target: string): Buffer | undefined {
  const [path = ''] = target.split('?');
  if (/%(?![0-9a-fA-F]{2})/.test(path) || !path.startsWith('/')) return undefined;
  const text = path.replace(/%([0-9a-fA-F]{2})/g, (_match, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 16)),
  );
  return Buffer.from(text, 'latin1');
}

export interface ByteRange {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
}

/** A single range; undefined: none or one that is to be ignored; `unsatisfiable`: 416. */
export function parseRange(
  header: string | undefined,
  sizeBytes: number,
): ByteRange | 'unsatisfiable' | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? '');
  if (match === null || (match[1] === '' && match[2] === '')) return undefined;
  if (match[1] === '') {
    const suffixBytes = Number(match[2]);
    if (suffixBytes === 0) return 'unsatisfiable';
    return { start: Math.max(0, sizeBytes - suffixBytes), end: sizeBytes };
  }
  const start = Number(match[1]);
  const end = match[2] === '' ? sizeBytes : Math.min(sizeBytes, Number(match[2]) + 1);
  if (start >= sizeBytes || end <= start) return 'unsatisfiable';
  return { start, end };
}

const reasons: Readonly<Record<number, string>> = {
  200: 'OK',
  206: 'Partial Content',
  301: 'Moved Permanently',
  302: 'Found',
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  412: 'Precondition Failed',
  416: 'Range Not Satisfiable',
  429: 'Too Many Requests',
  500: 'Internal Server Error',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
};

export function formatHead(status: number, lines: readonly string[]): string {
  return `HTTP/1.1 ${status} ${reasons[status] ?? 'Status'}\r\n${lines.join('\r\n')}\r\n\r\n`;
}

const months = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');

export interface ListingEntry {
  readonly name: Buffer;
  readonly isDirectory: boolean;
  readonly sizeBytes: number;
  readonly mtimeMs: number;
}

const shownNameMax = 50;

/** The page that nginx's autoindex makes (ngx_http_autoindex_module), with exact sizes. */
export function formatListing(path: string, entries: readonly ListingEntry[]): Buffer {
  const title = `Index of ${escapeHtml(path)}`;
  const parts: Buffer[] = [
    Buffer.from(
      `<html>\r\n<head><title>${title}</title></head>\r\n<body>\r\n<h1>${title}</h1><hr><pre><a href="../">../</a>\r\n`,
    ),
  ];
  for (const entry of entries) parts.push(...formatEntry(entry));
  parts.push(Buffer.from('</pre><hr></body>\r\n</html>\r\n'));
  return Buffer.concat(parts);
}

function formatEntry(entry: ListingEntry): Buffer[] {
  const slash = entry.isDirectory ? '/' : '';
  const href = escapeUri(entry.name) + slash;
  const text = `${entry.name.toString()}${slash}`;
  const cut = text.length > shownNameMax;
  const shown = cut ? `${escapeHtml(text.slice(0, shownNameMax - 3))}..&gt;` : escapeHtml(text);
  const padding = ' '.repeat(Math.max(1, shownNameMax + 1 - Math.min(text.length, shownNameMax)));
  const size = entry.isDirectory ? '-' : String(entry.sizeBytes);
  const line = `${padding}${listingDate(entry.mtimeMs)}${size.padStart(20)}\r\n`;
  return [Buffer.from(`<a href="${href}">${shown}</a>${line}`)];
}

function listingDate(mtimeMs: number): string {
  const date = new Date(mtimeMs);
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${two(date.getUTCDate())}-${months[date.getUTCMonth()]}-${date.getUTCFullYear()}`;
  return `${day} ${two(date.getUTCHours())}:${two(date.getUTCMinutes())}`;
}

function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}

/** Everything but unreserved characters, byte by byte. */
export function escapeUri(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) {
    const character = String.fromCharCode(byte);
    text += /[A-Za-z0-9._~-]/.test(character)
      ? character
      : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return text;
}
