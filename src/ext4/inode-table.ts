/** Inodes by number: where they are, and the decoded ones that were asked for last. */
import { BoundedMap } from '../base/bounded-map.ts';
import { ebbError } from '../base/errors.ts';
import type { BlockCache, CachedBlock } from './block-cache.ts';
import type { GroupTable } from './groups.ts';
import { decodeInode } from './loaded-inode.ts';
import type { LoadedInode } from './loaded-inode.ts';
import type { Region } from './region.ts';
import type { Superblock } from './superblock.ts';

export class InodeTable {
  readonly #superblock: Superblock;
  readonly #cache: BlockCache;
  readonly #groups: GroupTable;
  readonly #verifyChecksums: boolean;
  readonly #known: BoundedMap<number, LoadedInode>;
  readonly #perBlock: number;
  #hasMetUnused = false;

  constructor(
    superblock: Superblock,
    cache: BlockCache,
    groups: GroupTable,
    verifyChecksums: boolean,
    cacheMax: number,
  ) {
    this.#superblock = superblock;
    this.#cache = cache;
    this.#groups = groups;
    this.#verifyChecksums = verifyChecksums;
    this.#known = new BoundedMap(Math.max(cacheMax, 1));
    this.#perBlock = superblock.blockSizeBytes / superblock.inodeSizeBytes;
  }

  /** See `Volume.inode`. */
  inode(number: number): LoadedInode {
    const known = this.#known.get(number);
    if (known !== undefined) return known;
    const { block, offset } = this.#locate(number);
    const inode = decodeInode(this.#superblock, number, block, offset, this.#verifyChecksums);
    this.#known.set(number, inode);
    const { inodesPerGroup } = this.#superblock;
    const { neverUsedInodes } = this.#groups.descriptor(this.#groupOf(number));
    if ((number - 1) % inodesPerGroup >= inodesPerGroup - neverUsedInodes)
      this.#hasMetUnused = true;
    return inode;
  }

  /** Whether an inode was met that its group counts among those that were never used: that count is wrong. */
  get hasMetUnused(): boolean {
    return this.#hasMetUnused;
  }

  /** All bytes of an inode. A view, not a copy. */
  raw(number: number): Region {
    const { block, offset } = this.#locate(number);
    return block.part(offset, this.#superblock.inodeSizeBytes, `inode ${number}`);
  }

  /** Where an inode is stored. EINVAL when there is no such number. */
  place(number: number): { readonly blockNumber: number; readonly offset: number } {
    const { block, offset } = this.#locate(number);
    return { blockNumber: block.number, offset };
  }

  /** A hint: where a group's inodes are not known yet, nothing is asked for. */
  prefetch(numbers: Iterable<number>): void {
    if (!this.#cache.takesHints) return;
    const blocks = new Set<number>();
    for (const number of numbers) {
      if (!this.#exists(number) || this.#known.has(number)) continue;
      const index = (number - 1) % this.#superblock.inodesPerGroup;
      const table = this.#groups.knownInodeTable(this.#groupOf(number));
      if (table !== undefined) blocks.add(table + Math.floor(index / this.#perBlock));
    }
    this.#cache.prefetch(blocks);
  }

  #exists(number: number): boolean {
    return Number.isInteger(number) && number >= 1 && number <= this.#superblock.inodeCount;
  }

  #groupOf(number: number): number {
    return Math.floor((number - 1) / this.#superblock.inodesPerGroup);
  }

  #locate(number: number): { block: CachedBlock; offset: number } {
    if (!this.#exists(number)) throw ebbError('EINVAL', `There is no inode ${number}`);
    const { inodesPerGroup, inodeSizeBytes } = this.#superblock;
    const index = (number - 1) % inodesPerGroup;
    const { inodeTable } = this.#groups.descriptor(this.#groupOf(number));
    return {
      block: this.#cache.block(inodeTable + Math.floor(index / this.#perBlock)),
      offset: (index % this.#perBlock) * inodeSizeBytes,
    };
  }
}
