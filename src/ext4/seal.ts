/** Writes the checksums of structures that were changed in memory, where the file system has them. */
import { crc32c } from './checksum.ts';
import { tailSize, tailType } from './directory-block.ts';
import { extentTailOffset } from './extents.ts';
import { descriptorChecksum, descriptorChecksumOffset } from './groups.ts';
import {
  inodeChecksum,
  inodeChecksumHighOffset,
  inodeChecksumLowOffset,
  inodeChecksumSeed,
  smallInodeSize,
} from './loaded-inode.ts';
import { viewOf } from './region.ts';
import type { Superblock } from './superblock.ts';

function hasChecksums(superblock: Superblock): boolean {
  return superblock.features.names.has('metadata_csum');
}

/** `bytes`: all of an inode. */
export function sealInode(superblock: Superblock, number: number, bytes: Uint8Array): void {
  if (!hasChecksums(superblock)) return;
  const view = viewOf(bytes);
  const seed = inodeChecksumSeed(superblock, number, view.getUint32(0x64, true));
  const extra = bytes.length > smallInodeSize ? view.getUint16(smallInodeSize, true) : 0;
  const hasHigh = smallInodeSize + extra >= inodeChecksumHighOffset + 2;
  const crc = inodeChecksum(bytes, 0, bytes.length, seed, hasHigh);
  view.setUint16(inodeChecksumLowOffset, crc & 0xffff, true);
  if (hasHigh) view.setUint16(inodeChecksumHighOffset, crc >>> 16, true);
}

/** `bytes`: a block of an extent tree, below the root. */
export function sealExtents(superblock: Superblock, inodeSeed: number, bytes: Uint8Array): void {
  if (!hasChecksums(superblock)) return;
  const view = viewOf(bytes);
  const at = extentTailOffset(view.getUint16(4, true));
  if (at + 4 <= bytes.length) view.setUint32(at, crc32c(inodeSeed, bytes, 0, at), true);
}

/** Bytes at the end of a block of a directory that entries do not get. */
export function directoryTailBytes(superblock: Superblock): number {
  return hasChecksums(superblock) ? tailSize : 0;
}

/** `bytes`: a block of entries of a directory, not of its index. */
export function sealDirectory(superblock: Superblock, inodeSeed: number, bytes: Uint8Array): void {
  if (!hasChecksums(superblock)) return;
  const view = viewOf(bytes);
  const tail = bytes.length - tailSize;
  view.setUint32(tail, 0, true);
  view.setUint16(tail + 4, tailSize, true);
  view.setUint8(tail + 6, 0);
  view.setUint8(tail + 7, tailType);
  view.setUint32(tail + 8, crc32c(inodeSeed, bytes, 0, tail), true);
}

/** `bytes`: all of a group descriptor. */
export function sealDescriptor(superblock: Superblock, group: number, bytes: Uint8Array): void {
  const crc = descriptorChecksum(superblock, group, bytes);
  if (crc !== undefined) viewOf(bytes).setUint16(descriptorChecksumOffset, crc, true);
}
