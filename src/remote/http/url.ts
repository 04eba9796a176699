/**
 * Names and URLs. A key becomes a request path by percent-encoding the raw bytes of each name; a link of a
 * listing becomes a name by resolving it against the listing's own URL (RFC 3986, section 5.2) and decoding
 * the one segment that is left. WHATWG URL resolution is not used for links: it turns `\` into `/`, drops
 * tabs and newlines and reads `http:evil` as a relative path, all of which are characters of names here.
 */
import { encodePathParameter } from '../../base/percent.ts';
import { decodeName, encodeName, nameProblem } from '../../base/name.ts';
import { splitKey } from '../key.ts';

/** Where a listing was found, after redirects. */
export interface ListingBase {
  readonly origin: string;
  /** Decoded segments of the directory's path. */
  readonly segments: readonly string[];
}

/** What a link of a listing is to its directory. */
export type LinkTarget =
  | { readonly is: 'child'; readonly name: string; readonly directory: boolean }
  /** A child whose name Linux cannot hold. */
  | { readonly is: 'skipped'; readonly raw: string; readonly why: string }
  /** The directory itself or one above it; with a query: a link that sorts. */
  | { readonly is: 'above'; readonly sorts: boolean }
  /** The same origin, but neither of these. */
  | { readonly is: 'inside' }
  | { readonly is: 'elsewhere' };

const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/;

/** Path of a key below `basePath` (which ends with `/`); directories get their trailing slash. */
export function requestPath(basePath: string, key: string, directory: boolean): string {
  splitKey(key);
  const path = basePath + encodePathParameter(key);
  return directory && key !== '' ? `${path}/` : path;
}

/** Base of links in the document at `url` (absolute, as requested or redirected to). */
export function listingBase(url: string): ListingBase {
  const { origin, pathname } = new URL(url);
  const segments = pathname.split('/').slice(1, -1).map(decodeSegment);
  return { origin, segments };
}

/** Percent-decodes to bytes; a `%` that starts no escape stands for itself, as servers and browsers have it. */
export function decodeSegment(text: string): string {
  if (!text.includes('%')) return text;
  const bytes: number[] = [];
  let rest = 0;
  while (rest < text.length) {
    const percent = text.indexOf('%', rest);
    const end = percent < 0 ? text.length : percent;
    if (end > rest) bytes.push(...encodeName(text.slice(rest, end)));
    if (percent < 0) break;
    const escape = text.slice(percent + 1, percent + 3);
    if (/^[0-9A-Fa-f]{2}$/.test(escape)) {
      bytes.push(Number.parseInt(escape, 16));
      rest = percent + 3;
    } else {
      bytes.push(0x25);
      rest = percent + 1;
    }
  }
  return decodeName(Uint8Array.from(bytes));
}

/** Most links of a listing: one short name in which nothing has a meaning, and for directories a slash. */
const plainLink = /^([A-Za-z0-9_][A-Za-z0-9_.~-]{0,199})(\/?)$/;

/** Classifies one link. Never throws. */
export function resolveLink(href: string, base: ListingBase): LinkTarget {
  // What the rules below make of it, without what they need for others.
  const plain = plainLink.exec(href);
  if (plain !== null) return { is: 'child', name: plain[1] ?? '', directory: plain[2] === '/' };
  const trimmed = href.replace(/^[\t\n\f\r ]+|[\t\n\f\r ]+$/g, '');
  const withoutFragment = trimmed.split('#', 1)[0] ?? '';
  const queryStart = withoutFragment.indexOf('?');
  const reference = queryStart < 0 ? withoutFragment : withoutFragment.slice(0, queryStart);
  const path = pathWithin(reference, base);
  if (path === undefined) return { is: 'elsewhere' };
  const target = classify(path, base);
  if (queryStart < 0) return target;
  return target.is === 'above' ? { is: 'above', sorts: true } : { is: 'inside' };
}

/** The path of a reference without query and fragment, undefined when it leads to another origin. */
function pathWithin(reference: string, base: ListingBase): string | undefined {
  const schemeName = scheme.exec(reference)?.[0];
  const afterScheme = schemeName === undefined ? reference : reference.slice(schemeName.length);
  if (afterScheme.startsWith('//')) {
    const pathStart = afterScheme.indexOf('/', 2);
    const authority = pathStart < 0 ? afterScheme : afterScheme.slice(0, pathStart);
    const ownScheme = `${base.origin.split(':', 1)[0]}:`;
    if (originOf((schemeName ?? ownScheme) + authority) !== base.origin) return undefined;
    return pathStart < 0 ? '/' : afterScheme.slice(pathStart);
  }
  return schemeName === undefined ? reference : undefined;
}

function originOf(text: string): string | undefined {
  return URL.canParse(text) ? new URL(text).origin : undefined;
}

function classify(path: string, base: ListingBase): LinkTarget {
  if (path === '') return { is: 'above', sorts: false };
  const stack = path.startsWith('/') ? [] : [...base.segments];
  const parts = path.split('/');
  if (path.startsWith('/')) parts.shift();
  let directory = false;
  let raw = '';
  parts.forEach((part, index) => {
    const last = index === parts.length - 1;
    const segment = decodeSegment(part);
    directory = segment === '.' || segment === '..' || (part === '' && last);
    if (segment === '..') stack.pop();
    else if (segment !== '.' && !(part === '' && last)) {
      stack.push(segment);
      raw = part;
    }
  });
  const depth = base.segments.length;
  const common = stack.slice(0, depth).every((segment, index) => segment === base.segments[index]);
  if (!common || stack.length > depth + 1) return { is: 'inside' };
  if (stack.length <= depth) return { is: 'above', sorts: false };
  const name = stack[depth] ?? '';
  const why = nameProblem(name);
  if (why !== undefined) return { is: 'skipped', raw: raw.slice(0, rawCharactersMax), why };
  return { is: 'child', name, directory };
}

const rawCharactersMax = 1024;
