/**
 * From a block of a file to a block of the file system: extent trees and indirect pointers behind one
 * question, "what is at this logical block, and how far does that go". Answering descends from the
 * root each time: no state to keep, at most five nodes, and progress with every answer.
 */
import type { BlockCache, CachedBlock } from './block-cache.ts';
import type { Extent, Run } from './contract.ts';
import { corrupt } from './errors.ts';
import { extentRun } from './extents.ts';
import { indirectRun } from './indirect.ts';
import { InodeFlag, indirectBlocksMax } from './loaded-inode.ts';
import type { LoadedInode } from './loaded-inode.ts';
import type { Superblock } from './superblock.ts';
import type { SystemZone } from './system-zone.ts';

const logicalBlocksMax = 2 ** 32;
/** Extents and holes that one walk over a file meets: 64 GiB of single blocks of 4 KiB. */
const runsPerWalkMax = 16 * 1024 * 1024;

export class BlockMap {
  readonly #superblock: Superblock;
  readonly #cache: BlockCache;
  readonly #zone: () => SystemZone;
  readonly #verifyChecksums: boolean;

  /** `zone` is asked for when the first block of a file is looked up: it costs reading all descriptors. */
  constructor(
    superblock: Superblock,
    cache: BlockCache,
    zone: () => SystemZone,
    verifyChecksums: boolean,
  ) {
    this.#superblock = superblock;
    this.#cache = cache;
    this.#zone = zone;
    this.#verifyChecksums = verifyChecksums && superblock.features.names.has('metadata_csum');
  }

  /** What is at this block of a file that has no inline data. EUCLEAN for a map that cannot be right. */
  run(inode: LoadedInode, logicalBlock: number): Run {
    const run =
      (inode.flags & InodeFlag.extents) === 0
        ? indirectRun(this.#superblock, inode, logicalBlock, (block) => this.node(inode, block))
        : extentRun(inode, logicalBlock, this.#verifyChecksums, (block) => this.node(inode, block));
    if (run.physicalBlock !== undefined) this.#check(inode, run.physicalBlock, run.blockCount);
    return run;
  }

  /** Whatever is mapped, rising, between two logical blocks. EUCLEAN when it is more than there can be. */
  *extents(inode: LoadedInode, endBlock: number, fromBlock = 0): Generator<Extent> {
    const end = Math.min(endBlock, this.blocksMax(inode));
    const { blockCount: blocksMax, features } = this.#superblock;
    const mayShare = features.names.has('shared_blocks');
    let mapped = 0;
    let runs = 0;
    for (let at = fromBlock; at < end;) {
      runs += 1;
      // Pointers that lead in circles would have no end otherwise.
      if (runs > runsPerWalkMax || (mapped > blocksMax && !mayShare)) {
        throw corrupt(`inode ${inode.number} has more blocks than there are`);
      }
      const { physicalBlock, blockCount, unwritten } = this.run(inode, at);
      if (physicalBlock !== undefined) {
        const count = Math.min(blockCount, end - at);
        mapped += count;
        yield { logicalBlock: at, physicalBlock, blockCount: count, unwritten };
      }
      at += blockCount;
    }
  }

  /** Logical blocks that the map of this inode can name. */
  blocksMax(inode: LoadedInode): number {
    return (inode.flags & InodeFlag.extents) === 0
      ? Math.min(indirectBlocksMax(this.#superblock.blockSizeBytes), logicalBlocksMax)
      : logicalBlocksMax;
  }

  /** A block of metadata that an inode owns. */
  node(inode: LoadedInode, block: number): CachedBlock {
    this.#check(inode, block, 1);
    return this.#cache.block(block);
  }

  /** No file reaches outside, or into what is the file system's own. */
  #check(inode: LoadedInode, start: number, count: number): void {
    const { firstDataBlock, blockCount, firstInode } = this.#superblock;
    if (start <= firstDataBlock || start + count > blockCount) {
      throw corrupt(`inode ${inode.number} claims blocks ${start} to ${start + count - 1}`);
    }
    // The file system's own inodes do own such blocks: the one for resizing has spare descriptors.
    const isReserved = inode.number < firstInode && inode.number !== 2;
    if (!isReserved && this.#zone().overlaps(start, count)) {
      throw corrupt(`inode ${inode.number} claims the file system's own blocks at ${start}`);
    }
  }
}
