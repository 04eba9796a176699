/**
 * Damages images on purpose, where it hurts: in superblocks, descriptors, inodes, extent nodes,
 * pointers, directories, indexes and attributes, with values that parsers stumble over. What was
 * changed can be put back, so that one image serves for all inputs.
 */
import type { BlockDevice } from '../../../src/ext4/block-device.ts';
import { openVolume } from '../../../src/ext4/volume.ts';
import type { Resealer } from './reseal.ts';
import { walkVolume } from './walk.ts';

/** Random numbers that a seed repeats (mulberry32). */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 <= result < 2^32 */
  word(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }

  below(count: number): number {
    return this.word() % count;
  }

  of<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)]!;
  }
}

/** A place that is worth damaging: a structure, or a row of equal ones. */
export interface Target {
  readonly offset: number;
  readonly sizeBytes: number;
  /** Size of what stands in it side by side (entries, descriptors). */
  readonly step: number;
}

const blockMagics = [0xf30a, 0xea020000];

/** Looks the places up in a sound image. */
export function findTargets(image: Uint8Array, device: BlockDevice): Target[] {
  const volume = openVolume(device);
  const { blockSizeBytes, firstInode, inodeSizeBytes, blockCount } = volume.superblock;
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const groupBlock = blockSizeBytes === 1024 ? 2 : 1;
  const wide = volume.superblock.features.has('64bit');
  const descriptor = groupBlock * blockSizeBytes;
  const table = view.getUint32(descriptor + 8, true) * blockSizeBytes;
  const targets: Target[] = [
    { offset: 1024, sizeBytes: 1024, step: 4 },
    { offset: 1024, sizeBytes: 0x180, step: 4 },
    { offset: descriptor, sizeBytes: wide ? 64 : 32, step: 4 },
    { offset: table, sizeBytes: (firstInode + 20) * inodeSizeBytes, step: 4 },
    // Those without a name, too: values of attributes.
    { offset: table, sizeBytes: volume.superblock.inodesPerGroup * inodeSizeBytes, step: 4 },
  ];
  const blocks = new Set<number>();
  for (const { inode } of walkVolume(volume)) {
    const own = table + (inode.number - 1) * inodeSizeBytes;
    const isInFirstGroup = inode.number <= volume.superblock.inodesPerGroup;
    if (isInFirstGroup) {
      targets.push({ offset: own, sizeBytes: inodeSizeBytes, step: 4 });
      targets.push({ offset: own + 0x28, sizeBytes: 60, step: 4 });
    }
    if (inode.type === 'directory') {
      for (const { physicalBlock, blockCount } of volume.extents(inode)) {
        for (let index = 0; index < blockCount; index += 1) blocks.add(physicalBlock + index);
      }
    }
    // Blocks of pointers, of files without extents.
    if (inode.type === 'file' && (inode.flags & 0x80000) === 0 && isInFirstGroup) {
      for (const slot of [12, 13, 14]) {
        const block = view.getUint32(own + 0x28 + slot * 4, true);
        if (block > 0 && block < blockCount) blocks.add(block);
      }
    }
  }
  for (let block = 1; block < blockCount; block += 1) {
    const at = block * blockSizeBytes;
    const magic = view.getUint32(at, true);
    if (blockMagics.includes(magic) || (magic & 0xffff) === 0xf30a) blocks.add(block);
  }
  for (const block of blocks) {
    const offset = block * blockSizeBytes;
    targets.push({ offset, sizeBytes: blockSizeBytes, step: 4 });
    targets.push({ offset, sizeBytes: 64, step: 4 });
  }
  return targets;
}

const words = [
  0, 1, 2, 7, 8, 11, 12, 0x7f, 0x80, 0xff, 0x100, 0x3ff, 0x400, 0x7fff, 0x8000, 0x8001,
];
const wideWords = [
  0xffff, 0x10000, 0xf30a, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff, 0xea020000,
];

