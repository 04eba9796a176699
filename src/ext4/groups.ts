/**
 * Group descriptors: where the bitmaps and inode tables are. Layouts: 32 and 64 bytes and more, all
 * in one table behind the superblock, or (meta_bg) spread over the groups they describe. A descriptor
 * that cannot be right is looked for in the backups.
 */
import { toEbbError } from '../base/errors.ts';
import type { BlockCache } from './block-cache.ts';
import { crc16, crc32c, crc32cWord, crc32cZeros } from './checksum.ts';
import { corrupt, isDamage } from './errors.ts';
import type { Region } from './region.ts';
import { groupStart, hasBackup } from './superblock.ts';
import type { Superblock } from './superblock.ts';

export interface GroupDescriptor {
  readonly blockBitmap: number;
  readonly inodeBitmap: number;
  readonly inodeTable: number;
  /** In clusters. */
  readonly freeClusters: number;
  readonly freeInodes: number;
  /** At the end of the group's table, since mke2fs; 0 without checksums of descriptors. */
  readonly neverUsedInodes: number;
}

const checksumOffset = 0x1e;
const wideDescriptorSize = 64;
/** Decoded descriptors in memory; 1 TiB of 4 KiB blocks has 8192 groups. */
const descriptorsMax = 65_536;

export class GroupTable {
  readonly #superblock: Superblock;
  readonly #cache: BlockCache;
  readonly #verifyChecksums: boolean;
  readonly #known = new Map<number, GroupDescriptor>();
  readonly #perBlock: number;
  readonly inodeTableBlocks: number;
  readonly #countsUnused: boolean;

  constructor(superblock: Superblock, cache: BlockCache, verifyChecksums: boolean) {
    this.#superblock = superblock;
    this.#cache = cache;
    this.#verifyChecksums = verifyChecksums;
    this.#perBlock = superblock.blockSizeBytes / superblock.descriptorSizeBytes;
    const { names } = superblock.features;
    this.#countsUnused = names.has('metadata_csum') || names.has('uninit_bg');
    this.inodeTableBlocks = Math.ceil(
      (superblock.inodesPerGroup * superblock.inodeSizeBytes) / superblock.blockSizeBytes,
    );
  }

