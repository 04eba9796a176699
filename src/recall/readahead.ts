/**
 * Who reads in sequence, and how far to read ahead for them. Pure: bytes in, a range out.
 *
 * One `ReadStream` per open file. The engine sees misses (hits never reach it, except through `advance`), and
 * the kernel's own read-ahead sends several READs of one stream at once, which arrive slightly unordered. So a
 * read continues the stream when it starts near where the stream is, or anywhere inside the window that was
 * read ahead. The window starts small, doubles whenever half of it has been consumed (as Linux does it,
 * mm/readahead.c: page_cache_async_ra), and is gone after a seek: two reads in a row outside of it. One alone is
 * an excursion (an index at the end of the file, a straggler). A random reader never gets a window.
 */

export interface ReadAheadLimits {
  readonly readAheadInitialBytes: number;
  readonly readAheadMaxBytes: number;
}

/** `[fromBytes, toBytes)`, not empty. */
export interface AheadRange {
  readonly fromBytes: number;
  readonly toBytes: number;
}

/** A read at the start of a file with at least this length (the kernel's default window) is a stream at once. */
const streamStartBytes = 64 * 1024;

/** READs of the kernel's own read-ahead that may be under way, and so arrive out of order. */
const reorderedReads = 4;

export class ReadStream {
  readonly #limits: ReadAheadLimits;
  readonly #chunkBytes: number;
  #started = false;
  /** Reads in a row that continued the stream. */
  #hits = 0;
  /** Furthest end of what the reader asked for since the last seek. */
  #positionBytes = 0;
  #windowBytes = 0;
  /** End of what was read ahead; never less than the position while there is a window. */
  #aheadEndBytes = 0;
  /** Where one read outside of the window ended; a second one in a row is a seek. */
  #excursionEndBytes: number | undefined;

  constructor(limits: ReadAheadLimits, chunkBytes: number) {
    this.#limits = limits;
    this.#chunkBytes = chunkBytes;
  }

  /** 0 while the reader is not known to read in sequence. */
  get windowBytes(): number {
    return this.#windowBytes;
  }

  /**
   * The reader asks for `[offsetBytes, offsetBytes + lengthBytes)`. Returns what to read ahead now, within the
   * file, or undefined. `seeked` tells whether the reader left its window for good.
   */
  observe(
    offsetBytes: number,
    lengthBytes: number,
    sizeBytes: number,
  ): { readonly ahead: AheadRange | undefined; readonly seeked: boolean } {
    const endBytes = offsetBytes + lengthBytes;
    const hitsNeeded = lengthBytes >= streamStartBytes ? 1 : 2;
    if (this.#started && this.#continues(offsetBytes, lengthBytes)) {
      this.#excursionEndBytes = undefined;
      if (endBytes > this.#positionBytes) {
        this.#positionBytes = endBytes;
        this.#hits += 1;
      }
      return { ahead: this.#refill(hitsNeeded, sizeBytes), seeked: false };
    }
    if (this.#windowBytes === 0) {
      this.#restart(endBytes, offsetBytes === 0 ? 1 : 0);
      return { ahead: this.#refill(hitsNeeded, sizeBytes), seeked: false };
    }
    if (this.#excursionEndBytes === undefined) {
      this.#excursionEndBytes = endBytes;
      return { ahead: undefined, seeked: false };
    }
    this.#restart(this.#excursionEndBytes, 0);
    return { ...this.observe(offsetBytes, lengthBytes, sizeBytes), seeked: true };
  }

  /** Only so much of the last `ahead` could be planned: the rest is asked for again at the next read. */
  plannedTo(endBytes: number): void {
    this.#aheadEndBytes = Math.max(this.#positionBytes, endBytes);
  }

  /** There was no room for what begins there: less is read ahead, and from there, so that it stays in one piece. */
  forgone(offsetBytes: number): void {
    this.#windowBytes = Math.min(this.#windowBytes, this.#limits.readAheadInitialBytes);
    this.plannedTo(Math.min(this.#aheadEndBytes, offsetBytes));
  }

  #restart(positionBytes: number, hits: number): void {
    this.#started = true;
    this.#hits = hits;
    this.#positionBytes = positionBytes;
    this.#windowBytes = 0;
    this.#aheadEndBytes = 0;
    this.#excursionEndBytes = undefined;
  }

  #continues(offsetBytes: number, lengthBytes: number): boolean {
    const slackBytes = Math.max(this.#chunkBytes, reorderedReads * lengthBytes);
    const furthestBytes = Math.max(this.#positionBytes, this.#aheadEndBytes);
    return (
      offsetBytes + lengthBytes + slackBytes >= this.#positionBytes &&
      offsetBytes <= furthestBytes + slackBytes
    );
  }

  #refill(hitsNeeded: number, sizeBytes: number): AheadRange | undefined {
    const { readAheadInitialBytes, readAheadMaxBytes } = this.#limits;
    if (this.#hits < hitsNeeded || readAheadMaxBytes <= 0) return undefined;
    const fromBytes = Math.max(this.#aheadEndBytes, this.#positionBytes);
    if (fromBytes - this.#positionBytes > this.#windowBytes / 2) return undefined;
    const grownBytes = this.#windowBytes === 0 ? readAheadInitialBytes : this.#windowBytes * 2;
    this.#windowBytes = Math.min(readAheadMaxBytes, grownBytes);
    const toBytes = Math.min(sizeBytes, this.#positionBytes + this.#windowBytes);
    if (toBytes <= fromBytes) return undefined;
    this.#aheadEndBytes = toBytes;
    return { fromBytes, toBytes };
  }
}
