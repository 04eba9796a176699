/** Content of files: straight from the device into the reader's buffer. */
import type { DeviceRange } from './block-device.ts';
import { corrupt } from './errors.ts';
import type { Image } from './image.ts';
import { readInline } from './inline-data.ts';
import { pointersOf } from './loaded-inode.ts';
import type { LoadedInode } from './loaded-inode.ts';

/** Fills `into`, which must not reach behind the end of the file. Holes are zeros. */
export function readContent(
  image: Image,
  inode: LoadedInode,
  offsetBytes: number,
  into: Uint8Array,
): void {
  if (inode.inlineData) {
    readInline(image, inode, offsetBytes, into);
    return;
  }
  const { blockSizeBytes } = image.superblock;
  let done = 0;
  while (done < into.length) {
    const position = offsetBytes + done;
    const logicalBlock = Math.floor(position / blockSizeBytes);
    const skipped = position - logicalBlock * blockSizeBytes;
    const run = image.map.run(inode, logicalBlock);
    const sizeBytes = Math.min(run.blockCount * blockSizeBytes - skipped, into.length - done);
    const part = into.subarray(done, done + sizeBytes);
    if (run.physicalBlock === undefined || run.unwritten) part.fill(0);
    else image.device.read(run.physicalBlock * blockSizeBytes + skipped, part);
    done += sizeBytes;
  }
}

/** Ranges of one hint. */
const prefetchRangesMax = 256;

/** Says to the device which of its ranges hold this part of a file. Throws what looking them up throws. */
export function prefetchContent(
  image: Image,
  inode: LoadedInode,
  offsetBytes: number,
  lengthBytes: number,
): void {
  if (image.device.prefetch === undefined) return;
  const { blockSizeBytes } = image.superblock;
  const end = Math.ceil(Math.min(offsetBytes + lengthBytes, inode.sizeBytes) / blockSizeBytes);
  const ranges: DeviceRange[] = [];
  try {
    for (let at = Math.floor(offsetBytes / blockSizeBytes); at < end;) {
      const run = image.map.run(inode, at);
      const count = Math.min(run.blockCount, end - at);
      if (run.physicalBlock !== undefined && !run.unwritten) {
        const offset = run.physicalBlock * blockSizeBytes;
        ranges.push({ offsetBytes: offset, sizeBytes: count * blockSizeBytes });
        if (ranges.length === prefetchRangesMax) return;
      }
      at += count;
    }
  } finally {
    // Also what was found before a part of the map that is not here.
    if (ranges.length > 0) image.device.prefetch(ranges);
  }
}

const targetMaxBytes = 4095;

/** Target of a symlink that is not encrypted: in the inode, or in a block. */
export function readTarget(image: Image, inode: LoadedInode): Uint8Array {
  const { sizeBytes } = inode;
  const isInside = isFast(image, inode);
  if (sizeBytes < 1 || sizeBytes > Math.min(targetMaxBytes, isInside ? 59 : targetMaxBytes)) {
    throw corrupt(`symlink ${inode.number} has a target of ${sizeBytes} bytes`);
  }
  let target: Uint8Array;
  if (isInside) {
    const pointers = pointersOf(inode);
    // What stands there is longer: where that leads nobody meant (ext4_iget of Linux 6.13 and later).
    if (pointers.u8(sizeBytes) !== 0) throw corrupt(`symlink ${inode.number} does not end`);
    target = pointers.slice(0, sizeBytes).slice();
  } else {
    target = new Uint8Array(sizeBytes);
    readContent(image, inode, 0, target);
  }
  if (target.includes(0)) throw corrupt(`symlink ${inode.number} has a NUL in its target`);
  return target;
}

/** Whether the inode's pointers lead to blocks: not in special files, short symlinks, inline content. */
export function hasBlocks(image: Image, inode: LoadedInode): boolean {
  if (inode.inlineData) return false;
  if (inode.type === 'symlink') return !isFast(image, inode);
  return inode.type === 'file' || inode.type === 'directory';
}

/** ext4_inode_is_fast_symlink. */
function isFast(image: Image, inode: LoadedInode): boolean {
  if (inode.inlineData) return false;
  const { features, clusterSizeBytes } = image.superblock;
  if (features.names.has('ea_inode')) return inode.sizeBytes < 60;
  const attributeSectors = inode.attributeBlock === 0 ? 0 : clusterSizeBytes / 512;
  return inode.allocatedSectors - attributeSectors === 0;
}
