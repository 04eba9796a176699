/**
 * What lies in a file, where the records cannot tell. It only ever shows that something is *not* here, or that a file
 * was *not* cut off; that bytes are here is never concluded from it (I2).
 */
import { toEbbError } from '../../base/errors.ts';
import { FallocateMode, fallocate } from '../../sys/fallocate.ts';
import { fileExtents } from '../../sys/fiemap.ts';
import { pread, seek, Seek } from '../../sys/io.ts';
import { sameTime } from '../../sys/stat.ts';
import type { FileStatus, FileTime } from '../../sys/stat.ts';
import { filesystemStatus } from '../../sys/statfs.ts';
import type { Residency } from '../residency.ts';
import { isPoison } from './poison.ts';

const sampleBytes = 4_096;

/** Whether a part of the range certainly is not the content: poison at one of its ends, or a hole. */
export function lacksBytes(
  fd: number,
  offsetBytes: number,
  lengthBytes: number,
  hasPoison: boolean,
): boolean {
  if (!hasPoison) {
    const hole = seek(fd, offsetBytes, Seek.hole);
    return hole < offsetBytes + lengthBytes;
  }
  // The last block of the range; ranges begin with a block.
  const last = offsetBytes + Math.floor((lengthBytes - 1) / sampleBytes) * sampleBytes;
  return isPoisonAt(fd, offsetBytes, lengthBytes) || isPoisonAt(fd, last, lengthBytes);
}

/**
 * Whether a file of which not all was here, and that somebody was let in to cut off, was cut off. Undefined: nothing in
 * it tells, because all of it was here, whether it was claimed or not: a recall that was stopped, or whose daemon was
 * killed before its claims were recorded, leaves bytes without a claim.
 *
 * Poison: cutting off takes all of it away, and nobody writes it again. Where there are holes instead, the file may
 * have been cut off and made longer again: then the block that was set aside behind its end is gone. Where none could
 * be set aside, what was claimed is a hole then, too, and mtime has moved.
 */
export function wasCutOff(
  fd: number,
  { sizeBytes, mtime }: Pick<FileStatus, 'sizeBytes' | 'mtime'>,
  before: { readonly residency: Residency; readonly mtime: FileTime },
  hasPoison: boolean,
): boolean | undefined {
  const { residency } = before;
  if (sizeBytes !== residency.sizeBytes) return true;
  const missing = residency.missing(0, sizeBytes);
  if (missing.length === 0) return undefined;
  if (!hasPoison && hasBlockAside(fd, sizeBytes)) return false;
  const chunkLacks = (chunk: number): boolean => {
    const { offsetBytes, lengthBytes } = residency.bytesOf({ first: chunk, count: 1 });
    return lacksBytes(fd, offsetBytes, lengthBytes, hasPoison);
  };
  const isStubStill = missing.some((run) => anyChunk(run, chunkLacks));
  if (!isStubStill) return undefined;
  if (hasPoison) return false;
  return (
    !sameTime(mtime, before.mtime) || residency.runs().some((run) => anyChunk(run, chunkLacks))
  );
}

/**
 * Sets a block aside behind the end of a file: allocated, never written, and seen by nobody who reads. Cutting off
 * frees it (ext4_truncate(), Linux 6.18), so while it is there the file has not been cut off. Moves mtime and ctime.
 * Durable with the next sync of the file. Throws ENOSPC, EDQUOT, EFBIG; EOPNOTSUPP where files have no extents.
 */
export function setBlockAside(fd: number, sizeBytes: number): void {
  const blockBytes = filesystemStatus(fd).blockSizeBytes;
  fallocate(fd, FallocateMode.keepSize, asideBytes(sizeBytes, blockBytes), blockBytes);
}

/** What users set aside begins where their file ends or before: such a block, with nothing on either side, is ours. */
export function hasBlockAside(fd: number, sizeBytes: number): boolean {
  const blockBytes = filesystemStatus(fd).blockSizeBytes;
  const at = asideBytes(sizeBytes, blockBytes);
  try {
    const [extent, ...others] = fileExtents(fd, at - blockBytes, 3 * blockBytes, 2);
    const isOne = extent?.logicalBytes === at && extent.lengthBytes === blockBytes;
    return isOne && extent.isUnwritten && others.length === 0;
  } catch (error) {
    if (toEbbError(error).code === 'EOPNOTSUPP') return false;
    throw error;
  }
}

/** A block is left free between it and the content. */
function asideBytes(sizeBytes: number, blockBytes: number): number {
  return (Math.ceil(sizeBytes / blockBytes) + 1) * blockBytes;
}

function anyChunk(
  { first, count }: { readonly first: number; readonly count: number },
  holds: (chunk: number) => boolean,
): boolean {
  for (let chunk = first; chunk < first + count; chunk += 1) if (holds(chunk)) return true;
  return false;
}

/** Whether a block of a file, as far as the range goes, is poison. */
export function isPoisonAt(fd: number, offsetBytes: number, lengthBytesMax: number): boolean {
  const sample = new Uint8Array(Math.min(sampleBytes, lengthBytesMax));
  const count = pread(fd, sample, offsetBytes);
  return count > 0 && isPoison(sample.subarray(0, count), offsetBytes);
}
