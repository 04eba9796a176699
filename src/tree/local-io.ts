/** What reading and writing local files have in common, whoever keeps them. `place`: what the user knows it as. */
import { systemClock } from '../base/clock.ts';
import type { Clock } from '../base/clock.ts';
import { errnoCodeOf, errnoMessage } from '../base/errno.ts';
import { ebbError, toEbbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import { punchHole } from '../sys/fallocate.ts';
import { writeSmallAt } from '../sys/file-io.ts';
import { pread } from '../sys/io.ts';

export type Place = 'cache' | 'tree';

/** Larger writes go to the pool: this thread must not wait for a disk, and copies of this size take 20 µs. */
const smallWriteBytes = 64 * 1024;
/** The same for the first chunk after a pause, which somebody waits for: nothing of ours is dirty or being synced. */
const firstWriteBytes = 256 * 1024;
/** A write that took longer waited for the disk: the kernel holds up who writes while much is dirty, also of others. */
const slowMs = 50;
/** Then the pool writes for so long. */
const pauseMs = 5_000;

/** Which writes the calling thread does itself: handing a piece to the pool costs two more changes of threads. */
export class WritesAtOnce {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #write: typeof writeSmallAt;
  #pausedUntilMs = -Infinity;

  /** `write`: for tests. */
  constructor(clock: Pick<Clock, 'monotonicMs'> = systemClock, write = writeSmallAt) {
    this.#clock = clock;
    this.#write = write;
  }

  /**
   * Writes, while `uncommittedBytes` wait for their sync or are being synced. False: it is the pool's to write. Throws
   * what the kernel says; then any part may have been written.
   */
  write(fd: number, bytes: Uint8Array, offsetBytes: number, uncommittedBytes: number): boolean {
    const maxBytes = uncommittedBytes > 0 ? smallWriteBytes : firstWriteBytes;
    if (bytes.byteLength > maxBytes) return false;
    const startedMs = this.#clock.monotonicMs();
    if (startedMs < this.#pausedUntilMs) return false;
    try {
      this.#write(fd, bytes, offsetBytes);
    } finally {
      const endedMs = this.#clock.monotonicMs();
      if (endedMs - startedMs > slowMs) this.#pausedUntilMs = endedMs + pauseMs;
    }
    return true;
  }
}

/** Reads to the end of `into` or of the content. Returns the count. Throws EIO. */
export function readContentSync(
  fd: number,
  into: Uint8Array,
  offsetBytes: number,
  { key, sizeBytes }: { readonly key: string; readonly sizeBytes: number },
  place: Place,
): number {
  const wanted = Math.max(Math.min(into.byteLength, sizeBytes - offsetBytes), 0);
  let done = 0;
  while (done < wanted) {
    const count = pread(fd, into, offsetBytes + done, done, wanted - done);
    if (count < 0) {
      const reason = errnoMessage(count);
      throw ebbError(errnoCodeOf(count) ?? 'EIO', `Reading the ${place} failed: ${reason}.`);
    }
    if (count === 0) throw ebbError('EIO', `The local file of ${key} was cut off.`);
    done += count;
  }
  return done;
}

/** Why a write failed, for people; what is not about room comes back as it is. */
export function contentWriteError(error: unknown, key: string, place: Place): EbbError {
  const known = toEbbError(error, 'EIO');
  const sentences: Partial<Record<string, string>> = {
    ENOSPC: `The file system of the ${place} is full`,
    EDQUOT: `The quota of the ${place} is used up`,
    EFBIG: `The file system of the ${place} cannot hold a file of this size`,
  };
  const sentence = sentences[known.code];
  if (sentence === undefined) return known;
  return ebbError(known.code, `${sentence}: ${key}.`, { cause: error, retryable: false });
}

/** No file system has larger blocks. */
const blockBytesMax = 64 * 1024;

/**
 * Frees all blocks of a file, also the last one, which a range that ends with the file would only fill with zeros. The
 * size stays. Throws EOPNOTSUPP where there are no holes.
 */
export function punchContent(fd: number, sizeBytes: number): void {
  if (sizeBytes > 0) punchHole(fd, 0, Math.ceil(sizeBytes / blockBytesMax) * blockBytesMax);
}