/** Changes an image in place; `undo` gives the bytes back. */
export class Mutator {
  readonly #image: Uint8Array;
  readonly #view: DataView;
  readonly #targets: readonly Target[];
  readonly #blockSizeBytes: number;
  #undo: { readonly offset: number; readonly bytes: Uint8Array }[] = [];

  constructor(image: Uint8Array, targets: readonly Target[], blockSizeBytes: number) {
    this.#image = image;
    this.#view = new DataView(image.buffer, image.byteOffset, image.byteLength);
    this.#targets = targets;
    this.#blockSizeBytes = blockSizeBytes;
  }

  undo(): void {
    for (const { offset, bytes } of this.#undo.reverse()) this.#image.set(bytes, offset);
    this.#undo = [];
  }

  /** One to eight changes; `resealer` makes the checksums right again. */
  mutate(dice: Dice, resealer?: Resealer): void {
    const changes = 1 + dice.below(dice.below(4) === 0 ? 8 : 3);
    for (let change = 0; change < changes; change += 1) this.#change(dice);
    const changed = this.#undo.map(({ offset, bytes }) => ({ offset, sizeBytes: bytes.length }));
    for (const place of resealer?.touched(changed) ?? []) {
      this.#save(place.offset, place.sizeBytes);
      resealer?.seal(place);
    }
  }

  #save(offset: number, sizeBytes: number): void {
    this.#undo.push({ offset, bytes: this.#image.slice(offset, offset + sizeBytes) });
  }

  #change(dice: Dice): void {
    const target = dice.of(this.#targets);
    const at = (size: number, align: number): number =>
      target.offset + Math.floor(dice.below(target.sizeBytes - size + 1) / align) * align;
    switch (dice.below(7)) {
      case 0: {
        const offset = at(1, 1);
        this.#save(offset, 1);
        this.#image[offset] = this.#image[offset]! ^ (1 << dice.below(8));
        return;
      }
      case 1: {
        const offset = at(1, 1);
        this.#save(offset, 1);
        this.#image[offset] = dice.below(256);
        return;
      }
      case 2: {
        const offset = at(2, 2);
        this.#save(offset, 2);
        this.#view.setUint16(offset, this.#value(dice), true);
        return;
      }
      case 3: {
        const offset = at(4, 4);
        this.#save(offset, 4);
        this.#view.setUint32(offset, this.#value(dice), true);
        return;
      }
      case 4: {
        // A little more or less.
        const offset = at(4, 4);
        this.#save(offset, 4);
        const old = this.#view.getUint32(offset, true);
        this.#view.setUint32(offset, old + dice.of([-8, -4, -1, 1, 4, 8, 12]), true);
        return;
      }
      case 5: {
        // Something of the same kind from elsewhere.
        const other = dice.of(this.#targets);
        const size = Math.min(dice.of([4, 8, 12, 16, 64]), other.sizeBytes, target.sizeBytes);
        const from = other.offset + Math.floor(dice.below(other.sizeBytes - size + 1) / 4) * 4;
        const to = at(size, 4);
        this.#save(to, size);
        this.#image.copyWithin(to, from, from + size);
        return;
      }
      default: {
        // A whole structure replaced by another one.
        const other = dice.of(this.#targets);
        const size = Math.min(other.sizeBytes, target.sizeBytes);
        if (dice.below(4) > 0) return this.#change(dice);
        this.#save(target.offset, size);
        this.#image.copyWithin(target.offset, other.offset, other.offset + size);
      }
    }
  }

  /** A number that parsers stumble over, or the number of a block, or of an inode. */
  #value(dice: Dice): number {
    const kind = dice.below(4);
    if (kind === 0) return dice.of(words);
    if (kind === 1) return dice.of(wideWords);
    if (kind === 2) return Math.floor(dice.of(this.#targets).offset / this.#blockSizeBytes);
    return dice.below(200);
  }
}
