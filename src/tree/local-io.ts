/** What reading and writing local files have in common, whoever keeps them. `place`: what the user knows it as. */
import { errnoCodeOf, errnoMessage } from '../base/errno.ts';
import { ebbError, toEbbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import { punchHole } from '../sys/fallocate.ts';
import { writeAllAt, writeSmallAt } from '../sys/file-io.ts';
import { pread } from '../sys/io.ts';

export type Place = 'cache' | 'tree';

/** Larger writes go to the pool: this thread must not wait for a disk, and copies of this size take 20 µs. */
const smallWriteBytes = 64 * 1024;
/** The same for the first chunk after a pause, which somebody waits for. */
const firstWriteBytes = 256 * 1024;
/** With more that is not committed the kernel may hold up who writes until the disk has taken some. */
const calmBytes = 32 * 1024 * 1024;

/** Whether so many bytes are written at once, while `uncommittedBytes` wait for their sync. */
export function isWrittenAtOnce(lengthBytes: number, uncommittedBytes: number): boolean {
  if (lengthBytes <= smallWriteBytes) return true;
  return lengthBytes <= firstWriteBytes && uncommittedBytes <= calmBytes;
}

/**
 * Writes at once, or in the thread pool, where a piece costs two more changes of threads. Rejects with what the kernel
 * says; then any part may have been written.
 */
export async function writeContent(
  fd: number,
  bytes: Uint8Array,
  offsetBytes: number,
  atOnce: boolean,
): Promise<void> {
  if (atOnce) writeSmallAt(fd, bytes, offsetBytes);
  else await writeAllAt(fd, bytes, offsetBytes);
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
