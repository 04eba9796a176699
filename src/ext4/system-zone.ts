/**
 * Blocks that belong to the file system itself: superblocks, group descriptors, bitmaps, inode
 * tables. No file may claim them (the kernel's fs/ext4/block_validity.c).
 */
import type { GroupTable } from './groups.ts';
import { groupStart } from './superblock.ts';
import type { Superblock } from './superblock.ts';

export class SystemZone {
  /** Of each kind of its own: within a kind what begins later does not end earlier. */
  readonly #kinds: readonly Ranges[];

  /** Reads all group descriptors; EUCLEAN when one of them cannot be right. 64 bytes for each group. */
  constructor(superblock: Superblock, groups: GroupTable) {
    const { groupCount, blockSizeBytes } = superblock;
    const bitmaps = new Float64Array(2 * groupCount);
    const tables = new Float64Array(groupCount);
    // The boot sector and the primary superblock.
    const heads = { starts: [0], ends: [blockSizeBytes === 1024 ? 2 : 1] };
    for (let group = 0; group < groupCount; group += 1) {
      const headBlocks = groups.headBlocks(group);
      if (headBlocks > 0) {
        const start = groupStart(superblock, group);
        heads.starts.push(start);
        // One that reaches into the next group has that one's in it.
        heads.ends.push(Math.max(start + headBlocks, heads.ends.at(-1)!));
      }
      const { blockBitmap, inodeBitmap, inodeTable } = groups.descriptor(group);
      bitmaps[2 * group] = blockBitmap;
      bitmaps[2 * group + 1] = inodeBitmap;
      tables[group] = inodeTable;
    }
    this.#kinds = [heads, ofLength(bitmaps, 1), ofLength(tables, groups.inodeTableBlocks)];
  }

  /** Whether any of these blocks is the file system's own. */
  overlaps(start: number, count: number): boolean {
    return this.#kinds.some((ranges) => overlaps(ranges, start, start + count));
  }
}

/** [starts[i], ends[i]), both rising. */
interface Ranges {
  readonly starts: ArrayLike<number>;
  readonly ends: ArrayLike<number>;
}

/** Sorts `starts` in place. */
function ofLength(starts: Float64Array, length: number): Ranges {
  starts.sort();
  return { starts, ends: starts.map((start) => start + length) };
}

function overlaps({ starts, ends }: Ranges, start: number, end: number): boolean {
  // The first range that ends behind `start`: only that one can be the nearest.
  let low = 0;
  let high = ends.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ends[middle]! > start) high = middle;
    else low = middle + 1;
  }
  return low < starts.length && starts[low]! < end;
}
