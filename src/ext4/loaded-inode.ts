/** An inode as the reader keeps it: the public facts, and where its content is. */
import type { Inode, Timestamp } from './contract.ts';
import { crc32c, crc32cWord, crc32cZeros } from './checksum.ts';
import { corrupt } from './errors.ts';
import { Region } from './region.ts';
import { ebbError } from '../base/errors.ts';
import { SmallCopies } from '../base/small-copies.ts';
import type { Superblock } from './superblock.ts';

/** Flags of inodes (EXT4_*_FL) that the reader goes by. */
export const InodeFlag = {
  encrypt: 0x800,
  index: 0x1000,
  hugeFile: 0x40000,
  verity: 0x100000,
  extents: 0x80000,
  extendedAttribute: 0x200000,
  inlineData: 0x10000000,
  casefold: 0x40000000,
} as const;

export interface LoadedInode extends Inode {
  /** i_block: extent root, block pointers, a short symlink or the first inline data. See `pointersOf`. */
  readonly pointerBytes: Uint8Array;
  /** The same, once somebody has asked for it. */
  pointers: Region | undefined;
  /** Block with extended attributes, 0 without. */
  readonly attributeBlock: number;
  /** Bytes of the fixed fields: inline attributes begin here. */
  readonly fixedSizeBytes: number;
  /** Checksums of what belongs to this inode continue from here. */
  readonly checksumSeed: number;
}

export const smallInodeSize = 128;
/** struct ext4_inode of Linux. */
const allFieldsSize = 160;
export const pointersOffset = 0x28;
export const pointersSizeBytes = 60;
export const inodeChecksumLowOffset = 0x7c;
export const inodeChecksumHighOffset = 0x82;
const twoTo32 = 2 ** 32;

const types: Readonly<Record<number, Inode['type']>> = {
  0x1: 'fifo',
  0x2: 'character',
  0x4: 'directory',
  0x6: 'block',
  0x8: 'file',
  0xa: 'symlink',
  0xc: 'socket',
};

/** `pointerBytes`. */
const copies = new SmallCopies();

/** Most inodes that are listed are never asked for theirs. */
export function pointersOf(inode: LoadedInode): Region {
  inode.pointers ??= new Region(inode.pointerBytes, `inode ${inode.number}`);
  return inode.pointers;
}

/**
 * Decodes the inode at `offset` of a block of an inode table. Throws ENOENT when it is not in use,
 * EUCLEAN when it cannot be right.
 */
export function decodeInode(
  superblock: Superblock,
  number: number,
  block: Region,
  offset: number,
  verifyChecksum: boolean,
): LoadedInode {
  const { names } = superblock.features;
  const view = block.viewOf(offset, superblock.inodeSizeBytes);
  const u16 = (at: number): number => view.getUint16(offset + at, true);
  const u32 = (at: number): number => view.getUint32(offset + at, true);
  const mode = u16(0);
  const links = u16(0x1a);
  if (mode === 0 || links === 0) throw ebbError('ENOENT', `Inode ${number} is not in use`);
  const fixedSizeBytes = fixedSizeOf(superblock, number, view, offset);
  const has = (end: number): boolean => fixedSizeBytes >= end;
  const timesEnd = timesEndOf(superblock, fixedSizeBytes);
  const generation = u32(0x64);
  const checksumSeed = inodeChecksumSeed(superblock, number, generation);
  if (verifyChecksum && superblock.hasInodeChecksums) {
    verifyInode(superblock, number, block, offset, checksumSeed, has(0x84));
  }
  const type = types[mode >>> 12];
  if (type === undefined) throw corrupt(`inode ${number} has mode 0${mode.toString(8)}`);
  const flags = u32(0x20);
  const sizeBytes = sizeOf(superblock, number, type, flags, view, offset);
  // So that programs do not take a file without blocks for empty (ext4_file_getattr).
  const inlineSectors =
    type === 'file' && (flags & InodeFlag.inlineData) !== 0 ? Math.ceil(sizeBytes / 512) : 0;
  const time = (low: number, extra: number): Timestamp =>
    decodeTime(view.getInt32(offset + low, true), timesEnd >= extra + 4 ? u32(extra) : 0);
  const pointersAt = offset + pointersOffset;
  return {
    number,
    generation,
    type,
    mode,
    uid: u16(0x2) + u16(0x78) * 65_536,
    gid: u16(0x18) + u16(0x7a) * 65_536,
    linkCount: links,
    sizeBytes,
    allocatedSectors: sectorsOf(superblock, flags, view, offset) + inlineSectors,
    accessTime: time(0x8, 0x8c),
    modificationTime: time(0x10, 0x88),
    changeTime: time(0xc, 0x84),
    birthTime: timesEnd >= 0x94 ? time(0x90, 0x94) : undefined,
    device: type === 'character' || type === 'block' ? decodeDevice(view, pointersAt) : undefined,
    flags,
    projectId: names.has('project') && has(0xa0) ? u32(0x9c) : 0,
    version: u32(0x24) + (timesEnd >= 0x9c ? u32(0x98) & 0x1fffff : 0) * twoTo32,
    encrypted: (flags & InodeFlag.encrypt) !== 0,
    verity: (flags & InodeFlag.verity) !== 0,
    casefold: (flags & InodeFlag.casefold) !== 0 && names.has('casefold'),
    inlineData: (flags & InodeFlag.inlineData) !== 0,
    pointerBytes: copies.of(block.bytes, pointersAt, pointersAt + pointersSizeBytes),
    pointers: undefined,
    attributeBlock: u32(0x68) + (names.has('64bit') ? u16(0x76) * twoTo32 : 0),
    fixedSizeBytes,
    checksumSeed,
  };
}