  /** 0 <= group < groupCount is the caller's promise. EUCLEAN when no copy of it can be right. */
  descriptor(group: number): GroupDescriptor {
    const known = this.#known.get(group);
    if (known !== undefined) return known;
    const found = this.#load(group);
    if (this.#known.size >= descriptorsMax) this.#known.clear();
    this.#known.set(group, found);
    return found;
  }

  /** Where the inodes of a group are, when that was looked up before. */
  knownInodeTable(group: number): number | undefined {
    return this.#known.get(group)?.inodeTable;
  }

  /** Blocks that hold descriptors behind the superblock of a group, reserved ones included. */
  get tableBlocks(): number {
    const { groupCount, features, firstMetaGroup, reservedDescriptorBlocks } = this.#superblock;
    const all = Math.ceil(groupCount / this.#perBlock);
    return features.names.has('meta_bg')
      ? Math.min(all, firstMetaGroup)
      : all + reservedDescriptorBlocks;
  }

  /** Descriptors that one block holds: a meta group. */
  get groupsPerTableBlock(): number {
    return this.#perBlock;
  }

  #load(group: number): GroupDescriptor {
    const index = Math.floor(group / this.#perBlock);
    const offset = (group % this.#perBlock) * this.#superblock.descriptorSizeBytes;
    let first: unknown;
    for (const blockNumber of this.#copies(index)) {
      try {
        return this.#decode(group, this.#cache.block(blockNumber), offset);
      } catch (error) {
        if (!isDamage(toEbbError(error))) throw error;
        first ??= error;
      }
    }
    throw first;
  }

  /** Blocks with copies of one block of the table, the best first. */
  *#copies(index: number): Generator<number> {
    const superblock = this.#superblock;
    const { groupCount, features, firstMetaGroup, groupOfCopy } = superblock;
    if (features.names.has('meta_bg') && index >= firstMetaGroup) {
      const firstGroup = index * this.#perBlock;
      for (const group of [firstGroup, firstGroup + 1, firstGroup + this.#perBlock - 1]) {
        if (group >= groupCount) continue;
        yield groupStart(superblock, group) + this.#blocksOfSuperblock(group);
      }
      return;
    }
    for (const group of [groupOfCopy, 0, 1, 3, 5, 7, 9, ...superblock.backupGroups]) {
      if (group >= groupCount || !hasBackup(superblock, group)) continue;
      yield groupStart(superblock, group) + this.#blocksOfSuperblock(group) + index;
    }
  }

  /** How many blocks of a group come before its descriptors. */
  #blocksOfSuperblock(group: number): number {
    const { blockSizeBytes, firstDataBlock } = this.#superblock;
    // Blocks of 1 KiB in clusters: block 0 belongs to group 0, and the superblock is in block 1.
    const bootBlock = group === 0 && blockSizeBytes === 1024 && firstDataBlock === 0 ? 1 : 0;
    return bootBlock + (hasBackup(this.#superblock, group) ? 1 : 0);
  }

  #decode(group: number, block: Region, offset: number): GroupDescriptor {
    const superblock = this.#superblock;
    const size = superblock.descriptorSizeBytes;
    const wide = size >= wideDescriptorSize;
    const high32 = (at: number): number => (wide ? block.u32(offset + at) : 0);
    const high16 = (at: number): number => (wide ? block.u16(offset + at) : 0);
    if (this.#verifyChecksums) this.#verify(group, block, offset);
    const descriptor: GroupDescriptor = {
      blockBitmap: block.split(offset, high32(0x20)),
      inodeBitmap: block.split(offset + 0x4, high32(0x24)),
      inodeTable: block.split(offset + 0x8, high32(0x28)),
      freeClusters: block.u16(offset + 0xc) + high16(0x2c) * 65_536,
      freeInodes: block.u16(offset + 0xe) + high16(0x2e) * 65_536,
      neverUsedInodes: this.#countsUnused ? block.u16(offset + 0x1c) + high16(0x32) * 65_536 : 0,
    };
    const flexible = superblock.features.names.has('flex_bg');
    const from = flexible ? superblock.firstDataBlock : groupStart(superblock, group);
    const to = flexible
      ? superblock.blockCount
      : Math.min(superblock.blockCount, from + superblock.blocksPerGroup);
    const { blockBitmap, inodeBitmap, inodeTable } = descriptor;
    for (const start of [blockBitmap, inodeBitmap, inodeTable]) {
      const length = start === inodeTable ? this.inodeTableBlocks : 1;
      // Block `firstDataBlock` holds the superblock or the boot sector.
      if (start <= superblock.firstDataBlock || start < from || start + length > to) {
        throw corrupt(`group ${group} has its bitmaps or inodes at block ${start}`);
      }
    }
    return descriptor;
  }

  #verify(group: number, block: Region, offset: number): void {
    const superblock = this.#superblock;
    const { names } = superblock.features;
    const stored = block.u16(offset + checksumOffset);
    const end = offset + superblock.descriptorSizeBytes;
    const after = offset + checksumOffset + 2;
    const bytes = block.slice(0, end);
    let computed: number;
    if (names.has('metadata_csum')) {
      computed = crc32cWord(superblock.checksumSeed, group);
      computed = crc32c(computed, bytes, offset, offset + checksumOffset);
      computed = crc32cZeros(computed, 2);
      if (after < end) computed = crc32c(computed, bytes, after, end);
      computed &= 0xffff;
    } else if (names.has('uninit_bg')) {
      const number = Uint8Array.of(group, group >>> 8, group >>> 16, group >>> 24);
      computed = crc16(0xffff, superblock.uuid, 0, 16);
      computed = crc16(computed, number, 0, 4);
      computed = crc16(computed, bytes, offset, offset + checksumOffset);
      if (names.has('64bit') && after < end) computed = crc16(computed, bytes, after, end);
    } else {
      return;
    }
    if (computed !== stored) throw corrupt(`the checksum of group descriptor ${group} is wrong`);
  }
}
