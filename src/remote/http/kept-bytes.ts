/** Bytes of a body that wait for their turn, in the order in which they came. */

/** What may come while a receiver makes us wait: far above one read of a socket (64 KiB), two at most. */
export const keptBytesMax = 1024 * 1024;

const nothing = new Uint8Array(0);

export class KeptBytes {
  #pieces: Uint8Array[] = [];
  #sizeBytes = 0;

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** `bytes` stay as they are from now on. */
  add(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#pieces.push(bytes);
    this.#sizeBytes += bytes.length;
  }

  /** All of them, in one piece; none is left. */
  take(): Uint8Array {
    const pieces = this.#pieces;
    this.#pieces = [];
    this.#sizeBytes = 0;
    return pieces.length > 1 ? Buffer.concat(pieces) : (pieces[0] ?? nothing);
  }
}
