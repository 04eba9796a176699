/** Which part of a file of a remote image is to be on its way while it is read in order. Pure. */

const firstWindowBytes = 512 * 1024;

export interface FileRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export class ReadAhead {
  readonly #windowMaxBytes: number;
  #lastOffset = -1;
  #next = 0;
  #windowBytes = 0;
  #aheadEnd = 0;

  constructor(windowMaxBytes: number) {
    this.#windowMaxBytes = windowMaxBytes;
  }

  /** What to bring because of a read; undefined: nothing. The same read may come again, when it had to wait. */
  reading(offsetBytes: number, lengthBytes: number, fileBytes: number): FileRange | undefined {
    if (offsetBytes === this.#lastOffset) return undefined;
    const isFirst = this.#lastOffset < 0;
    const isNext = offsetBytes === this.#next;
    this.#lastOffset = offsetBytes;
    this.#next = offsetBytes + lengthBytes;
    if (isFirst || !isNext) {
      this.#windowBytes = 0;
      this.#aheadEnd = this.#next;
      return undefined;
    }
    const wanted = Math.max(firstWindowBytes, this.#windowBytes * 2);
    this.#windowBytes = Math.min(this.#windowMaxBytes, wanted);
    const from = Math.max(this.#aheadEnd, this.#next);
    const end = Math.min(this.#next + this.#windowBytes, fileBytes);
    // In halves of a window: a hint for each read would be as many small requests.
    const isWorthIt = end - from >= this.#windowBytes / 2 || (end === fileBytes && end > from);
    if (!isWorthIt) return undefined;
    this.#aheadEnd = end;
    return { offsetBytes: from, lengthBytes: end - from };
  }
}
