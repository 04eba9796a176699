/**
 * Extended attributes as stored: a row of entries, and values from the other end
 * (Documentation/filesystems/ext4/attributes.rst). In the inode behind its fields, or in a block
 * that several inodes may share.
 */
import { crc32c, crc32cWord, crc32cZeros } from './checksum.ts';
import { corrupt } from './errors.ts';
import type { Image } from './image.ts';
import type { LoadedInode } from './loaded-inode.ts';
import type { Region } from './region.ts';

const magic = 0xea020000;
const entryHeaderSize = 16;
const inlineHeaderSize = 4;
const blockHeaderSize = 32;
const checksumOffset = 16;
const reservedValueInode = 0;
/** `verifiedFor` of blocks of attributes, which belong to no single inode. */
const verifiedForAll = -1;
export const valueMaxBytes = 65_536;

export interface StoredAttribute {
  readonly nameIndex: number;
  /** Without the prefix that the index stands for; a view. */
  readonly name: Uint8Array;
  /** Inode that holds the value, 0 when it is here. */
  readonly valueInode: number;
  readonly valueSizeBytes: number;
  /** The value if it is here, else empty; a view. */
  readonly storedValue: Uint8Array;
}

/** Attributes in the inode itself; `raw` are all of its bytes. */
export function* inlineAttributes(
  image: Image,
  inode: LoadedInode,
  raw: Region,
): Generator<StoredAttribute> {
  const start = inode.fixedSizeBytes;
  const sizeBytes = image.superblock.inodeSizeBytes - start;
  // The kernel looks for them only where there are further fields, of which the length says where.
  if (start === 128 || sizeBytes < inlineHeaderSize + 4 || raw.u32(start) !== magic) return;
  const from = start + inlineHeaderSize;
  const region = raw.part(from, sizeBytes - inlineHeaderSize);
  yield* storedAttributes(inode, region, 0);
}

/** Attributes in the block of the inode, if it has one. */
export function* blockAttributes(image: Image, inode: LoadedInode): Generator<StoredAttribute> {
  if (inode.attributeBlock === 0) return;
  const block = image.map.node(inode, inode.attributeBlock);
  if (block.u32(0) !== magic || block.u32(8) !== 1) {
    throw corrupt(`block ${block.number} holds no attributes, as inode ${inode.number} says`);
  }
  if (image.verifyChecksums && block.verifiedFor !== verifiedForAll) {
    let crc = crc32cWord(image.superblock.checksumSeed, block.number);
    crc = crc32cWord(crc, Math.floor(block.number / 2 ** 32));
    crc = crc32c(crc, block.bytes, 0, checksumOffset);
    crc = crc32cZeros(crc, 4);
    crc = crc32c(crc, block.bytes, checksumOffset + 4, block.sizeBytes);
    if (crc !== block.u32(checksumOffset)) {
      throw corrupt(`the checksum of attribute block ${block.number} is wrong`);
    }
    block.verifiedFor = verifiedForAll;
  }
  yield* storedAttributes(inode, block, blockHeaderSize);
}

/** Entries from `start` on; offsets of values count from the start of the region (check_xattrs). */
function* storedAttributes(
  inode: LoadedInode,
  region: Region,
  start: number,
): Generator<StoredAttribute> {
  const wrong = (what: string): Error => corrupt(`an attribute of inode ${inode.number} ${what}`);
  const endOfNames = findEnd(region, start, wrong);
  for (let at = start; at < endOfNames;) {
    const nameLength = region.u8(at);
    const valueOffset = region.u16(at + 2);
    const valueInode = region.u32(at + 4);
    const valueSizeBytes = region.u32(at + 8);
    const name = region.slice(at + entryHeaderSize, nameLength);
    if (name.includes(0)) throw wrong('has a NUL in its name');
    if (valueSizeBytes > valueMaxBytes) throw wrong(`has ${valueSizeBytes} bytes`);
    const isHere = valueInode === reservedValueInode;
    if (isHere && valueSizeBytes > 0 && valueOffset < endOfNames + 4) {
      throw wrong('has its value among the names');
    }
    const storedValue =
      isHere && valueSizeBytes > 0 ? region.slice(valueOffset, valueSizeBytes) : new Uint8Array(0);
    yield { nameIndex: region.u8(at + 1), name, valueInode, valueSizeBytes, storedValue };
    at += entrySize(nameLength);
  }
}

function entrySize(nameLength: number): number {
  return (entryHeaderSize + nameLength + 3) & ~3;
}

/** Four zero bytes end the names. */
function findEnd(region: Region, start: number, wrong: (what: string) => Error): number {
  let at = start;
  while (region.u32(at) !== 0) {
    const next = at + entrySize(region.u8(at));
    if (next + 4 > region.sizeBytes) throw wrong('has no end');
    at = next;
  }
  return at;
}
