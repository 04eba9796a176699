/** Block pointers of ext2 and ext3: 12 direct ones, then one, two and three levels of blocks of pointers. */
import type { CachedBlock } from './block-cache.ts';
import type { Run } from './contract.ts';
import { corrupt } from './errors.ts';
import { pointersOf } from './loaded-inode.ts';
import type { LoadedInode } from './loaded-inode.ts';
import type { Region } from './region.ts';
import type { Superblock } from './superblock.ts';

const directCount = 12;
const levelsMax = 3;

/** What is at `logicalBlock`. `node` gives a block of pointers, checked to lie where it may. */
export function indirectRun(
  superblock: Superblock,
  inode: LoadedInode,
  logicalBlock: number,
  node: (block: number) => CachedBlock,
): Run {
  if (logicalBlock < directCount) return pointerRun(pointersOf(inode), logicalBlock, directCount);
  const perBlock = superblock.blockSizeBytes / 4;
  let index = logicalBlock - directCount;
  let span = perBlock;
  for (let level = 1; level <= levelsMax; level += 1, index -= span, span *= perBlock) {
    if (index >= span) continue;
    let pointer = pointersOf(inode).u32((directCount + level - 1) * 4);
    for (let reach = span; ; reach /= perBlock) {
      // `pointer` covers `reach` blocks, of which `index` come before ours.
      if (pointer === 0) {
        return { physicalBlock: undefined, blockCount: reach - index, unwritten: false };
      }
      const block = node(pointer);
      const below = reach / perBlock;
      if (below === 1) return pointerRun(block, index, perBlock);
      const slot = Math.floor(index / below);
      pointer = block.u32(slot * 4);
      index -= slot * below;
    }
  }
  throw corrupt(`inode ${inode.number} has no block ${logicalBlock}`);
}

/** Pointers from `index` on that follow each other on the device, or that are all zero. */
function pointerRun(region: Region, index: number, end: number): Run {
  const first = region.u32(index * 4);
  let count = 1;
  const step = first === 0 ? 0 : 1;
  while (index + count < end && region.u32((index + count) * 4) === first + count * step) {
    count += 1;
  }
  return { physicalBlock: first === 0 ? undefined : first, blockCount: count, unwritten: false };
}
