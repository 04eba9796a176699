/** Directory pages as nginx's autoindex writes them (ngx_http_autoindex_module), which any lister understands. Pure. */

export interface ListingEntry {
  readonly name: string;
  readonly isDirectory: boolean;
  readonly sizeBytes: number;
  readonly mtimeMs: number;
}

const nameColumns = 50;
const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** The HTML of one directory; `urlPath` begins and ends with a slash. Directories first, then by name. */
export function renderListing(urlPath: string, entries: readonly ListingEntry[]): string {
  const sorted = [...entries].sort((a, b) => {
    if (a.isDirectory !== b.isDirectory) return a.isDirectory ? -1 : 1;
    return a.name < b.name ? -1 : 1;
  });
  const title = `Index of ${escapeHtml(urlPath)}`;
  return [
    `<html>\r\n<head><title>${title}</title></head>\r\n<body>\r\n<h1>${title}</h1><hr><pre>`,
    `<a href="../">../</a>\r\n`,
    ...sorted.map(renderEntry),
    '</pre><hr></body>\r\n</html>\r\n',
  ].join('');
}

function renderEntry({ name, isDirectory, sizeBytes, mtimeMs }: ListingEntry): string {
  const full = isDirectory ? `${name}/` : name;
  const shown = full.length > nameColumns ? `${full.slice(0, nameColumns - 3)}..>` : full;
  const padding = ' '.repeat(nameColumns + 1 - shown.length);
  const size = (isDirectory ? '-' : String(sizeBytes)).padStart(20);
  const href = `${encodeURIComponent(name)}${isDirectory ? '/' : ''}`;
  return `<a href="${href}">${escapeHtml(shown)}</a>${padding}${formatDate(mtimeMs)}${size}\r\n`;
}

/** `21-Nov-2026 08:15`, in UTC. */
function formatDate(milliseconds: number): string {
  const date = new Date(milliseconds);
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${two(date.getUTCDate())}-${months[date.getUTCMonth()] ?? ''}-${date.getUTCFullYear()}`;
  return `${day} ${two(date.getUTCHours())}:${two(date.getUTCMinutes())}`;
}

function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
