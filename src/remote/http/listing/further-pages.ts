/**
 * Signs that a listing shows a part of its directory: then it says nothing of what it does not show, and is refused.
 * Pages are not followed: between two requests names move from one to the other, and nobody would notice. Pure.
 */
import { ebbError } from '../../../base/errors.ts';
import type { EbbError } from '../../../base/errors.ts';
import { resolveLink } from '../url.ts';
import type { ListingBase } from '../url.ts';

/**
 * Caddy reads so many names of a directory and leaves out the others without a word (`defaultDirEntryLimit` of its
 * browse.go; the `file_limit` of newer ones changes it).
 */
export const caddyEntriesMax = 10_000;

/** `why`: how it is known, as the end of a sentence. */
export function partialListing(what: string, why: string): EbbError {
  const message =
    `The listing ${what} shows a part of the directory: ${why}. What it leaves out would look deleted, ` +
    'so it is not used. Have the server list the directory on one page.';
  return ebbError('EIO', message, { retryable: false, answered: true });
}

const linkValue = /<[^>]*>((?:[^",]|"(?:[^"\\]|\\.)*")*)/g;
const linkParameter = /;\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))/g;

/** Whether a field `Link` (RFC 8288) names a next page. */
export function namesNext(link: string | readonly string[] | undefined): boolean {
  return [link ?? []].flat().some((line) =>
    Array.from(line.matchAll(linkValue)).some(([, parameters = '']) => {
      const all = Array.from(parameters.matchAll(linkParameter));
      const rel = all.find(([, name]) => name?.toLowerCase() === 'rel');
      return isNext(rel?.[2] ?? rel?.[3]);
    }),
  );
}

/** Of the relations of a link: `rel` of HTML and of `Link`. */
export function isNext(rel: string | undefined): boolean {
  return rel?.toLowerCase().split(/\s+/).includes('next') ?? false;
}

/** Names without `-`, `_` and brackets, in lower case. These count in pages or names ... */
const counting = new Set(
  'page p pg pn paged pageno pagenum pagenumber pageindex start startat offset skip'.split(' '),
);
/** ... and these tell what comes next. */
const telling = new Set(
  'marker cursor pagetoken continuation continuationtoken startafter nextmarker nexttoken'.split(
    ' ',
  ),
);
const label =
  /^\W*(?:next(?: page)?|older|(?:load |show |view )?more|[2-9]|[1-9]\d{1,5}|[>›»→]+)\W*$/i;

/** Whether a link leads to more of the directory: to itself or to a program in it, with a query that says so. */
export function isPageLink(href: string, text: string, base: ListingBase): boolean {
  if (!href.includes('?')) return false;
  const [reference = '', query = ''] = (href.split('#', 1)[0] ?? '').split(/\?(.*)/s, 2);
  if (query === '') return false;
  const { is } = resolveLink(reference, base);
  if (is !== 'above' && is !== 'child') return false;
  const isCounted = query.split(/[&;]/).map(position);
  if (isCounted.includes('first')) return false;
  return isCounted.includes('later') || (is === 'above' && label.test(text.trim()));
}

/** Where a parameter of a query leads. */
function position(parameter: string): 'first' | 'later' | undefined {
  const [written = '', value = ''] = parameter.split('=', 2);
  const name = written.toLowerCase().replace(/[-_[\]]|%5b|%5d/g, '');
  if (telling.has(name) && value !== '') return 'later';
  if (!counting.has(name) || !/^\d{1,12}$/.test(value)) return undefined;
  const isFirst = Number(value) === 0 || (name.startsWith('p') && Number(value) === 1);
  return isFirst ? 'first' : 'later';
}

const number = String.raw`(\d{1,3}(?:[,.'\u00a0\u202f]\d{3})+|\d{1,12})`;
const of = String.raw`\s*(?:out\s+)?of\s+(?:about\s+|over\s+)?`;
const verb = 'showing|displaying|viewing|listing';
const units =
  'entr(?:y|ies)|items?|files?|objects?|results?|records?|names?|folders?|director(?:y|ies)';
const span = String.raw`${number}\s*(?:-|–|—|…|\.{2,3}|to|through)\s*${number}${of}${number}`;
const sentences: readonly RegExp[] = [
  new RegExp(String.raw`\b(?:${verb}|${units})\b[^\d\0]{0,40}${span}`, 'i'),
  new RegExp(String.raw`\b${span}\s+(?:${units})\b`, 'i'),
  new RegExp(
    String.raw`\b(?:${verb})\s+(?:only\s+)?(?:the\s+)?(?:first\s+)?${number}(?:\s+(?:${units}))?${of}${number}`,
    'i',
  ),
  new RegExp(String.raw`\bpage\s+${number}\s*(?:of|\/)\s*${number}`, 'i'),
];

/** A sentence of that kind in a text (`Showing 1–100 of 240`), undefined when there is none. */
export function tellsOfMore(text: string): string | undefined {
  for (const sentence of sentences) {
    const match = sentence.exec(text);
    const [shown = 0, all = 0] = (match ?? []).slice(1).map(count).slice(-2);
    if (match !== null && all > shown) return match[0].replace(/\s+/g, ' ');
  }
  return undefined;
}

function count(text: string): number {
  return Number(text.replace(/\D/g, ''));
}

/** Text is looked at in pieces of this length, which overlap by more than a sentence has. */
const pieceCharacters = 4096;
const overlapCharacters = 256;

/** Looks for such a sentence in a text that comes bit by bit, in bounded memory. */
export class SentenceFinder {
  #text = '';
  #found: string | undefined;

  add(text: string): void {
    this.#text += text;
    if (this.#text.length > pieceCharacters) this.#look();
  }

  /** In all that came so far. */
  get found(): string | undefined {
    this.#look();
    return this.#found;
  }

  #look(): void {
    this.#found ??= tellsOfMore(this.#text);
    this.#text = this.#text.slice(-overlapCharacters);
  }
}
