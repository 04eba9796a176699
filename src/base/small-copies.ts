/**
 * Copies of few bytes. An ArrayBuffer of its own for each, which is what `slice()` makes, costs an allocation outside
 * of V8's heap, a place in the list of the garbage collector, and a microsecond. So they lie one after the other in
 * larger ones; whoever keeps a copy keeps such a piece.
 */
const pieceBytes = 16 * 1024;
/** Longer ones have their own. */
const smallMaxBytes = 1024;

export class SmallCopies {
  #piece = new Uint8Array(0);
  #used = 0;

  /** Of `bytes[start, end)`; 0 <= start <= end <= bytes.length is the caller's promise. */
  of(bytes: Uint8Array, start = 0, end = bytes.length): Uint8Array {
    const sizeBytes = end - start;
    if (sizeBytes > smallMaxBytes) return bytes.slice(start, end);
    if (this.#used + sizeBytes > this.#piece.length) {
      this.#piece = new Uint8Array(pieceBytes);
      this.#used = 0;
    }
    const copy = this.#piece.subarray(this.#used, this.#used + sizeBytes);
    copy.set(bytes.subarray(start, end));
    this.#used += sizeBytes;
    return copy;
  }
}
