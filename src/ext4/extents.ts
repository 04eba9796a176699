/** Extent trees (Documentation/filesystems/ext4/ifork.rst). */
import type { CachedBlock } from './block-cache.ts';
import type { Run } from './contract.ts';
import { crc32c } from './checksum.ts';
import { corrupt } from './errors.ts';
import { pointersOf } from './loaded-inode.ts';
import type { LoadedInode } from './loaded-inode.ts';
import type { Region } from './region.ts';

export const extentMagic = 0xf30a;
const depthMax = 5;
export const headerSize = 12;
export const entrySize = 12;
/** From this length on an extent is unwritten, and this much shorter. */
export const initializedLengthMax = 32_768;
const logicalBlocksMax = 2 ** 32;

/**
 * What is at `logicalBlock`. `node` gives a block of the tree, checked to lie where it may.
 */
export function extentRun(
  inode: LoadedInode,
  logicalBlock: number,
  verifyChecksum: boolean,
  node: (block: number) => CachedBlock,
): Run {
  let region: Region = pointersOf(inode);
  let depth = region.u16(6);
  if (depth > depthMax) throw corrupt(`the extents of inode ${inode.number} are ${depth} deep`);
  // What this node is responsible for: [low, high).
  let low = 0;
  let high = logicalBlocksMax;
  checkNode(inode, region, depth, low, high, true);
  for (; depth > 0; depth -= 1) {
    const at = lastNotAfter(region, logicalBlock);
    if (at < 0) return hole(logicalBlock, Math.min(high, region.u32(headerSize)));
    const entry = headerSize + at * entrySize;
    low = region.u32(entry);
    if (at + 1 < region.u16(2)) high = region.u32(entry + entrySize);
    const block = node(region.split(entry + 4, region.u16(entry + 8)));
    checkBlock(inode, block, depth - 1, low, high, verifyChecksum);
    region = block;
  }
  const at = lastNotAfter(region, logicalBlock);
  const next = at + 1 < region.u16(2) ? region.u32(headerSize + (at + 1) * entrySize) : high;
  if (at < 0) return hole(logicalBlock, next);
  const entry = headerSize + at * entrySize;
  const length = extentLength(region, entry);
  const skipped = logicalBlock - region.u32(entry);
  if (skipped >= length) return hole(logicalBlock, next);
  return {
    physicalBlock: region.split(entry + 8, region.u16(entry + 6)) + skipped,
    blockCount: length - skipped,
    unwritten: region.u16(entry + 4) > initializedLengthMax,
  };
}

function hole(from: number, to: number): Run {
  return { physicalBlock: undefined, blockCount: to - from, unwritten: false };
}

function extentLength(region: Region, entry: number): number {
  const stored = region.u16(entry + 4);
  return stored > initializedLengthMax ? stored - initializedLengthMax : stored;
}

/** Index of the last entry that begins at or before a block, -1 when all begin after it. */
function lastNotAfter(region: Region, logicalBlock: number): number {
  let low = 0;
  let high = region.u16(2);
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (region.u32(headerSize + middle * entrySize) <= logicalBlock) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Where the checksum of a node is, which has room for `max` entries. */
export function extentTailOffset(max: number): number {
  return headerSize + max * entrySize;
}

/** Checks a node below the root once for each place that it is met in. */
function checkBlock(
  inode: LoadedInode,
  block: CachedBlock,
  depth: number,
  low: number,
  high: number,
  verifyChecksum: boolean,
): void {
  if (
    block.verifiedFor === inode.number &&
    block.verifiedLow === low &&
    block.verifiedHigh === high &&
    block.u16(6) === depth
  ) {
    return;
  }
  checkNode(inode, block, depth, low, high, false);
  if (verifyChecksum) {
    const end = extentTailOffset(block.u16(4));
    if (crc32c(inode.checksumSeed, block.bytes, 0, end) !== block.u32(end)) {
      throw corrupt(`the checksum of extent block ${block.number} is wrong`);
    }
  }
  block.verifiedFor = inode.number;
  block.verifiedLow = low;
  block.verifiedHigh = high;
}

/**
 * Header, and entries that rise, do not overlap and stay in what their parent gave them: so a node
 * with entries cannot be met twice in one tree, and no walk is longer than the tree. Below the root
 * they begin where the parent says (ext4_valid_extent_entries): a parent that says too little would
 * send blocks of the node before to this one, which knows nothing of them and makes a hole of them.
 */
function checkNode(
  inode: LoadedInode,
  region: Region,
  depth: number,
  low: number,
  high: number,
  isRoot: boolean,
): void {
  const wrong = (what: string): Error => corrupt(`an extent node of inode ${inode.number} ${what}`);
  const entries = region.u16(2);
  const max = region.u16(4);
  if (region.u16(0) !== extentMagic) throw wrong('has no magic number');
  if (region.u16(6) !== depth) throw wrong(`has depth ${region.u16(6)}, not ${depth}`);
  if (max < 1 || headerSize + max * entrySize > region.sizeBytes) {
    throw wrong(`has room for ${max} entries`);
  }
  if (entries > max) throw wrong(`has ${entries} of ${max} entries`);
  if (entries === 0 && depth > 0) throw wrong('is an index without entries');
  if (!isRoot && entries > 0 && region.u32(headerSize) !== low) {
    throw wrong(`does not begin at block ${low}`);
  }
  let end = low;
  for (let at = headerSize; at < headerSize + entries * entrySize; at += entrySize) {
    const start = region.u32(at);
    if (start < end) throw wrong('has entries that overlap');
    const length = depth === 0 ? extentLength(region, at) : 1;
    if (length === 0) throw wrong('has an empty extent');
    end = start + length;
    if (end > high) throw wrong(`reaches to block ${end}`);
  }
}
