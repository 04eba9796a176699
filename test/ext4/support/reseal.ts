/**
 * Computes the checksums of a damaged image again, as an attacker does: of superblock, descriptors, inodes, extent
 * nodes, blocks and indexes of directories, and attribute blocks. Where they are is known from the sound image.
 */
import type { BlockDevice } from '../../../src/ext4/block-device.ts';
import { crc32c, crc32cWord, crc32cZeros } from '../../../src/ext4/checksum.ts';
import { inodeChecksumSeed } from '../../../src/ext4/loaded-inode.ts';
import { openParts } from '../../../src/ext4/parts.ts';
import type { Parts } from '../../../src/ext4/parts.ts';
import { viewOf } from '../../../src/ext4/region.ts';
import { sealDescriptor, sealDirectory, sealExtents, sealInode } from '../../../src/ext4/seal.ts';
import { openVolume } from '../../../src/ext4/volume.ts';
import { walkVolume } from './walk.ts';

export interface Range {
  readonly offset: number;
  readonly sizeBytes: number;
}

interface Place extends Range {
  seal(bytes: Uint8Array): void;
}

const extentMagic = 0xf30a;
const attributeMagic = 0xea020000;

export class Resealer {
  readonly #image: Uint8Array;
  /** By block of 1 KiB. */
  readonly #places = new Map<number, Place[]>();

  constructor(image: Uint8Array, device: BlockDevice) {
    this.#image = image;
    const parts = openParts(device, {});
    this.#add({ offset: 1024, sizeBytes: 1024, seal: sealSuperblock });
    this.#addGroups(parts);
    this.#addOwned(device, parts);
    this.#addAttributes(parts);
  }

  /** What has to be sealed after these bytes were changed. */
  touched(changed: readonly Range[]): Place[] {
    const found = new Set<Place>();
    for (const { offset, sizeBytes } of changed) {
      const end = offset + sizeBytes;
      for (let key = offset >>> 10; key <= (end - 1) >>> 10; key += 1) {
        for (const place of this.#places.get(key) ?? []) {
          if (place.offset < end && offset < place.offset + place.sizeBytes) found.add(place);
        }
      }
    }
    return [...found];
  }

  /** Everything: a sound image stays as it is. */
  sealAll(): void {
    for (const place of new Set([...this.#places.values()].flat())) this.seal(place);
  }

  seal(place: Place): void {
    place.seal(this.#image.subarray(place.offset, place.offset + place.sizeBytes));
  }

  #add(place: Place): void {
    const last = (place.offset + place.sizeBytes - 1) >>> 10;
    for (let key = place.offset >>> 10; key <= last; key += 1) {
      const places = this.#places.get(key);
      if (places === undefined) this.#places.set(key, [place]);
      else places.push(place);
    }
  }

  #addGroups({ image, groups }: Parts): void {
    const { superblock } = image;
    const { blockSizeBytes, inodesPerGroup, inodeSizeBytes } = superblock;
    for (let group = 0; group < superblock.groupCount; group += 1) {
      const { blockNumber, offset } = groups.place(group);
      this.#add({
        offset: blockNumber * blockSizeBytes + offset,
        sizeBytes: superblock.descriptorSizeBytes,
        seal: (bytes) => {
          sealDescriptor(superblock, group, bytes);
        },
      });
      const table = groups.descriptor(group).inodeTable * blockSizeBytes;
      for (let index = 0; index < inodesPerGroup; index += 1) {
        const number = group * inodesPerGroup + index + 1;
        this.#add({
          offset: table + index * inodeSizeBytes,
          sizeBytes: inodeSizeBytes,
          // One that was never used has none.
          seal: (bytes) => {
            if (viewOf(bytes).getUint16(0, true) !== 0) sealInode(superblock, number, bytes);
          },
        });
      }
    }
  }

  /** Blocks of directories and of extent trees, with the seed of their inode. */
  #addOwned(device: BlockDevice, { image }: Parts): void {
    const { superblock } = image;
    const sizeBytes = superblock.blockSizeBytes;
    const volume = openVolume(device);
    for (const { inode } of walkVolume(volume)) {
      const seed = inodeChecksumSeed(superblock, inode.number, inode.generation);
      if (inode.type === 'directory') {
        for (const { logicalBlock, physicalBlock, blockCount } of volume.extents(inode)) {
          for (let at = 0; at < blockCount; at += 1) {
            const isFirst = logicalBlock + at === 0;
            const seal = (bytes: Uint8Array): void => {
              sealDirectoryBlock(
                image.superblock,
                seed,
                bytes,
                isFirst && (inode.flags & 0x1000) !== 0,
              );
            };
            this.#add({ offset: (physicalBlock + at) * sizeBytes, sizeBytes, seal });
          }
        }
      }
      const seal = (bytes: Uint8Array): void => {
        sealExtents(superblock, seed, bytes);
      };
      const root = image.rawInode(inode.number);
      if (root.u16(0x28) !== extentMagic) continue;
      for (const block of extentNodes(
        root.slice(0x28, 60),
        (node) => image.cache.block(node).bytes,
      )) {
        this.#add({ offset: block * sizeBytes, sizeBytes, seal });
      }
    }
  }

  #addAttributes({ image }: Parts): void {
    const { blockCount, blockSizeBytes: sizeBytes, checksumSeed } = image.superblock;
    const view = viewOf(this.#image);
    for (let block = 1; block < blockCount; block += 1) {
      if (view.getUint32(block * sizeBytes, true) !== attributeMagic) continue;
      const seal = (bytes: Uint8Array): void => {
        let crc = crc32cWord(crc32cWord(checksumSeed, block), 0);
        crc = crc32c(crc, bytes, 0, 16);
        crc = crc32c(crc32cZeros(crc, 4), bytes, 20, bytes.length);
        viewOf(bytes).setUint32(16, crc, true);
      };
      this.#add({ offset: block * sizeBytes, sizeBytes, seal });
    }
  }
}

function sealSuperblock(bytes: Uint8Array): void {
  viewOf(bytes).setUint32(1020, crc32c(0xffffffff, bytes, 0, 1020), true);
}

/** A leaf, or the root or a node of an index, whichever it looks like. */
function sealDirectoryBlock(
  superblock: Parts['image']['superblock'],
  seed: number,
  bytes: Uint8Array,
  isRoot: boolean,
): void {
  const view = viewOf(bytes);
  const isNode = view.getUint32(0, true) === 0 && view.getUint16(4, true) === bytes.length;
  if (!isRoot && !isNode) {
    sealDirectory(superblock, seed, bytes);
    return;
  }
  const offset = isRoot ? 32 : 8;
  const tail = offset + view.getUint16(offset, true) * 8;
  const end = offset + view.getUint16(offset + 2, true) * 8;
  if (tail + 8 > bytes.length || end > tail) return;
  const crc = crc32c(crc32c(seed, bytes, 0, end), bytes, tail, tail + 4);
  view.setUint32(tail + 4, crc32cZeros(crc, 4), true);
}

function* extentNodes(node: Uint8Array, bytesOf: (block: number) => Uint8Array): Generator<number> {
  const view = viewOf(node);
  if (view.getUint16(6, true) === 0) return;
  for (let entry = 0; entry < view.getUint16(2, true); entry += 1) {
    const block = view.getUint32(12 + entry * 12 + 4, true);
    yield block;
    yield* extentNodes(bytesOf(block), bytesOf);
  }
}
