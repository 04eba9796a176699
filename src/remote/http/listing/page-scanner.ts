/**
 * Reads an HTML page in pieces and reports its links as rows: the link, the text beside it, and the element
 * (`pre`, `table`, `ul`) that holds it. Knows nothing of servers. Memory is bounded: every text is cut.
 */
import { Parser } from 'htmlparser2';

import { resolveLink } from '../url.ts';
import type { ListingBase } from '../url.ts';
import type { Container, Page, Row } from './family.ts';
import { isNext, isPageLink, SentenceFinder } from './further-pages.ts';

const headingCharactersMax = 8192;
const rowCharactersMax = 1024;
const shownCharactersMax = 200;
const containerDepthMax = 64;
/** Of a tag or comment: the parser keeps all of it until it ends. */
const unparsedCharactersMax = 64 * 1024;

/** They do not end a word of a sentence. */
const inlineElements = new Set('b i em strong span small code'.split(' '));
/** Stands in sentences for a link. */
const linkMark = '\0';

const containerElements = new Set(['pre', 'table', 'ul']);
const foreignElements = new Set(
  'form input select textarea iframe frame object embed base'.split(' '),
);

export interface ScannerEvents {
  row(row: Row, container: Container | undefined): void;
  /** `explicit`: the page closed it; otherwise the page ended or was cut. */
  containerEnd(container: Container, explicit: boolean): void;
}

interface OpenRow {
  href: string;
  text: string;
  tail: string;
  datetime: string | undefined;
  container: Container | undefined;
  /** `rel=next`. */
  isNext: boolean;
}

