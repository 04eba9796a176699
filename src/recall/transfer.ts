/**
 * One request under way: receives bytes from the remote into pooled buffers, writes them to the local file and
 * reports chunks that are there.
 *
 * The hot path (`buffer`, `filled`) is synchronous arithmetic. Writes run beside receiving, one per buffer
 * (1 MiB), or earlier where a chunk is complete that somebody waits for. A chunk is marked and reported only after
 * its write has completed, and only whole chunks are ever written. Bytes that arrived before a failure were
 * verified (contract of Remote.read), so what is complete of them is kept.
 */
import { assert } from '../base/assert.ts';
import { ebbError, toEbbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import type { ObjectAttributes, RangeSink, Remote } from '../remote/remote.ts';
import type { ContentFile } from '../tree/content.ts';
import type { ChunkRun } from '../tree/residency.ts';
import type { BufferPool } from './buffer-pool.ts';

export interface TransferOptions {
  readonly file: ContentFile;
  readonly chunks: ChunkRun;
  /** Read from 0 to the end without a range; chunks that are resident are received but not written. */
  readonly whole: boolean;
  readonly pool: BufferPool;
  readonly buffersMax: number;
  /**
   * Inside the first chunk, of which there is more: what comes before is written before the rest is taken from the
   * remote. Not for `whole`, nor for chunks that are larger than a buffer.
   */
  readonly frontEndBytes: number | undefined;
  /** That is in the local file. */
  readonly onFront: (toBytes: number) => void;
  /** Whether somebody waits for one of these chunks now. */
  readonly isWanted: (firstChunk: number, endChunk: number) => boolean;
  /** These chunks are in the local file and were marked resident. */
  readonly onWritten: (firstChunk: number, chunkCount: number) => void;
  /** Bytes arrived: for progress and the stall guard. */
  readonly onReceived: (countBytes: number) => void;
  /** Asks for space after a write failed for lack of it. Rejects when there is none. */
  readonly makeRoom: (bytes: number) => void | Promise<void>;
}

/** A receive buffer. It goes back to the pool when it is retired and no write uses it. */
interface Slab {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly offsetBytes: number;
  /** Usable length: whole chunks (part of one where chunks are larger), or up to the end of the range. */
  readonly lengthBytes: number;
  filledBytes: number;
  /** Passed to a write. A multiple of the chunk size, the end of the range, or of the front of the first chunk. */
  flushedBytes: number;
  writes: number;
  retired: boolean;
}

export class Transfer implements RangeSink {
  readonly #options: TransferOptions;
  readonly #chunkBytes: number;
  readonly #startBytes: number;
  readonly #endBytes: number;
  readonly #lossesBefore: number;
  readonly #abort = new AbortController();
  #slab: Slab | undefined;
  #slabsHeld = 0;
  #slabReturned: (() => void) | undefined;
  /** Bytes written of chunks that are larger than a buffer. */
  readonly #partBytes: Map<number, number> = new Map();
  #writesPending = 0;
  #writesDone: (() => void) | undefined;
  #positionBytes: number;
  /** Where the front ends, until it has arrived. */
  #frontToCome: number | undefined;
  #isFrontWritten = false;
  #frontDone: (() => void) | undefined;
  #failure: EbbError | undefined;
  #ended = false;
  #stopped = false;

  constructor(options: TransferOptions) {
    this.#options = options;
    this.#chunkBytes = options.file.residency.chunkBytes;
    const { offsetBytes, lengthBytes } = options.file.residency.bytesOf(options.chunks);
    this.#startBytes = offsetBytes;
    this.#endBytes = offsetBytes + lengthBytes;
    this.#positionBytes = offsetBytes;
    this.#frontToCome = options.frontEndBytes;
    this.#lossesBefore = options.file.losses;
  }

  /** Up to where bytes have arrived. */
  get positionBytes(): number {
    return this.#positionBytes;
  }

  /** Bytes are on their way to the local disk; more may not be taken from the remote until they are there. */
  get isWriting(): boolean {
    return this.#writesPending > 0;
  }

  /**
   * Runs to the end. Resolves when every byte is written and reported; rejects with EbbError after the last
   * write that was under way has ended, so that afterwards nothing of this transfer touches the file.
   */
  async run(remote: Remote): Promise<void> {
    const { file, whole } = this.#options;
    try {
      if (!(await this.#nextSlab())) throw this.#failure;
      await remote.read(file.key, this, {
        offsetBytes: this.#startBytes,
        lengthBytes: whole ? undefined : this.#endBytes - this.#startBytes,
        version: file.version,
        signal: this.#abort.signal,
      });
      if (this.#positionBytes !== this.#endBytes) {
        throw ebbError('EIO', `The remote sent less of ${file.key} than it said.`, {
          retryable: true,
        });
      }
    } catch (error) {
      this.#failure ??= toEbbError(error);
    }
    this.#ended = true;
    this.#abandonSlab();
    while (this.#writesPending > 0) {
      await new Promise<void>((resolve) => {
        this.#writesDone = resolve;
      });
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Stops the request; `run` then rejects with `reason`. Chunks already received may still be reported. */
  stop(reason: EbbError): void {
    this.#stopped = true;
    if (this.#ended) return;
    this.#failure ??= reason;
    this.#abort.abort(this.#failure);
    this.#slabReturned?.();
  }

  /** Somebody began to wait: writes the complete chunks that were received but not yet written. */
  flushWanted(): void {
    const slab = this.#slab;
    if (slab === undefined || this.#ended || this.#failure !== undefined) return;
    this.#flushIfWanted(slab);
  }

  head(attributes: ObjectAttributes): void {
    if (this.#failure !== undefined) throw this.#failure;
    const { file } = this.#options;
    if (attributes.version !== file.version) {
      const said = attributes.version ?? 'none';
      throw ebbError(
        'ESTALE',
        `The remote holds another version of ${file.key} (${said}, not ${file.version}).`,
      );
    }
    if (attributes.sizeBytes !== undefined && attributes.sizeBytes !== file.sizeBytes) {
      throw ebbError(
        'ESTALE',
        `The remote now says ${attributes.sizeBytes} bytes for ${file.key}, not ${file.sizeBytes}.`,
      );
    }
  }

  buffer(): Uint8Array {
    const slab = this.#slab;
    if (slab === undefined || this.#ended) {
      // All has arrived, or the transfer is over: what comes now is too much, and `filled` says so.
      return new Uint8Array(1);
    }
    const endBytes = (this.#frontToCome ?? Infinity) - slab.offsetBytes;
    return slab.bytes.subarray(slab.filledBytes, Math.min(slab.lengthBytes, endBytes));
  }

  filled(countBytes: number): void | Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    const slab = this.#slab;
    if (slab === undefined || this.#ended || countBytes > slab.lengthBytes - slab.filledBytes) {
      throw ebbError('EIO', `The remote sent more of ${this.#options.file.key} than it said.`);
    }
    const before = slab.filledBytes;
    slab.filledBytes += countBytes;
    this.#positionBytes += countBytes;
    this.#options.onReceived(countBytes);
    if (this.#positionBytes === this.#frontToCome) return this.#writeFront(slab);
    if (slab.filledBytes === slab.lengthBytes) {
      this.#flush(slab, slab.lengthBytes);
      this.#retire(slab);
      this.#slab = undefined;
      if (this.#positionBytes < this.#endBytes) return this.#continue();
    } else if (this.#wholeChunks(before) !== this.#wholeChunks(slab.filledBytes)) {
      this.#flushIfWanted(slab);
    }
    return undefined;
  }

  /** Settles when it is written or has failed: nothing is taken from the remote meanwhile. */
  #writeFront(slab: Slab): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#frontToCome = undefined;
    this.#frontDone = resolve;
    this.#flush(slab, slab.filledBytes);
    return promise;
  }

  #continue(): void | Promise<void> {
    if (this.#slabsHeld < this.#options.buffersMax) {
      const bytes = this.#options.pool.tryTake();
      if (bytes !== undefined) {
        this.#use(bytes);
        return undefined;
      }
    }
    return this.#nextSlab().then((usable) => {
      if (!usable) throw this.#failure ?? ebbError('EINTR', 'The transfer has ended.');
    });
  }

  /** Waits for a buffer: first for one of our own to be written, then for the pool. False: stopped meanwhile. */
  async #nextSlab(): Promise<boolean> {
    while (this.#slabsHeld >= this.#options.buffersMax && this.#failure === undefined) {
      await new Promise<void>((resolve) => {
        this.#slabReturned = resolve;
      });
    }
    if (this.#failure !== undefined || this.#ended) return false;
    const bytes = await this.#options.pool.take();
    if (this.#failure !== undefined || this.#ended) {
      this.#options.pool.give(bytes);
      return false;
    }
    this.#use(bytes);
    return true;
  }

  #use(bytes: Uint8Array<ArrayBuffer>): void {
    this.#slabsHeld += 1;
    const usableBytes =
      this.#wholeChunks(bytes.length) ||
      Math.min(bytes.length, this.#chunkBytes - (this.#positionBytes % this.#chunkBytes));
    this.#slab = {
      bytes,
      offsetBytes: this.#positionBytes,
      lengthBytes: Math.min(usableBytes, this.#endBytes - this.#positionBytes),
      filledBytes: 0,
      flushedBytes: 0,
      writes: 0,
      retired: false,
    };
  }

  #wholeChunks(bytes: number): number {
    return bytes - (bytes % this.#chunkBytes);
  }

  #flushIfWanted(slab: Slab): void {
    const completeBytes = this.#wholeChunks(slab.filledBytes);
    if (completeBytes <= slab.flushedBytes) return;
    const base = slab.offsetBytes / this.#chunkBytes;
    const first = base + slab.flushedBytes / this.#chunkBytes;
    const end = base + completeBytes / this.#chunkBytes;
    if (this.#options.isWanted(first, end)) this.#flush(slab, completeBytes);
  }

  #flush(slab: Slab, toBytes: number): void {
    const { file, whole } = this.#options;
    const fromBytes = slab.offsetBytes + slab.flushedBytes;
    const endBytes = slab.offsetBytes + toBytes;
    slab.flushedBytes = toBytes;
    if (!whole) {
      this.#startWrite(slab, fromBytes, endBytes);
      return;
    }
    for (const run of file.residency.missing(fromBytes, endBytes - fromBytes)) {
      const { offsetBytes, lengthBytes } = file.residency.bytesOf(run);
      const runFromBytes = Math.max(fromBytes, offsetBytes);
      this.#startWrite(slab, runFromBytes, Math.min(endBytes, offsetBytes + lengthBytes));
    }
  }

  #startWrite(slab: Slab, fromBytes: number, endBytes: number): void {
    const bytes = slab.bytes.subarray(fromBytes - slab.offsetBytes, endBytes - slab.offsetBytes);
    slab.writes += 1;
    this.#writesPending += 1;
    this.#options.file.write(bytes, fromBytes).then(
      () => this.#written(slab, fromBytes, endBytes),
      (error: unknown) => this.#writeAgain(slab, bytes, fromBytes, toEbbError(error)),
    );
  }

  /** A full disk gets one more chance after space was asked for. */
  #writeAgain(slab: Slab, bytes: Uint8Array, offsetBytes: number, error: EbbError): void {
    const full = error.code === 'ENOSPC' || error.code === 'EDQUOT';
    if (!full || this.#failure !== undefined) {
      this.#writeFailed(slab, error);
      return;
    }
    const again = async (): Promise<void> => {
      await this.#options.makeRoom(bytes.length);
      // Somebody else may have brought these bytes meanwhile, and users have changed them.
      if (this.#stopped) throw error;
      await this.#options.file.write(bytes, offsetBytes);
    };
    again().then(
      () => this.#written(slab, offsetBytes, offsetBytes + bytes.length),
      (second: unknown) => this.#writeFailed(slab, toEbbError(second, 'ENOSPC')),
    );
  }

  #written(slab: Slab, fromBytes: number, endBytes: number): void {
    try {
      const first = Math.floor(fromBytes / this.#chunkBytes);
      const end = Math.ceil(endBytes / this.#chunkBytes);
      if (endBytes === this.#options.frontEndBytes) {
        this.#isFrontWritten = true;
        this.#options.onFront(endBytes);
      } else if (this.#completes(first, endBytes - fromBytes)) {
        assert(
          fromBytes !== this.#options.frontEndBytes || this.#isFrontWritten,
          'a chunk is resident when all of it is written',
        );
        this.#options.file.markResident(first, end - first, this.#lossesBefore);
        this.#options.onWritten(first, end - first);
      }
      this.#writeEnded(slab);
    } catch (error) {
      this.#writeFailed(slab, toEbbError(error));
    }
  }

  /** Writes are whole chunks, except in huge files, whose chunks are larger than a buffer. */
  #completes(chunk: number, countBytes: number): boolean {
    if (this.#chunkBytes <= this.#options.pool.bufferBytes) return true;
    const writtenBytes = (this.#partBytes.get(chunk) ?? 0) + countBytes;
    this.#partBytes.set(chunk, writtenBytes);
    const { lengthBytes } = this.#options.file.residency.bytesOf({ first: chunk, count: 1 });
    if (writtenBytes < lengthBytes) return false;
    this.#partBytes.delete(chunk);
    return true;
  }

  #writeFailed(slab: Slab, error: EbbError): void {
    this.#failure ??= error;
    this.#abort.abort(this.#failure);
    this.#writeEnded(slab);
  }

  #writeEnded(slab: Slab): void {
    slab.writes -= 1;
    this.#release(slab);
    this.#writesPending -= 1;
    this.#frontDone?.();
    this.#frontDone = undefined;
    if (this.#writesPending === 0) this.#writesDone?.();
  }

  #retire(slab: Slab): void {
    slab.retired = true;
    this.#release(slab);
  }

  #release(slab: Slab): void {
    if (!slab.retired || slab.writes > 0) return;
    this.#slabsHeld -= 1;
    this.#options.pool.give(slab.bytes);
    this.#slabReturned?.();
  }

  /** The remote may still write into the buffer that it was given last: it must not be used again. */
  #abandonSlab(): void {
    const slab = this.#slab;
    this.#slab = undefined;
    if (slab === undefined) return;
    this.#slabsHeld -= 1;
    this.#options.pool.discard();
  }
}
