/**
 * An HTML page as a listing. The first container that a server family recognises is the listing, and it must
 * be closed by the page, otherwise the answer was cut. Without one the generic rules decide at the end.
 */
import { ebbError } from '../../../base/errors.ts';
import type { ListedObject, ListingBatch } from '../../remote.ts';
import type { ListingBase } from '../url.ts';
import { apache } from './apache.ts';
import { caddy } from './caddy.ts';
import { EntrySet } from './entry-set.ts';
import type { Container, ListingFamily, Row, RowFacts } from './family.ts';
import { partialListing } from './further-pages.ts';
import { isGenericListing } from './generic.ts';
import { lighttpd } from './lighttpd.ts';
import { nginx } from './nginx.ts';
import { PageScanner } from './page-scanner.ts';
import { python } from './python.ts';

const families: readonly ListingFamily[] = [nginx, lighttpd, caddy, python, apache];

/** A page in which no known listing began within this much text is taken for a web page. */
const undecidedCharactersMax = 16 * 1024 * 1024;

const emptyBatch: ListingBatch = Object.freeze({ objects: [], skipped: [] });

export class HtmlListing {
  readonly #scanner: PageScanner;
  readonly #what: string;
  #entries = new EntrySet();
  #family: ListingFamily | undefined;
  #container: Container | undefined;
  #containerClosed = false;
  /** Containers that no family recognised at their first row. */
  readonly #declined = new WeakSet<Container>();
  /** Entries of the whole page, should it turn out to be a generic listing. */
  #candidates = new EntrySet();
  #strayLinks = 0;
  #listingLinks = 0;
  #characters = 0;

  /** `what` is the page's URL for messages. */
  constructor(base: ListingBase, what: string) {
    this.#what = what;
    this.#scanner = new PageScanner(base, {
      row: (row, container) => this.#row(row, container),
      containerEnd: (container, explicit) => this.#containerEnd(container, explicit),
    });
  }

  /** Name of the recognised family, `generic`, or undefined before that is known. */
  get family(): string | undefined {
    return this.#family?.name;
  }

  /** Takes a piece of the page and gives the entries that are certain by now. */
  write(text: string): ListingBatch {
    this.#characters += text.length;
    const isParsed = this.#scanner.write(text);
    if (this.#family !== undefined) {
      if (isParsed) return this.#entries.take();
      const message = `The listing ${this.#what} holds a tag or comment without end.`;
      throw ebbError('EIO', message, { retryable: false });
    }
    if (!isParsed) throw this.#noListing();
    if (this.#characters > undecidedCharactersMax) throw this.#noListing();
    return emptyBatch;
  }

  /** The page is complete. Throws ENOTDIR when it was no listing, EIO when the listing was cut or has further pages. */
  end(): ListingBatch {
    this.#scanner.end();
    if (this.#family !== undefined) {
      if (!this.#containerClosed) throw this.#cutOff();
      this.#requireAll(this.#entries);
      return this.#entries.take();
    }
    const { page, hasForeignElements, isUnfinished } = this.#scanner;
    const links = { strayLinks: this.#strayLinks, listingLinks: this.#listingLinks };
    if (!isGenericListing({ page, hasForeignElements, ...links })) throw this.#noListing();
    if (isUnfinished) throw this.#cutOff();
    this.#requireAll(this.#candidates);
    return this.#candidates.take();
  }

  #row(row: Row, container: Container | undefined): void {
    if (this.#family !== undefined) {
      if (container === this.#container) this.#add(row, this.#entries, this.#family);
      return;
    }
    if (container !== undefined && !this.#declined.has(container)) {
      this.#recognise(container, row);
      if (this.#family !== undefined) {
        this.#add(row, this.#entries, this.#family);
        return;
      }
      this.#declined.add(container);
    }
    if (row.target.is === 'inside') this.#strayLinks += 1;
    else if (row.target.is !== 'elsewhere') this.#listingLinks += 1;
    this.#add(row, this.#candidates, undefined);
  }

  #recognise(container: Container, first: Row | undefined): void {
    const { page } = this.#scanner;
    const family = families.find((one) => one.recognises(page, container, first));
    if (family === undefined) return;
    this.#family = family;
    this.#container = container;
    this.#candidates = new EntrySet();
  }

  #containerEnd(container: Container, explicit: boolean): void {
    if (this.#family === undefined && !this.#declined.has(container)) {
      this.#recognise(container, undefined);
    }
    if (container === this.#container) this.#containerClosed = explicit;
  }

  #add(row: Row, entries: EntrySet, family: ListingFamily | undefined): void {
    const { target } = row;
    if (target.is === 'skipped') entries.skip({ raw: target.raw, why: target.why });
    if (target.is !== 'child') return;
    entries.add(listedObject(target.name, target.directory, family?.facts(row) ?? {}));
  }

  #requireAll(entries: EntrySet): void {
    const { furtherPages } = this.#scanner;
    if (furtherPages !== undefined) throw partialListing(this.#what, furtherPages);
    if (this.#family === caddy) entries.requireCaddyToHaveAll(this.#what);
  }

  #cutOff(): Error {
    const message = `The listing ${this.#what} was cut off: its end is missing.`;
    return ebbError('EIO', message, { retryable: true, answered: true });
  }

  #noListing(): Error {
    const { title } = this.#scanner.page;
    const page = title === '' ? 'a web page' : `a web page ("${title.slice(0, 80)}")`;
    const message =
      `${this.#what} is not a directory listing: the server sent ${page}. It may have an index ` +
      'page there, want a login, or not list directories at all.';
    return ebbError('ENOTDIR', message);
  }
}

function listedObject(name: string, directory: boolean, facts: RowFacts): ListedObject {
  if (!directory) return { name, kind: 'file', ...facts };
  const { roundedMtime } = facts;
  return { name, kind: 'directory', ...(roundedMtime === undefined ? {} : { roundedMtime }) };
}
