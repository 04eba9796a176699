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
  /** Its bitmap of blocks was never written: all are free but those of the file system itself. */
  readonly blocksUninitialized: boolean;
}

export const descriptorChecksumOffset = 0x1e;
export const wideDescriptorSize = 64;
const blockUninitialized = 0x2;
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

  /** Blocks with which a group begins: boot sector, superblock, descriptors and those reserved for more. */
  headBlocks(group: number): number {
    return this.#blocksOfSuperblock(group) + this.#blocksOfDescriptors(group);
  }

  /** ext4_bg_num_gdb of the kernel, reserved blocks included. */
  #blocksOfDescriptors(group: number): number {
    if (this.#isInMetaGroup(group)) {
      const within = group % this.#perBlock;
      return within <= 1 || within === this.#perBlock - 1 ? 1 : 0;
    }
    if (!hasBackup(this.#superblock, group)) return 0;
    const { groupCount, features, firstMetaGroup, reservedDescriptorBlocks } = this.#superblock;
    const all = Math.ceil(groupCount / this.#perBlock);
    if (features.names.has('meta_bg')) return Math.min(all, firstMetaGroup);
    return all + reservedDescriptorBlocks;
  }

  /** Whether the descriptors of a group are in its meta group, not in the table behind the superblock. */
  #isInMetaGroup(group: number): boolean {
    const { features, firstMetaGroup } = this.#superblock;
    return features.names.has('meta_bg') && group >= firstMetaGroup * this.#perBlock;
  }

  /** Where the copy of a descriptor is that is used. */
  place(group: number): { readonly blockNumber: number; readonly offset: number } {
    return this.#find(group);
  }

  #load(group: number): GroupDescriptor {
    return this.#find(group).descriptor;
  }

  #find(group: number): { descriptor: GroupDescriptor; blockNumber: number; offset: number } {
    const index = Math.floor(group / this.#perBlock);
    const offset = (group % this.#perBlock) * this.#superblock.descriptorSizeBytes;
    let first: unknown;
    for (const blockNumber of this.#copies(index)) {
      try {
        const descriptor = this.#decode(group, this.#cache.block(blockNumber), offset);
        return { descriptor, blockNumber, offset };
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
    const { groupCount, groupOfCopy } = superblock;
    const firstGroup = index * this.#perBlock;
    if (this.#isInMetaGroup(firstGroup)) {
      for (const group of [firstGroup, firstGroup + 1, firstGroup + this.#perBlock - 1]) {
        if (group >= groupCount) continue;
        yield groupStart(superblock, group) + this.#blocksOfSuperblock(group);
      }
      return;
    }
    for (const group of [groupOfCopy, 0, 1, 3, 5, 7, 9, ...superblock.backupGroups]) {
      if (group >= groupCount || !hasBackup(superblock, group)) continue;
      if (this.#isInMetaGroup(group)) continue;
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
      blocksUninitialized:
        this.#countsUnused && (block.u16(offset + 0x12) & blockUninitialized) !== 0,
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
    const bytes = block.slice(offset, this.#superblock.descriptorSizeBytes);
    const computed = descriptorChecksum(this.#superblock, group, bytes);
    if (computed !== undefined && computed !== block.u16(offset + descriptorChecksumOffset)) {
      throw corrupt(`the checksum of group descriptor ${group} is wrong`);
    }
  }
}

/** Of all bytes of a descriptor; undefined where descriptors have no checksums. */
export function descriptorChecksum(
  superblock: Superblock,
  group: number,
  bytes: Uint8Array,
): number | undefined {
  const { names } = superblock.features;
  const at = descriptorChecksumOffset;
  const [after, end] = [at + 2, bytes.length];
  if (names.has('metadata_csum')) {
    let crc = crc32c(crc32cWord(superblock.checksumSeed, group), bytes, 0, at);
    crc = crc32cZeros(crc, 2);
    if (after < end) crc = crc32c(crc, bytes, after, end);
    return crc & 0xffff;
  }
  if (!names.has('uninit_bg')) return undefined;
  const number = Uint8Array.of(group, group >>> 8, group >>> 16, group >>> 24);
  let crc = crc16(0xffff, superblock.uuid, 0, 16);
  crc = crc16(crc, number, 0, 4);
  crc = crc16(crc, bytes, 0, at);
  return names.has('64bit') && after < end ? crc16(crc, bytes, after, end) : crc;
}