/** 128 and i_extra_isize, which must leave room and be a multiple of 4. */
function fixedSizeOf(
  superblock: Superblock,
  number: number,
  view: DataView,
  offset: number,
): number {
  if (superblock.inodeSizeBytes === smallInodeSize) return smallInodeSize;
  const extra = view.getUint16(offset + smallInodeSize, true);
  if (extra > superblock.inodeSizeBytes - smallInodeSize || extra % 4 !== 0) {
    throw corrupt(`inode ${number} has ${extra} bytes of further fields`);
  }
  return smallInodeSize + extra;
}

/**
 * Where the fields of times and version end. Linux takes an inode that has room for further fields, and says that it
 * has none of them, for one that has all (__ext4_iget), but only after checksum, project and attributes.
 */
function timesEndOf({ inodeSizeBytes }: Superblock, fixedSizeBytes: number): number {
  const isUnsaid = fixedSizeBytes === smallInodeSize && inodeSizeBytes > smallInodeSize;
  return isUnsaid ? allFieldsSize : fixedSizeBytes;
}

function verifyInode(
  superblock: Superblock,
  number: number,
  block: Region,
  offset: number,
  seed: number,
  hasHigh: boolean,
): void {
  const { inodeSizeBytes } = superblock;
  let stored = block.u16(offset + inodeChecksumLowOffset);
  if (hasHigh) stored += block.u16(offset + inodeChecksumHighOffset) * 65_536;
  if (inodeChecksum(block.bytes, offset, inodeSizeBytes, seed, hasHigh) !== stored) {
    throw corrupt(`the checksum of inode ${number} is wrong`);
  }
}

/** Of the `sizeBytes` of an inode, continued from its own seed; 16 bits when it has no room for the upper half. */
export function inodeChecksum(
  bytes: Uint8Array,
  start: number,
  sizeBytes: number,
  seed: number,
  hasHigh: boolean,
): number {
  let crc = crc32c(seed, bytes, start, start + inodeChecksumLowOffset);
  crc = crc32cZeros(crc, 2);
  let next = inodeChecksumLowOffset + 2;
  if (hasHigh) {
    crc = crc32c(crc, bytes, start + next, start + inodeChecksumHighOffset);
    crc = crc32cZeros(crc, 2);
    next = inodeChecksumHighOffset + 2;
  }
  crc = crc32c(crc, bytes, start + next, start + sizeBytes);
  return hasHigh ? crc : crc & 0xffff;
}

/** What the checksums of an inode, and of what belongs to it, continue from. */
export function inodeChecksumSeed(superblock: Superblock, number: number, generation: number) {
  return crc32cWord(crc32cWord(superblock.checksumSeed, number), generation);
}

/** 34 bits of seconds and 30 of nanoseconds (ext4_decode_extra_time); 1901 to 2446. */
function decodeTime(low: number, extra: number): Timestamp {
  return {
    seconds: low + (extra & 3) * twoTo32,
    nanoseconds: Math.min(extra >>> 2, 999_999_999),
  };
}

/** new_decode_dev and old_decode_dev of the kernel. */
function decodeDevice(view: DataView, pointersAt: number): { major: number; minor: number } {
  const old = view.getUint32(pointersAt, true);
  if (old !== 0) return { major: (old >>> 8) & 0xff, minor: old & 0xff };
  const device = view.getUint32(pointersAt + 4, true);
  return { major: (device & 0xfff00) >>> 8, minor: (device & 0xff) | ((device >>> 12) & 0xfff00) };
}

function sizeOf(
  superblock: Superblock,
  number: number,
  type: Inode['type'],
  flags: number,
  view: DataView,
  offset: number,
): number {
  const wide =
    type === 'file' || (type === 'directory' && superblock.features.names.has('large_dir'));
  const high = wide ? view.getUint32(offset + 0x6c, true) : 0;
  const sizeBytes = view.getUint32(offset + 0x4, true) + high * twoTo32;
  if (sizeBytes > sizeMaxBytes(superblock, flags)) {
    throw corrupt(`inode ${number} has ${sizeBytes} bytes, more than its blocks can hold`);
  }
  return sizeBytes;
}

/** The largest content that extents or block pointers can name (ext4_max_size, ext4_max_bitmap_size). */
function sizeMaxBytes(superblock: Superblock, flags: number): number {
  const { blockSizeBytes } = superblock;
  if ((flags & InodeFlag.extents) !== 0) return (twoTo32 - 1) * blockSizeBytes;
  return Math.min(indirectBlocksMax(blockSizeBytes), twoTo32 - 1) * blockSizeBytes;
}

/** Blocks that 12 direct and three indirect pointers reach. */
export function indirectBlocksMax(blockSizeBytes: number): number {
  const perBlock = blockSizeBytes / 4;
  return 12 + perBlock + perBlock ** 2 + perBlock ** 3;
}

/** i_blocks in units of 512 bytes. */
export function sectorsOf(
  superblock: Superblock,
  flags: number,
  view: DataView,
  offset: number,
): number {
  const low = view.getUint32(offset + 0x1c, true);
  if (!superblock.features.names.has('huge_file')) return low;
  const blocks = low + view.getUint16(offset + 0x74, true) * twoTo32;
  return (flags & InodeFlag.hugeFile) === 0 ? blocks : blocks * (superblock.blockSizeBytes / 512);
}
