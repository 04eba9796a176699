/** Names in directories, first in first out and packed: a listing may change millions of them at a time. */
import { assert } from '../../base/assert.ts';

/** Of all names together, with 9 bytes more each; a million and a half of 12 letters. */
export const queuedNamesMaxBytes = 32 * 1024 * 1024;
const chunkBytes = 64 * 1024;
/** Directory (64-bit float), length of the name. */
const recordHeaderBytes = 9;
const nameMaxBytes = 255;

interface Chunk {
  readonly bytes: Buffer;
  endBytes: number;
}

export interface QueuedName {
  readonly directoryId: number;
  readonly name: Uint8Array;
}

export class NameQueue {
  readonly #maxBytes: number;
  #chunks: Chunk[] = [];
  /** Chunks before this one were taken. */
  #first = 0;
  #atBytes = 0;

  constructor(maxBytes = queuedNamesMaxBytes) {
    this.#maxBytes = maxBytes;
  }

  /** False: there is no room. 0 < bytes of the name < 256. */
  push(directoryId: number, name: Uint8Array): boolean {
    assert(name.length > 0 && name.length <= nameMaxBytes, 'a name has 1 to 255 bytes');
    const needBytes = recordHeaderBytes + name.length;
    let chunk = this.#chunks.at(-1);
    if (chunk === undefined || chunk.endBytes + needBytes > chunkBytes) {
      if ((this.#chunks.length - this.#first + 1) * chunkBytes > this.#maxBytes) return false;
      chunk = { bytes: Buffer.allocUnsafe(chunkBytes), endBytes: 0 };
      this.#chunks.push(chunk);
    }
    const { bytes, endBytes } = chunk;
    bytes.writeDoubleLE(directoryId, endBytes);
    bytes.writeUInt8(name.length, endBytes + 8);
    bytes.set(name, endBytes + recordHeaderBytes);
    chunk.endBytes = endBytes + needBytes;
    return true;
  }

  /** The oldest one; its name is a view that nobody changes. */
  shift(): QueuedName | undefined {
    const chunk = this.#chunks[this.#first];
    if (chunk === undefined) return undefined;
    const { bytes, endBytes } = chunk;
    const recordAt = this.#atBytes;
    const nameAt = recordAt + recordHeaderBytes;
    const nextAt = nameAt + bytes.readUInt8(recordAt + 8);
    this.#atBytes = nextAt;
    if (nextAt === endBytes) this.#drop();
    return { directoryId: bytes.readDoubleLE(recordAt), name: bytes.subarray(nameAt, nextAt) };
  }

  /** Also the last one, when all of it was taken: who pushes begins another. */
  #drop(): void {
    this.#first += 1;
    this.#atBytes = 0;
    if (this.#first * 2 < this.#chunks.length) return;
    this.#chunks = this.#chunks.slice(this.#first);
    this.#first = 0;
  }
}
