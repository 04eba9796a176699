/**
 * Which chunks of one content are local: a bitmap in shared memory, so that the front end's thread answers from
 * it without asking.
 *
 * Concurrency: one thread (the owner, the daemon's main thread) marks and clears; others only read. A bit is set
 * after the chunk's bytes are in the local file, so whoever sees the bit may read the bytes. `complete` becomes
 * true only after all bits are, and `isRecorded` only after that is in the durable record (durability.ts).
 */
import { assert } from '../base/assert.ts';
import { Bitmap } from '../base/bitmap.ts';
import { decodeBitmap, encodeBitmap } from './residency-codec.ts';

/** 256 KiB: one chunk is one request to a remote at the least. */
export const chunkBytesDefault = 256 * 1024;
/** Bounds the memory of one bitmap to 512 KiB; huge files get bigger chunks. */
export const chunkCountMax = 4 * 1024 * 1024;

/** Chunks `[first, first + count)`. */
export interface ChunkRun {
  readonly first: number;
  readonly count: number;
}

/** Doubles as often as needed to stay within `chunkCountMax`. 0 <= sizeBytes <= 2^53-1; result in bytes. */
export function chunkBytesFor(sizeBytes: number, startBytes: number = chunkBytesDefault): number {
  let chunkBytes = startBytes;
  while (Math.ceil(sizeBytes / chunkBytes) > chunkCountMax) chunkBytes *= 2;
  return chunkBytes;
}

/** Shared memory: two doubles (size, chunk size), one counter of resident chunks, `isRecorded`, the bitmap's words. */
const countIndex = 4;
const recordedIndex = 5;
const headerBytes = 24;

export class Residency {
  /** Hand it to another thread and `Residency.attach` it there. */
  readonly buffer: SharedArrayBuffer;
  readonly sizeBytes: number;
  readonly chunkBytes: number;
  /** 0 for an empty file, which is always complete. */
  readonly chunkCount: number;
  readonly #bitmap: Bitmap;
  readonly #counter: Int32Array;
  readonly #recorded: Int32Array;

  private constructor(buffer: SharedArrayBuffer) {
    const sizes = new Float64Array(buffer, 0, 2);
    this.buffer = buffer;
    this.sizeBytes = sizes[0] ?? 0;
    this.chunkBytes = sizes[1] ?? 0;
    this.chunkCount = Math.ceil(this.sizeBytes / this.chunkBytes);
    this.#counter = new Int32Array(buffer, countIndex * 4, 1);
    this.#recorded = new Int32Array(buffer, recordedIndex * 4, 1);
    this.#bitmap = new Bitmap(this.chunkCount, new Int32Array(buffer, headerBytes));
  }

  /** Nothing resident. 0 <= sizeBytes <= 2^53-1; chunkBytes at least `chunkBytesFor(sizeBytes)` in count. */
  static create(sizeBytes: number, chunkBytes: number = chunkBytesFor(sizeBytes)): Residency {
    assert(Number.isSafeInteger(sizeBytes) && sizeBytes >= 0, `${sizeBytes} is not a file size`);
    assert(Number.isSafeInteger(chunkBytes) && chunkBytes > 0, `${chunkBytes} is not a chunk size`);
    const chunkCount = Math.ceil(sizeBytes / chunkBytes);
    assert(chunkCount <= chunkCountMax, `${chunkCount} chunks are too many for one bitmap`);
    const buffer = new SharedArrayBuffer(headerBytes + Bitmap.wordCount(chunkCount) * 4);
    new Float64Array(buffer, 0, 2).set([sizeBytes, chunkBytes]);
    return new Residency(buffer);
  }

  /** The same residency in another thread. */
  static attach(buffer: SharedArrayBuffer): Residency {
    return new Residency(buffer);
  }

  /** The inverse of `encode`. Throws EUCLEAN when the bytes are not an encoding for this number of chunks. */
  static decode(bytes: Uint8Array, sizeBytes: number, chunkBytes: number): Residency {
    const residency = Residency.create(sizeBytes, chunkBytes);
    for (const run of decodeBitmap(bytes, residency.chunkCount)) {
      residency.markResident(run.first, run.count);
    }
    return residency;
  }

