/** Blocks of directories: which form they have, and whether their checksum is right. */
import type { CachedBlock } from './block-cache.ts';
import { crc32c, crc32cZeros } from './checksum.ts';
import { corrupt } from './errors.ts';
import type { Image } from './image.ts';
import { InodeFlag } from './loaded-inode.ts';
import type { LoadedInode } from './loaded-inode.ts';

export const tailSize = 12;
export const tailType = 0xde;
/** `verifiedLow` of blocks of directories: extent nodes use numbers from 0 on. */
const verifiedAsDirectory = -1;

/** Where the limit, the count and the entries of an index block are: after two entries, or after one. */
const rootIndexOffset = 32;
const nodeIndexOffset = 8;

/** A block of a directory, its checksum verified. */
export function directoryBlock(
  image: Image,
  inode: LoadedInode,
  logicalBlock: number,
  physicalBlock: number,
): CachedBlock {
  const block = image.map.node(inode, physicalBlock);
  if (!image.verifyChecksums) return block;
  const place = logicalBlock === 0 ? 1 : 0;
  if (
    block.verifiedFor === inode.number &&
    block.verifiedLow === verifiedAsDirectory &&
    block.verifiedHigh === place
  ) {
    return block;
  }
  const offset = indexOffset(inode, block, logicalBlock);
  const isRight =
    (offset !== undefined && indexChecksumIsRight(inode, block, offset)) ||
    leafChecksumIsRight(inode, block);
  if (!isRight) throw corrupt(`the checksum of block ${block.number} of a directory is wrong`);
  block.verifiedFor = inode.number;
  block.verifiedLow = verifiedAsDirectory;
  block.verifiedHigh = place;
  return block;
}

/** Where the index in this block begins; undefined for a block of entries (get_dx_countlimit). */
export function indexOffset(
  inode: LoadedInode,
  block: CachedBlock,
  logicalBlock: number,
): number | undefined {
  if ((inode.flags & InodeFlag.index) === 0) return undefined;
  if (logicalBlock === 0) return rootIndexOffset;
  const first = block.u16(4);
  const fillsBlock =
    first === block.sizeBytes ||
    (block.sizeBytes === 65_536 && (first === 0 || first === 0xffff || first === 1));
  return block.u32(0) === 0 && fillsBlock ? nodeIndexOffset : undefined;
}

function leafChecksumIsRight(inode: LoadedInode, block: CachedBlock): boolean {
  const tail = block.sizeBytes - tailSize;
  return (
    block.u32(tail) === 0 &&
    block.u16(tail + 4) === tailSize &&
    block.u8(tail + 6) === 0 &&
    block.u8(tail + 7) === tailType &&
    crc32c(inode.checksumSeed, block.bytes, 0, tail) === block.u32(tail + 8)
  );
}

function indexChecksumIsRight(inode: LoadedInode, block: CachedBlock, offset: number): boolean {
  const limit = block.u16(offset);
  const count = block.u16(offset + 2);
  const tail = offset + limit * 8;
  if (count > limit || tail + 8 > block.sizeBytes) return false;
  let crc = crc32c(inode.checksumSeed, block.bytes, 0, offset + count * 8);
  crc = crc32c(crc, block.bytes, tail, tail + 4);
  return crc32cZeros(crc, 4) === block.u32(tail + 4);
}
