/**
 * Which inodes have extended attributes at all, found by looking at three fields of each inode instead of decoding it:
 * answers for a whole file system what would be one question for each file.
 */
import { ebbError } from '../base/errors.ts';
import type { GroupTable } from './groups.ts';
import type { Image } from './image.ts';
import type { CachedBlock } from './block-cache.ts';
import { smallInodeSize } from './loaded-inode.ts';

/** Of 256 bytes these are 64 MiB of inode tables: some tens of milliseconds when they are in memory. */
const inodesMax = 262_144;
const attributeMagic = 0xea020000;

/**
 * Numbers of inodes in use that have attributes, or fields that cannot be right, rising. Throws EFBIG when the tables
 * are too large to go through, EUCLEAN when a descriptor or table is damaged.
 */
export function* attributedInodes(image: Image, groups: GroupTable): Generator<number> {
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
      if (mayHaveAttributes(block, inBlock * inodeSizeBytes, inodeSizeBytes)) {
        yield group * inodesPerGroup + index + 1;
      }
    }
  }
}

function mayHaveAttributes(block: CachedBlock, offset: number, inodeSizeBytes: number): boolean {
  const mode = block.u16(offset);
  const links = block.u16(offset + 0x1a);
  if (mode === 0 || links === 0) return false;
  if (block.u32(offset + 0x68) !== 0 || block.u16(offset + 0x76) !== 0) return true;
  if (inodeSizeBytes === smallInodeSize) return false;
  const at = smallInodeSize + block.u16(offset + smallInodeSize);
  return at + 4 > inodeSizeBytes || block.u32(offset + at) === attributeMagic;
}
