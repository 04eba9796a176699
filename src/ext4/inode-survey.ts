/**
 * What holds for the inodes of a whole file system, found by looking at a few fields of each instead of decoding it:
 * answers at once what would be one question for each file.
 */
import { ebbError } from '../base/errors.ts';
import type { GroupTable } from './groups.ts';
import type { Image } from './image.ts';
import type { CachedBlock } from './block-cache.ts';
import type { FileSizes } from './contract.ts';
import { smallInodeSize } from './loaded-inode.ts';

/** Of 256 bytes these are 64 MiB of inode tables: some tens of milliseconds when they are in memory. */
const inodesMax = 262_144;
const attributeMagic = 0xea020000;
const fileType = 0x8;

type Visitor = (number: number, block: CachedBlock, offset: number) => void;

/**
 * All inodes in use, rising: where each is. Throws EFBIG when the tables are too large to go through, EUCLEAN when a
 * descriptor or table is damaged.
 */
function visitUsedInodes(image: Image, groups: GroupTable, visit: Visitor): void {
  const { groupCount, inodesPerGroup, inodeSizeBytes, blockSizeBytes } = image.superblock;
  const perBlock = blockSizeBytes / inodeSizeBytes;
  let seen = 0;
  for (let group = 0; group < groupCount; group += 1) {
    const { inodeTable, neverUsedInodes } = groups.descriptor(group);
    const count = inodesPerGroup - Math.min(neverUsedInodes, inodesPerGroup);
    seen += count;
    if (seen > inodesMax) throw ebbError('EFBIG', `More than ${inodesMax} inodes`);
    for (let index = 0; index < count; index += 1) {
      const inBlock = index % perBlock;
      const block = image.cache.block(inodeTable + (index - inBlock) / perBlock);
      const offset = inBlock * inodeSizeBytes;
      const mode = block.u16(offset);
      const links = block.u16(offset + 0x1a);
      if (mode !== 0 && links !== 0) visit(group * inodesPerGroup + index + 1, block, offset);
    }
  }
}

/** Numbers of inodes in use that have attributes, or fields that cannot be right, rising. Throws as said above. */
export function attributedInodes(image: Image, groups: GroupTable): number[] {
  const { inodeSizeBytes } = image.superblock;
  const numbers: number[] = [];
  visitUsedInodes(image, groups, (number, block, offset) => {
    if (mayHaveAttributes(block, offset, inodeSizeBytes)) numbers.push(number);
  });
  return numbers;
}

function mayHaveAttributes(block: CachedBlock, offset: number, inodeSizeBytes: number): boolean {
  if (block.u32(offset + 0x68) !== 0 || block.u16(offset + 0x76) !== 0) return true;
  if (inodeSizeBytes === smallInodeSize) return false;
  const at = smallInodeSize + block.u16(offset + smallInodeSize);
  return at + 4 > inodeSizeBytes || block.u32(offset + at) === attributeMagic;
}

/** See `Volume.fileSizes`. The file system's own files (journal, ...) do not count. Throws as said above. */
export function fileSizes(image: Image, groups: GroupTable, largeMinBytes: number): FileSizes {
  const { firstInode } = image.superblock;
  const sizes = { files: 0, largeBytes: 0 };
  visitUsedInodes(image, groups, (number, block, offset) => {
    if (number < firstInode || block.u16(offset) >>> 12 !== fileType) return;
    sizes.files += 1;
    const sizeBytes = block.split(offset + 0x4, block.u32(offset + 0x6c));
    if (sizeBytes >= largeMinBytes) sizes.largeBytes += sizeBytes;
  });
  return sizes;
}
