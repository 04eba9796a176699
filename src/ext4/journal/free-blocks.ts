/** Free blocks for what a replay of fast commits has to write anew: nodes of extent trees, blocks of directories. */
import type { Extent } from '../contract.ts';
import { unsupported } from '../errors.ts';
import type { Parts } from '../parts.ts';
import { groupStart } from '../superblock.ts';
import type { WorkBudget } from './work-budget.ts';

export type Blocks = Pick<Extent, 'physicalBlock' | 'blockCount'>;

export class FreeBlocks {
  readonly #found: Generator<number, undefined>;

  /** `taken`: in use although the bitmaps do not say so, because fast commits gave them to files. */
  constructor(parts: Parts, budget: WorkBudget, taken: readonly Blocks[]) {
    this.#found = freeBlocks(parts, budget, merge(taken));
  }

  /** Each block once. EOPNOTSUPP when there is none left. */
  take(): number {
    const { value } = this.#found.next();
    if (value === undefined) {
      throw unsupported(
        'The file system is too full to replay the fast commits of its journal. ' +
          'Run e2fsck on the image, or read it without them: -o nofastcommit',
      );
    }
    return value;
  }
}

function merge(taken: readonly Blocks[]): Blocks[] {
  const merged: { physicalBlock: number; blockCount: number }[] = [];
  for (const { physicalBlock, blockCount } of taken.toSorted(
    (a, b) => a.physicalBlock - b.physicalBlock,
  )) {
    const last = merged.at(-1);
    const end = physicalBlock + blockCount;
    if (last !== undefined && last.physicalBlock + last.blockCount >= physicalBlock) {
      last.blockCount = Math.max(last.blockCount, end - last.physicalBlock);
    } else {
      merged.push({ physicalBlock, blockCount });
    }
  }
  return merged;
}

/** The first block of each cluster that is free, rising. */
function* freeBlocks(
  { image, groups }: Parts,
  budget: WorkBudget,
  taken: readonly Blocks[],
): Generator<number, undefined> {
  const { superblock, cache } = image;
  const { groupCount, blocksPerGroup, blockCount, clusterSizeBytes, blockSizeBytes } = superblock;
  const perCluster = clusterSizeBytes / blockSizeBytes;
  let next = 0;
  for (let group = 0; group < groupCount; group += 1) {
    const { blockBitmap, blocksUninitialized, freeClusters } = groups.descriptor(group);
    // There are others: what nobody wrote to yet has no bitmap that could be read.
    if (blocksUninitialized || freeClusters === 0) continue;
    const start = groupStart(superblock, group);
    const end = Math.min(start + blocksPerGroup, blockCount);
    for (let block = start; block < end; block += perCluster) {
      const bit = (block - start) / perCluster;
      if (bit % 8 === 0) budget.spend(8);
      if ((cache.block(blockBitmap).u8(bit >>> 3) & (1 << (bit & 7))) !== 0) continue;
      while (next < taken.length && endOf(taken[next]!) <= block) next += 1;
      const other = taken[next];
      if (other === undefined || other.physicalBlock >= block + perCluster) yield block;
    }
  }
  return undefined;
}

function endOf({ physicalBlock, blockCount }: Blocks): number {
  return physicalBlock + blockCount;
}
