/** Bytes of a body that wait for their turn, in the order in which they came. */

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
