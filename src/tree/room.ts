/**
 * Whether the file system of local contents has room for a write. Asking it each time would cost more than the
 * write.
 */
import { ebbError } from '../base/errors.ts';
import { filesystemStatus } from '../sys/statfs.ts';
import type { Place } from './local-io.ts';

/** Between two questions for the room left no more than this is written ... */
const unaskedBytesMax = 4 * 1024 * 1024;
/** ... and no more than this part of it: others write there, too. */
const ampleShare = 64;

export class Room {
  readonly #target: number | string;
  readonly #reservedBytes: number;
  readonly #place: Place;
  /** So much may still be written before the file system is asked again how much room it has. */
  #ampleBytes = 0;

  /** `target`: of the file system, as `filesystemStatus` takes it. `reservedBytes` are left free. */
  constructor(target: number | string, reservedBytes: number, place: Place) {
    this.#target = target;
    this.#reservedBytes = reservedBytes;
    this.#place = place;
  }

  /** Before a write. Throws ENOSPC when it would take what is reserved. */
  require(lengthBytes: number): void {
    this.#ampleBytes -= lengthBytes;
    if (this.#ampleBytes >= 0) return;
    const { availableBytes } = filesystemStatus(this.#target);
    if (availableBytes < lengthBytes + this.#reservedBytes) {
      throw ebbError('ENOSPC', `The file system of the ${this.#place} is full.`);
    }
    this.#ampleBytes = Math.min(
      unaskedBytesMax,
      (availableBytes - this.#reservedBytes) / ampleShare,
    );
  }
}