export class PageScanner {
  readonly #parser: Parser;
  readonly #base: ListingBase;
  readonly #events: ScannerEvents;
  readonly #containers: Container[] = [];
  #row: OpenRow | undefined;
  #linkOpen = false;
  #heading: 'title' | 'heading' | undefined;
  #titles: Record<'title' | 'heading', string | undefined> = {
    title: undefined,
    heading: undefined,
  };
  #silent: string | undefined;
  /** Of what stands beside the list. */
  readonly #sentences = new SentenceFinder();
  /** What came between its words since the last one. */
  #gap = '';
  #pageLink: string | undefined;
  /** Of pieces since the parser last had something to tell. */
  #unparsedCharacters = 0;
  /** Forms, inputs, frames, scripts from elsewhere, refreshes, `<base>`: see generic.ts. */
  hasForeignElements = false;
  /** `<html>` was opened and not closed by the page: it was cut off. */
  isUnfinished = false;

  constructor(base: ListingBase, events: ScannerEvents) {
    this.#base = base;
    this.#events = events;
    const heard = (): void => {
      this.#unparsedCharacters = 0;
    };
    this.#parser = new Parser({
      onopentag: (name, attributes) => {
        heard();
        this.#open(name, attributes);
      },
      onclosetag: (name, implied) => {
        heard();
        this.#close(name, implied);
      },
      ontext: (text) => {
        heard();
        this.#text(text);
      },
      oncomment: heard,
      onprocessinginstruction: heard,
    });
  }

  /** False: a tag or a comment has become too long, and nothing more may be written. */
  write(text: string): boolean {
    for (let at = 0; at < text.length; at += unparsedCharactersMax) {
      const piece = text.slice(at, at + unparsedCharactersMax);
      this.#unparsedCharacters += piece.length;
      this.#parser.write(piece);
      if (this.#unparsedCharacters > unparsedCharactersMax) return false;
    }
    return true;
  }

  end(): void {
    this.#parser.end();
    this.#endRow();
  }

  get page(): Page {
    const { title, heading } = this.#titles;
    return { title: (title ?? '').trim(), heading: (heading ?? '').trim() };
  }

  /** What says that there are further pages of the list, as the end of a sentence. */
  get furtherPages(): string | undefined {
    const sentence = this.#sentences.found;
    if (this.#pageLink !== undefined) return `it links to another page (${this.#pageLink})`;
    return sentence === undefined ? undefined : `it says "${sentence}"`;
  }

  #open(name: string, attributes: Record<string, string>): void {
    this.#noteForeign(name, attributes);
    if (name === 'a') this.#gap = linkMark;
    else if (this.#gap === '' && !inlineElements.has(name)) this.#gap = ' ';
    if (name === 'html') this.isUnfinished = true;
    else if (name === 'script' || name === 'style') this.#silent = name;
    else if (name === 'title' && this.#titles.title === undefined) this.#startHeading('title');
    else if ((name === 'h1' || name === 'h2') && this.#titles.heading === undefined) {
      this.#startHeading('heading');
    } else if (containerElements.has(name)) this.#openContainer(name, attributes);
    else if (name === 'tr' || name === 'li') this.#endRow();
    else if (name === 'td' || name === 'th') this.#append('\t');
    else if (name === 'time' && this.#row !== undefined) {
      this.#row.datetime ??= attributes['datetime'];
    } else if (name === 'a' && attributes['href'] !== undefined) {
      this.#openLink(attributes['href'], isNext(attributes['rel']));
    } else if (name === 'link' && isNext(attributes['rel']))
      this.#notePage(attributes['href'] ?? '');
  }

  #openContainer(element: string, attributes: Record<string, string>): void {
    this.#endRow();
    if (this.#containers.length < containerDepthMax) this.#containers.push({ element, attributes });
  }

  #openLink(href: string, isNext: boolean): void {
    const row = this.#row;
    // An icon that is a link, too (IconsAreLinks): the same entry goes on.
    const continues = row !== undefined && row.href === href && row.tail.trim() === '';
    if (!continues) {
      this.#endRow();
      const container = this.#containers.at(-1);
      this.#row = { href, text: '', tail: '', datetime: undefined, container, isNext };
    }
    this.#linkOpen = true;
  }

  #close(name: string, implied: boolean): void {
    if (name === 'html' && !implied) this.isUnfinished = false;
    else if (name === this.#silent) this.#silent = undefined;
    else if (name === 'title' || name === 'h1' || name === 'h2') this.#heading = undefined;
    else if (name === 'a') this.#linkOpen = false;
    else if (name === 'tr' || name === 'li') this.#endRow();
    else if (containerElements.has(name)) this.#closeContainer(name, implied);
  }

  #closeContainer(element: string, implied: boolean): void {
    this.#endRow();
    const index = this.#containers.findLastIndex((container) => container.element === element);
    if (index < 0) return;
    for (const container of this.#containers.splice(index).reverse()) {
      this.#events.containerEnd(container, !implied && container.element === element);
    }
  }

  #startHeading(which: 'title' | 'heading'): void {
    this.#heading = which;
    this.#titles[which] = '';
  }

  #text(text: string): void {
    if (this.#silent !== undefined) return;
    if (this.#heading !== undefined) {
      const soFar = this.#titles[this.#heading] ?? '';
      if (soFar.length < headingCharactersMax) this.#titles[this.#heading] = soFar + text;
    }
    // What stands behind an entry of a list may be anything: a description, say.
    const isBeside = this.#row === undefined || this.#row.container === undefined;
    if (isBeside && !this.#linkOpen && text !== '\n') {
      this.#sentences.add(this.#gap + text);
      this.#gap = '';
    }
    this.#append(text);
  }

  #append(text: string): void {
    const row = this.#row;
    if (row === undefined) return;
    if (!this.#linkOpen) {
      if (row.tail.length < rowCharactersMax) row.tail += text.slice(0, rowCharactersMax);
    } else if (row.text.length < rowCharactersMax) row.text += text.slice(0, rowCharactersMax);
  }

  #endRow(): void {
    const row = this.#row;
    this.#row = undefined;
    this.#linkOpen = false;
    if (row === undefined) return;
    const { href, text, tail, datetime, container } = row;
    const target = resolveLink(href, this.#base);
    const isElsewhere = target.is === 'elsewhere';
    if (!isElsewhere && (row.isNext || isPageLink(href, text, this.#base))) {
      this.#notePage(href);
      return;
    }
    this.#events.row({ href, target, text, tail, datetime }, container);
  }

  #notePage(href: string): void {
    this.#pageLink ??= href.slice(0, shownCharactersMax);
  }

  #noteForeign(name: string, attributes: Record<string, string>): void {
    const remoteScript = name === 'script' && attributes['src'] !== undefined;
    const refresh = name === 'meta' && attributes['http-equiv']?.toLowerCase() === 'refresh';
    if (foreignElements.has(name) || remoteScript || refresh) this.hasForeignElements = true;
  }
}
