/** Puts fast commits of one's own into the journal of an image, sealed as the kernel seals them. */
import { memoryDevice } from '../../../src/ext4/block-device.ts';
import { crc32c } from '../../../src/ext4/checksum.ts';
import { decodeJournalSuperblock } from '../../../src/ext4/journal/journal-superblock.ts';
import { openVolume } from '../../../src/ext4/volume.ts';

export interface FastTag {
  readonly tag: number;
  readonly value: Buffer;
}

export const Tag = {
  addRange: 1,
  removeRange: 2,
  create: 3,
  link: 4,
  unlink: 5,
  inode: 6,
  pad: 7,
} as const;
const tailTag = 8;
const headTag = 9;

export function words(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, index) => bytes.writeUInt32LE(value >>> 0, index * 4));
  return bytes;
}

export function nameTag(tag: number, parent: number, inode: number, name: string): FastTag {
  return { tag, value: Buffer.concat([words(parent, inode), Buffer.from(name, 'latin1')]) };
}

export function inodeTag(inode: number, raw: Uint8Array): FastTag {
  return { tag: Tag.inode, value: Buffer.concat([words(inode), raw]) };
}

/** `length`: from 32,769 on unwritten blocks. */
export function addRange(
  inode: number,
  logical: number,
  length: number,
  physical: number,
): FastTag {
  return { tag: Tag.addRange, value: words(inode, logical, length & 0xffff, physical) };
}

/** An image whose journal ends in fast commits that the kernel wrote: they are replaced. */
export class ForgedImage {
  readonly bytes: Buffer;
  /** Where each block of the area is in the image. */
  readonly #places: readonly number[];
  readonly #blockSize: number;
  readonly #sequence: number;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
    const volume = openVolume(memoryDevice(bytes));
    const { blockSizeBytes, journalInode } = volume.superblock;
    const places = [...volume.extents(volume.inode(journalInode))].flatMap((extent) =>
      Array.from(
        { length: extent.blockCount },
        (_, at) => (extent.physicalBlock + at) * blockSizeBytes,
      ),
    );
    const first = places[0] ?? 0;
    const superblock = decodeJournalSuperblock(
      bytes.subarray(first, first + 1024),
      blockSizeBytes,
      places.length,
    );
    this.#blockSize = blockSizeBytes;
    this.#places = places.slice(superblock.logEnd + 1, superblock.blockCount);
    const area = this.#places[0] ?? 0;
    if (bytes.readUInt16LE(area) !== headTag) throw new Error('there are no fast commits');
    this.#sequence = bytes.readUInt32LE(area + 8);
  }

  /** The inode as it is stored in the place of its table, to be changed and put into a tag. */
  rawInode(number: number): Buffer {
    const volume = openVolume(memoryDevice(this.bytes), { verifyChecksums: false });
    const { inodeSizeBytes, blockSizeBytes, inodesPerGroup } = volume.superblock;
    if (number > inodesPerGroup) throw new Error('inodes of the first group only');
    const descriptors = (blockSizeBytes === 1024 ? 2 : 1) * blockSizeBytes;
    const table = this.bytes.readUInt32LE(descriptors + 8) * blockSizeBytes;
    const at = table + (number - 1) * inodeSizeBytes;
    return Buffer.from(this.bytes.subarray(at, at + inodeSizeBytes));
  }

  /** As many of the tags as there is room for, as one commit. */
  commit(tags: readonly FastTag[]): void {
    const area = Buffer.alloc(this.#places.length * this.#blockSize);
    let at = 0;
    let crc = 0;
    const put = (tag: number, value: Buffer, crcBytes = 4 + value.length): void => {
      area.writeUInt16LE(tag, at);
      area.writeUInt16LE(value.length, at + 2);
      value.copy(area, at + 4);
      crc = crc32c(crc, area, at, at + crcBytes);
      at += 4 + value.length;
    };
    const left = (): number => this.#blockSize - (at % this.#blockSize);
    put(headTag, words(0, this.#sequence));
    for (const { tag, value } of tags) {
      // No tag goes over the end of a block; the tail has room behind each.
      if (left() < value.length + 4 + 12 + 4) {
        if (at + left() + this.#blockSize > area.length) break;
        put(Tag.pad, Buffer.alloc(left() - 4));
      }
      put(tag, value);
    }
    const tail = at;
    put(tailTag, Buffer.concat([words(this.#sequence), Buffer.alloc(left() - 8)]), 8);
    area.writeUInt32LE(crc, tail + 8);
    this.#places.forEach((place, index) => {
      area.copy(this.bytes, place, index * this.#blockSize, (index + 1) * this.#blockSize);
    });
  }
}
