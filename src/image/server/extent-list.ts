/** Where a file's bytes are in the image file, looked up by offset. */
import type { Inode, Volume } from '../../ext4/volume.ts';

export interface Run {
  readonly fileOffsetBytes: number;
  readonly imageOffsetBytes: number;
  readonly lengthBytes: number;
}

/** Files of more runs are read through the volume and not mapped. */
export const runsMax = 200_000;

/**
 * The runs of a file that have content, rising, neighbours merged; what lies between reads as zeros. undefined when the
 * bytes are not simply at a place in the image (inline data, encrypted), or there are too many runs.
 */
export function runsOf(
  volume: Volume,
  inode: Inode,
  startBytes: number,
  max = runsMax,
): Run[] | undefined {
  if (inode.type !== 'file' || inode.inlineData || inode.encrypted) return undefined;
  const { blockSizeBytes } = volume.superblock;
  const runs: Run[] = [];
  for (const { logicalBlock, physicalBlock, blockCount, unwritten } of volume.extents(inode)) {
    if (unwritten) continue;
    const fileOffsetBytes = logicalBlock * blockSizeBytes;
    const imageOffsetBytes = startBytes + physicalBlock * blockSizeBytes;
    const lengthBytes = blockCount * blockSizeBytes;
    const last = runs.at(-1);
    if (
      last !== undefined &&
      last.fileOffsetBytes + last.lengthBytes === fileOffsetBytes &&
      last.imageOffsetBytes + last.lengthBytes === imageOffsetBytes
    ) {
      runs[runs.length - 1] = { ...last, lengthBytes: last.lengthBytes + lengthBytes };
    } else {
      if (runs.length === max) return undefined;
      runs.push({ fileOffsetBytes, imageOffsetBytes, lengthBytes });
    }
  }
  return runs;
}

/** Index of the first run that ends after `offset`; `runs.length` when there is none. */
export function firstRunAfter(runs: readonly Run[], offset: number): number {
  let low = 0;
  let high = runs.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const run = runs[middle];
    if (run !== undefined && run.fileOffsetBytes + run.lengthBytes <= offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Place in the image of `[offset, offset + lengthBytes)` when one run holds all of it. */
export function placeOf(
  runs: readonly Run[],
  offset: number,
  lengthBytes: number,
): number | undefined {
  const run = runs[firstRunAfter(runs, offset)];
  if (run === undefined || run.fileOffsetBytes > offset) return undefined;
  const inside = offset - run.fileOffsetBytes;
  return inside + lengthBytes <= run.lengthBytes ? run.imageOffsetBytes + inside : undefined;
}

/** lseek(2) SEEK_DATA and SEEK_HOLE; undefined is ENXIO. */
export function seekRuns(
  runs: readonly Run[],
  sizeBytes: number,
  offset: number,
  what: 'data' | 'hole',
): number | undefined {
  if (offset >= sizeBytes) return undefined;
  let index = firstRunAfter(runs, offset);
  if (what === 'data') {
    const run = runs[index];
    if (run === undefined || run.fileOffsetBytes >= sizeBytes) return undefined;
    return Math.max(offset, run.fileOffsetBytes);
  }
  let at = offset;
  for (; index < runs.length; index += 1) {
    const run = runs[index];
    if (run === undefined || run.fileOffsetBytes > at) break;
    at = run.fileOffsetBytes + run.lengthBytes;
  }
  return Math.min(at, sizeBytes);
}