  /** What the catalog keeps; at most one bit per chunk plus 7 bytes. */
  encode(): Uint8Array {
    return encodeBitmap(this.runs(), this.chunkCount);
  }

  get complete(): boolean {
    return Atomics.load(this.#counter, 0) === this.chunkCount;
  }

  /** All is here, and will still be after a crash: nobody needs to ask about this file any more. */
  get isRecorded(): boolean {
    return this.chunkCount === 0 || Atomics.load(this.#recorded, 0) === 1;
  }

  /** Owner only: the durable record says that all is here. Holds until something of it is taken back. */
  noteRecorded(): void {
    if (this.complete) Atomics.store(this.#recorded, 0, 1);
  }

  get residentChunks(): number {
    return Atomics.load(this.#counter, 0);
  }

  /** Exact: the last chunk counts with the bytes it has. */
  get residentBytes(): number {
    const chunks = this.residentChunks;
    if (chunks === 0) return 0;
    if (chunks === this.chunkCount) return this.sizeBytes;
    const last = this.chunkCount - 1;
    const lastMissing = this.#bitmap.get(last)
      ? this.chunkCount * this.chunkBytes - this.sizeBytes
      : 0;
    return chunks * this.chunkBytes - lastMissing;
  }

  /** Whether all bytes of the range are resident; what lies behind the end of the file counts as here. */
  has(offsetBytes: number, lengthBytes: number): boolean {
    const { first, count } = this.chunksOf(offsetBytes, lengthBytes);
    return this.#bitmap.isRangeSet(first, count);
  }

  hasChunk(chunk: number): boolean {
    return this.#bitmap.get(chunk);
  }

  /** Owner only: the bytes of these chunks are in the local file. Returns how many were not marked before. */
  markResident(firstChunk: number, chunkCount: number): number {
    const added = this.#bitmap.setRange(firstChunk, chunkCount);
    Atomics.add(this.#counter, 0, added);
    return added;
  }

  /** Owner only: takes the claim for these chunks back. */
  unmark(firstChunk: number, chunkCount: number): void {
    Atomics.store(this.#recorded, 0, 0);
    Atomics.sub(this.#counter, 0, this.#bitmap.countSet(firstChunk, chunkCount));
    this.#bitmap.clearRange(firstChunk, chunkCount);
  }

  /** Owner only: nothing is resident any more. */
  clear(): void {
    this.unmark(0, this.chunkCount);
  }

  /** The chunks that hold the range, clamped to the file; count 0 for an empty range. */
  chunksOf(offsetBytes: number, lengthBytes: number): ChunkRun {
    assert(offsetBytes >= 0 && lengthBytes >= 0, 'a range starts and ends inside the file');
    const end = Math.min(offsetBytes + lengthBytes, this.sizeBytes);
    if (end <= offsetBytes) return { first: 0, count: 0 };
    const first = Math.floor(offsetBytes / this.chunkBytes);
    return { first, count: Math.ceil(end / this.chunkBytes) - first };
  }

  /** Byte range of a run of chunks; the last chunk ends where the file ends. */
  bytesOf(run: ChunkRun): { offsetBytes: number; lengthBytes: number } {
    const offsetBytes = run.first * this.chunkBytes;
    const end = Math.min((run.first + run.count) * this.chunkBytes, this.sizeBytes);
    return { offsetBytes, lengthBytes: Math.max(end - offsetBytes, 0) };
  }

  /** The chunks of the range that are not resident, as maximal runs in ascending order. */
  missing(offsetBytes: number, lengthBytes: number): ChunkRun[] {
    const { first, count } = this.chunksOf(offsetBytes, lengthBytes);
    const found: ChunkRun[] = [];
    let from = this.#bitmap.nextClear(first, first + count);
    while (from < first + count) {
      const end = this.#bitmap.nextSet(from, first + count);
      found.push({ first: from, count: end - from });
      from = this.#bitmap.nextClear(end, first + count);
    }
    return found;
  }

  /** The resident chunks, as maximal runs in ascending order. */
  runs(): ChunkRun[] {
    const found: ChunkRun[] = [];
    let from = this.#bitmap.nextSet(0);
    while (from < this.chunkCount) {
      const end = this.#bitmap.nextClear(from);
      found.push({ first: from, count: end - from });
      from = this.#bitmap.nextSet(end);
    }
    return found;
  }
}
