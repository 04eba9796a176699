/**
 * What frames a body that comes in chunks (RFC 9112, section 7.1), parsed strictly. Pure. Chunk extensions and trailer
 * fields are passed over, as the RFC wants it; a line end is CRLF and nothing else.
 */

/** Length of one line of framing: a size with its extensions, or a trailer field. */
const lineBytesMax = 8 * 1024;
const trailerLinesMax = 128;
/** Below 2^52; leading zeros are of no account (some servers fill up to eight digits). */
const sizeLine = /^0*([0-9A-Fa-f]{1,13})[\t\u0020]*(?:;[\t\u0020-\u007e\u0080-\u00ff]*)?$/;
const carriageReturn = 0x0d;
const lineFeed = 0x0a;

export class FramingError extends Error {
  override readonly name = 'FramingError';
}

export class ChunkFraming {
  /** Bytes of the body that come next. */
  #dataBytes = 0;
  #state: 'size' | 'data' | 'dataEnd' | 'trailer' | 'done' = 'size';
  /** The beginning of a line that came in pieces. */
  #line = '';
  #trailerLines = 0;

  /** So many of the next bytes belong to the body; 0: framing comes next, or nothing. */
  get dataBytes(): number {
    return this.#dataBytes;
  }

  /** The last chunk and the trailer have come. */
  get isDone(): boolean {
    return this.#state === 'done';
  }

  /** The receiver has taken so many of the next bytes. `countBytes` <= `dataBytes`. */
  took(countBytes: number): void {
    this.#dataBytes -= countBytes;
    if (this.#dataBytes === 0) this.#state = 'dataEnd';
  }

  /** Passes over framing at the beginning of `bytes`; returns how many they are. Throws FramingError. */
  skip(bytes: Uint8Array): number {
    let at = 0;
    while (at < bytes.length && this.#dataBytes === 0 && this.#state !== 'done') {
      const end = bytes.indexOf(lineFeed, at);
      const stop = end < 0 ? bytes.length : end + 1;
      this.#line += Buffer.from(bytes.buffer, bytes.byteOffset + at, stop - at).toString('latin1');
      if (this.#line.length > lineBytesMax) throw new FramingError('a line of framing is too long');
      at = stop;
      if (end < 0) break;
      const line = this.#line;
      this.#line = '';
      if (line.charCodeAt(line.length - 2) !== carriageReturn) {
        throw new FramingError('a line of framing does not end with CRLF');
      }
      this.#takeLine(line.slice(0, -2));
    }
    return at;
  }

  /** Passes over framing and body alike; gives what is behind the end. Throws FramingError. */
  passOver(bytes: Uint8Array): Uint8Array {
    let rest = bytes;
    while (rest.length > 0 && !this.isDone) {
      rest = rest.subarray(this.skip(rest));
      const countBytes = Math.min(rest.length, this.#dataBytes);
      if (countBytes === 0) continue;
      this.took(countBytes);
      rest = rest.subarray(countBytes);
    }
    return rest;
  }

  #takeLine(line: string): void {
    if (this.#state === 'dataEnd') {
      if (line !== '') throw new FramingError('a chunk is longer than it said');
      this.#state = 'size';
    } else if (this.#state === 'size') {
      const digits = sizeLine.exec(line)?.[1];
      if (digits === undefined) throw new FramingError('no size of a chunk');
      this.#dataBytes = Number.parseInt(digits, 16);
      this.#state = this.#dataBytes === 0 ? 'trailer' : 'data';
    } else if (line === '') this.#state = 'done';
    else {
      this.#trailerLines += 1;
      if (this.#trailerLines > trailerLinesMax) throw new FramingError('too many trailer fields');
    }
  }
}
