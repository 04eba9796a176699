/**
 * An image of which only parts are in the inherited file. A read of anything else asks the broker, which brings it.
 * What the broker has not called here is never read from the file, where it would be zeros.
 */
import { Bitmap } from '../../base/bitmap.ts';
import { Errno, errnoCodeOf } from '../../base/errno.ts';
import { EbbError } from '../../base/errors.ts';
import { checkDeviceRange } from '../../ext4/block-device.ts';
import type { BlockDevice, DeviceRange } from '../../ext4/block-device.ts';
import { askMaxBytes } from '../messages.ts';

/** Where missing parts come from: the broker (broker-link.ts). */
export interface RecallSource {
  /**
   * 0: the range is here. Larger: it is being brought by the recall of this number. Smaller: -errno. With a deadline
   * of 0 ms nothing is brought: -EAGAIN when it is not here.
   */
  ask(offsetBytes: number, lengthBytes: number, deadlineMs: number): number;
  /** A hint. */
  prefetch(ranges: readonly DeviceRange[]): void;
  /** Blocks until a recall has ended: 0 or an errno. */
  wait(recall: number): number;
}

export interface ChunkRange {
  readonly first: number;
  readonly count: number;
}

/**
 * The bytes are on their way: the request that needs them is to be tried again when the recall has ended. Not damage
 * (`isDamage`), so that no part of the reader looks for another copy.
 */
export class NotHereYet extends EbbError {
  readonly recall: number;
  readonly chunks: ChunkRange;

  constructor(recall: number, chunks: ChunkRange) {
    super('EAGAIN', 'This part of the image is on its way.', { retryable: true });
    this.recall = recall;
    this.chunks = chunks;
  }
}

/** What to do about a part that is not here: sleep until it is, throw `NotHereYet`, or throw and bring nothing. */
export type Patience = 'wait' | 'throw' | 'look';

export interface RecalledDeviceOptions {
  readonly sizeBytes: number;
  /** The broker knows what is here in chunks of this size. */
  readonly chunkBytes: number;
  /** How long one request may wait for bytes altogether. */
  readonly deadlineMs: number;
}

export class RecalledDevice implements BlockDevice {
  readonly sizeBytes: number;
  readonly deadlineMs: number;
  patience: Patience = 'wait';
  /** Of performance.now(): when the request under way gives up. Infinity: `deadlineMs` after each question. */
  giveUpAtMs = Infinity;
  /** A recall that has just failed: who needs a part of it hears why instead of asking once more. */
  failure: { readonly chunks: ChunkRange; readonly errno: number } | undefined;
  readonly #file: BlockDevice;
  readonly #source: RecallSource;
  readonly #chunkBytes: number;
  /** What the broker has called here. It never takes that back: it would end the mount. */
  readonly #here: Bitmap;

  /** `file`: the sparse copy. */
  constructor(file: BlockDevice, source: RecallSource, options: RecalledDeviceOptions) {
    this.sizeBytes = options.sizeBytes;
    this.deadlineMs = options.deadlineMs;
    this.#file = file;
    this.#source = source;
    this.#chunkBytes = options.chunkBytes;
    this.#here = new Bitmap(Math.ceil(options.sizeBytes / options.chunkBytes));
  }

  /** Throws `NotHereYet`, or what keeps the bytes away; that may pass (`retryable`). */
  read(offsetBytes: number, into: Uint8Array): void {
    checkDeviceRange(this, offsetBytes, into.byteLength);
    for (let done = 0; done < into.byteLength; done += askMaxBytes) {
      this.#bring(offsetBytes + done, Math.min(askMaxBytes, into.byteLength - done));
    }
    this.#file.read(offsetBytes, into);
  }

  prefetch(ranges: readonly DeviceRange[]): void {
    const missing = ranges.filter((range) => !this.#isHere(this.#chunksOf(range)));
    if (missing.length > 0) this.#source.prefetch(missing);
  }

  /** A recall that was asked for has ended well. */
  arrived({ first, count }: ChunkRange): void {
    this.#here.setRange(first, count);
  }

  /** Does something with another patience. */
  with<Result>(patience: Patience, act: () => Result): Result {
    const before = this.patience;
    this.patience = patience;
    try {
      return act();
    } finally {
      this.patience = before;
    }
  }

  #bring(offsetBytes: number, sizeBytes: number): void {
    const chunks = this.#chunksOf({ offsetBytes, sizeBytes });
    if (this.#isHere(chunks)) return;
    const { failure, patience } = this;
    if (failure !== undefined && overlap(failure.chunks, chunks)) throw unreachable(failure.errno);
    const answer = this.#source.ask(offsetBytes, sizeBytes, this.#deadlineMs());
    // Time was up before the question: only what is here already could have been had.
    const isLate = answer === -Errno.EAGAIN && patience !== 'look';
    if (answer < 0) throw unreachable(isLate ? Errno.EIO : -answer);
    if (answer > 0) {
      if (patience !== 'wait') throw new NotHereYet(answer, chunks);
      const errno = this.#source.wait(answer);
      if (errno !== 0) throw unreachable(errno);
    }
    this.arrived(chunks);
  }

  #deadlineMs(): number {
    if (this.patience === 'look') return 0;
    const leftMs = Math.min(this.deadlineMs, this.giveUpAtMs - performance.now());
    return Math.max(0, Math.ceil(leftMs));
  }

  #isHere({ first, count }: ChunkRange): boolean {
    return this.#here.isRangeSet(first, count);
  }

  /** Clipped to the image: hints may reach beyond it. */
  #chunksOf({ offsetBytes, sizeBytes }: DeviceRange): ChunkRange {
    const first = Math.min(Math.floor(offsetBytes / this.#chunkBytes), this.#here.bitCount);
    const end = Math.min(
      Math.ceil((offsetBytes + sizeBytes) / this.#chunkBytes),
      this.#here.bitCount,
    );
    return { first, count: Math.max(0, end - first) };
  }
}

function overlap(one: ChunkRange, other: ChunkRange): boolean {
  return one.first < other.first + other.count && other.first < one.first + one.count;
}

/** Retryable: an image that cannot be reached is not a damaged one. */
function unreachable(errno: number): EbbError {
  return new EbbError(errnoCodeOf(errno) ?? 'EIO', 'A part of the image cannot be had.', {
    retryable: true,
  });
}
