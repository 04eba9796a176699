/**
 * Blocks that belong to the file system itself: superblocks, group descriptors, bitmaps, inode
 * tables. No file may claim them (the kernel's fs/ext4/block_validity.c).
 */
import type { GroupTable } from './groups.ts';
import { groupStart } from './superblock.ts';
import type { Superblock } from './superblock.ts';

export class SystemZone {
  /** Disjoint and rising: [starts[i], ends[i]). */
  readonly #starts: Float64Array;
  readonly #ends: Float64Array;

  /** Reads all group descriptors; EUCLEAN when one of them cannot be right. */
  constructor(superblock: Superblock, groups: GroupTable) {
    // Ranges that go on where the one before of their kind ended are one: few are left to be sorted.
    const ranges: [start: number, end: number][] = [];
    const lastOfKind: ([start: number, end: number] | undefined)[] = [];
    for (const [kind, start, count] of systemRanges(superblock, groups)) {
      const last = lastOfKind[kind];
      if (last?.[1] === start) last[1] = start + count;
      else ranges.push((lastOfKind[kind] = [start, start + count]));
    }
    const merged: [start: number, end: number][] = [];
    for (const [start, end] of ranges.sort((a, b) => a[0] - b[0])) {
      const last = merged.at(-1);
      if (last !== undefined && start <= last[1]) last[1] = Math.max(last[1], end);
      else merged.push([start, end]);
    }
    this.#starts = Float64Array.from(merged, ([start]) => start);
    this.#ends = Float64Array.from(merged, ([, end]) => end);
  }

  /** Whether any of these blocks is the file system's own. */
  overlaps(start: number, count: number): boolean {
    // The first range that ends behind `start`: only that one can be the nearest.
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ends[middle]! > start) high = middle;
      else low = middle + 1;
    }
    return low < this.#starts.length && this.#starts[low]! < start + count;
  }
}

const Kind = { head: 0, blockBitmap: 1, inodeBitmap: 2, inodeTable: 3 } as const;

type SystemRange = [kind: number, start: number, count: number];

function* systemRanges(superblock: Superblock, groups: GroupTable): Generator<SystemRange> {
  const { groupCount, blockSizeBytes } = superblock;
  const { inodeTableBlocks } = groups;
  // The boot sector and the primary superblock.
  yield [Kind.head, 0, blockSizeBytes === 1024 ? 2 : 1];
  for (let group = 0; group < groupCount; group += 1) {
    const headBlocks = groups.headBlocks(group);
    if (headBlocks > 0) yield [Kind.head, groupStart(superblock, group), headBlocks];
    const { blockBitmap, inodeBitmap, inodeTable } = groups.descriptor(group);
    yield [Kind.blockBitmap, blockBitmap, 1];
    yield [Kind.inodeBitmap, inodeBitmap, 1];
    yield [Kind.inodeTable, inodeTable, inodeTableBlocks];
  }
}
