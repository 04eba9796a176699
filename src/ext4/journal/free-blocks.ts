/** Free blocks for what a replay of fast commits has to write anew: nodes of extent trees, blocks of directories. */
import { IntervalSet } from '../../base/interval-set.ts';
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
    this.#found = freeBlocks(parts, budget, setOf(taken));
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

/** Sorted first: at its end a set grows at no cost. */
function setOf(taken: readonly Blocks[]): IntervalSet {
  const set = new IntervalSet();
  for (const { physicalBlock, blockCount } of taken.toSorted(
    (a, b) => a.physicalBlock - b.physicalBlock,
  )) {
    set.add(physicalBlock, physicalBlock + blockCount);
  }
  return set;
}

/** The first block of each cluster that is free, rising. */
function* freeBlocks(
  { image, groups }: Parts,
  budget: WorkBudget,
  taken: IntervalSet,
): Generator<number, undefined> {
  const { superblock, cache } = image;
  const { groupCount, blocksPerGroup, blockCount, clusterSizeBytes, blockSizeBytes } = superblock;
  const perCluster = clusterSizeBytes / blockSizeBytes;
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
      if (!taken.intersects(block, block + perCluster)) yield block;
    }
  }
  return undefined;
}
