/**
 * JSON listings: nginx (`autoindex_format json`) and Caddy (asked with `Accept: application/json`). Both send
 * one array of flat objects; it is cut into objects as it arrives, and each is parsed by itself.
 *
 * nginx: `{ name, type: file|directory|other, mtime: IMF-fixdate, size }`. Caddy: `{ name, size, url: "./x",
 * mod_time: RFC 3339, is_dir, is_symlink }`; the URL is the truth for the name, and the size of a symbolic link
 * is the link's own. Times are cut to whole seconds, which is what `Last-Modified` will say of the same file.
 */
import { ebbError } from '../../../base/errors.ts';
import { nameProblem } from '../../../base/name.ts';
import type { ListedObject, ListingBatch, Timestamp } from '../../remote.ts';
import { parseHttpDate } from '../attributes.ts';
import { resolveLink } from '../url.ts';
import type { ListingBase } from '../url.ts';
import { EntrySet } from './entry-set.ts';

/** Names are at most 255 bytes; escaped sixfold, twice, with the rest, an object stays far below this. */
const objectCharactersMax = 64 * 1024;
const caddyNull = 'null';

export class JsonListing {
  readonly #base: ListingBase;
  readonly #what: string;
  readonly #entries = new EntrySet();
  #object = '';
  #depth = 0;
  #inString = false;
  #escaped = false;
  #outside = '';
  #done = false;
  #isCaddy = false;

  /** `what` is the listing's URL for messages. */
  constructor(base: ListingBase, what: string) {
    this.#base = base;
    this.#what = what;
  }

  /** Takes a piece and gives the entries that are complete by now. */
  write(text: string): ListingBatch {
    let start = 0;
    for (let index = 0; index < text.length; index += 1) {
      const character = text.charCodeAt(index);
      if (this.#inString) {
        if (this.#escaped) this.#escaped = false;
        else if (character === 0x5c) this.#escaped = true;
        else if (character === 0x22) this.#inString = false;
      } else if (character === 0x22 && this.#depth > 0) this.#inString = true;
      else if (character === 0x7b) {
        if (this.#depth === 0) start = index;
        this.#depth += 1;
      } else if (character === 0x7d && this.#depth > 0) {
        this.#depth -= 1;
        if (this.#depth === 0) this.#take(this.#object + text.slice(start, index + 1));
      } else if (this.#depth === 0) this.#punctuation(text[index] ?? '');
    }
    if (this.#depth > 0) this.#object += text.slice(start);
    if (this.#object.length > objectCharactersMax) throw this.#noListing();
    return this.#entries.take();
  }

  /** The answer is complete. Throws ENOTDIR when it was no listing, EIO when it was cut, or is a part of one. */
  end(): ListingBatch {
    if (this.#outside === caddyNull) return this.#entries.take();
    if (this.#done) {
      if (this.#isCaddy) this.#entries.requireCaddyToHaveAll(this.#what);
      return this.#entries.take();
    }
    if (!this.#outside.startsWith('[')) throw this.#noListing();
    const message = `The listing ${this.#what} was cut off: its end is missing.`;
    throw ebbError('EIO', message, { retryable: true, answered: true });
  }

  /** What stands between the objects: `[`, commas, `]`, blanks. */
  #punctuation(character: string): void {
    if (/[ \t\r\n]/.test(character)) return;
    if (character === ',' && this.#outside === '[') return;
    if (this.#done || this.#outside.length > caddyNull.length) throw this.#noListing();
    this.#outside += character;
    if (this.#outside === '[]') this.#done = true;
    else if (this.#outside !== '[' && !caddyNull.startsWith(this.#outside)) throw this.#noListing();
  }

  #take(text: string): void {
    this.#object = '';
    if (this.#outside !== '[') throw this.#noListing();
    const value = parseObject(text);
    const { name, type, url, is_dir: isDirectory } = value;
    if (typeof name === 'string' && isNginxType(type)) this.#addNginx(value, name, type);
    else if (typeof url === 'string' && typeof isDirectory === 'boolean')
      this.#addCaddy(value, url);
    else throw this.#noListing();
  }

  #addNginx(value: JsonObject, name: string, kind: ListedObject['kind']): void {
    const why = nameProblem(name);
    if (why !== undefined) {
      this.#entries.skip({ raw: name.slice(0, 1024), why });
      return;
    }
    const mtime = typeof value['mtime'] === 'string' ? parseHttpDate(value['mtime']) : undefined;
    this.#add(name, kind, value['size'], mtime);
  }

  #addCaddy(value: JsonObject, url: string): void {
    this.#isCaddy = true;
    const target = resolveLink(url, this.#base);
    if (target.is === 'skipped') this.#entries.skip({ raw: target.raw, why: target.why });
    if (target.is !== 'child') return;
    const symlink = value['is_symlink'] === true;
    const kind = value['is_dir'] === true ? 'directory' : 'file';
    this.#add(
      target.name,
      kind,
      symlink ? undefined : value['size'],
      symlink ? undefined : parseRfc3339(value['mod_time']),
    );
  }

  #add(
    name: string,
    kind: ListedObject['kind'],
    size: unknown,
    mtime: Timestamp | undefined,
  ): void {
    const exact = kind === 'file' && typeof size === 'number' && Number.isSafeInteger(size);
    this.#entries.add({
      name,
      kind,
      ...(exact && size >= 0 ? { sizeBytes: size } : {}),
      ...(mtime === undefined ? {} : { mtime }),
    });
  }

  #noListing(): Error {
    const message = `${this.#what} is not a directory listing: the server sent other JSON.`;
    return ebbError('ENOTDIR', message);
  }
}

type JsonObject = Readonly<Record<string, unknown>>;

function parseObject(text: string): JsonObject {
  try {
    return JSON.parse(text) as JsonObject;
  } catch {
    return {};
  }
}

function isNginxType(type: unknown): type is 'file' | 'directory' | 'other' {
  return type === 'file' || type === 'directory' || type === 'other';
}

function parseRfc3339(value: unknown): Timestamp | undefined {
  if (typeof value !== 'string') return undefined;
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)$/.test(value))
    return undefined;
  const milliseconds = Date.parse(value);
  if (Number.isNaN(milliseconds)) return undefined;
  return { seconds: Math.floor(milliseconds / 1000), nanoseconds: 0 };
}
