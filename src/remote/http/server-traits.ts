/** What experience has shown of a server. One object per remote; every answer may change it. */
import { field } from './attributes.ts';
import type { FinalHead } from './http-client.ts';

/** So many different objects without ranges are the server's way; fewer may be what a program makes of some. */
const objectsWithoutRangesMin = 3;
/** Then ranges are tried again: it may be another server by then. */
const withoutRangesMs = 10 * 60 * 1000;

export class ServerTraits {
  /** False: it answered 412 although the version was the one asked for. */
  honoursIfMatch = true;
  /** Objects that came whole although a range was asked for, since the last range that came as one. */
  readonly #whole = new Set<string>();
  #withoutRangesUntilMs = -Infinity;
  readonly #nowMs: () => number;

  /** `nowMs`: of a clock that never goes back. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** False: for some time now, several objects came whole where ranges were asked for. */
  get supportsRanges(): boolean {
    return this.#nowMs() >= this.#withoutRangesUntilMs;
  }

  /** The right version came whole to a ranged request. Other servers' answers (redirects) say nothing. */
  ignoredRange(key: string, { redirected }: FinalHead): void {
    if (redirected) return;
    this.#whole.add(key);
    if (this.#whole.size < objectsWithoutRangesMin) return;
    this.#whole.clear();
    this.#withoutRangesUntilMs = this.#nowMs() + withoutRangesMs;
  }

  /** A range came as one. */
  honouredRange({ redirected }: FinalHead): void {
    if (!redirected) this.#whole.clear();
  }

  /** Notes what the header fields of a believed answer say. */
  learnFrom(key: string, head: FinalHead): void {
    const says = field(head.headers, 'accept-ranges')?.toLowerCase();
    if (says === 'none') this.ignoredRange(key, head);
  }
}
