/** An inode while fast commits are replayed: all of its bytes, and its map once something changes it. */
import type { Directories } from '../directory.ts';
import { corrupt, unsupported } from '../errors.ts';
import {
  InodeFlag,
  inodeChecksumSeed,
  pointersOffset,
  pointersSizeBytes,
  sectorsOf,
} from '../loaded-inode.ts';
import type { LoadedInode } from '../loaded-inode.ts';
import type { Parts } from '../parts.ts';
import { viewOf } from '../region.ts';
import { sealInode } from '../seal.ts';
import type { ReplayOverlay } from './overlay.ts';
import { ReplayedMap } from './replayed-map.ts';
import type { WorkBudget } from './work-budget.ts';

const generationOffset = 0x64;
const linksMax = 65_535;
const modeType = { fifo: 1, directory: 4, file: 8, symlink: 10 } as const;
/** Types in directory entries by those in modes. */
const typeCodes: Readonly<Record<number, number>> = { 1: 5, 2: 3, 4: 2, 6: 4, 8: 1, 10: 7, 12: 6 };

export class ReplayedInode {
  readonly number: number;
  /** Set for a directory that a fast commit made: the one above it. */
  startsBelow: number | undefined;
  /** Names of a directory. */
  names = 1;
  readonly #parts: Parts;
  readonly #budget: WorkBudget;
  readonly #raw: Uint8Array;
  readonly #view: DataView;
  readonly #usedBefore: boolean;
  readonly #sectorsBefore: number;
  #map: ReplayedMap | undefined;
  #isChanged = false;

  constructor(parts: Parts, budget: WorkBudget, number: number) {
    this.number = number;
    this.#parts = parts;
    this.#budget = budget;
    this.#raw = parts.inodes.raw(number).bytes.slice();
    this.#view = viewOf(this.#raw);
    this.#usedBefore = this.isUsed;
    this.#sectorsBefore = this.#sectors;
  }

  /** As it was before the fast commits. EUCLEAN when that is damaged. */
  get before(): LoadedInode {
    return this.#parts.inodes.inode(this.number);
  }

  get isUsed(): boolean {
    return this.exists && this.links !== 0;
  }

  /** Also true of what has no name any more. */
  get exists(): boolean {
    return this.#mode !== 0;
  }

  get isDirectory(): boolean {
    return this.#mode >>> 12 === modeType.directory;
  }

  get typeCode(): number {
    return typeCodes[this.#mode >>> 12] ?? 0;
  }

  get flags(): number {
    return this.#view.getUint32(0x20, true);
  }

  get generation(): number {
    return this.#view.getUint32(generationOffset, true);
  }

  get sizeBytes(): number {
    return (
      this.#view.getUint32(4, true) +
      (this.#hasWideSize ? this.#view.getUint32(0x6c, true) * 2 ** 32 : 0)
    );
  }

  get links(): number {
    return this.#view.getUint16(0x1a, true);
  }

  set links(count: number) {
    if (count > linksMax) throw corrupt(`its journal links inode ${this.number} ${count} times`);
    this.#view.setUint16(0x1a, Math.max(count, 0), true);
    this.#isChanged = true;
  }

  get freedSectors(): number {
    return this.#sectorsBefore - this.#sectors;
  }

  get freedInodes(): number {
    return Number(this.#usedBefore) - Number(this.isUsed);
  }

  get #mode(): number {
    return this.#view.getUint16(0, true);
  }

  get #hasWideSize(): boolean {
    return !this.isDirectory || this.#parts.image.superblock.features.names.has('large_dir');
  }

  get #sectors(): number {
    if (!this.isUsed) return 0;
    return sectorsOf(this.#parts.image.superblock, this.flags, viewOf(this.#raw), 0);
  }

  /** What the tag of an inode says (ext4_fc_replay_inode): all but the map, of which there are tags of their own. */
  become(tag: Uint8Array): void {
    const view = viewOf(tag);
    const flags = view.getUint32(0x20, true);
    const hasExtents = (flags & InodeFlag.extents) !== 0;
    const hadExtents = this.isUsed && (this.flags & InodeFlag.extents) !== 0;
    if (hasExtents) {
      if (!hadExtents) this.#map = new ReplayedMap(this.#budget, []);
      // Blocks of its tree have checksums with the generation in them.
      else if (view.getUint32(generationOffset, true) !== this.generation) this.changeableMap();
    }
    const pointersEnd = pointersOffset + pointersSizeBytes;
    this.#raw.set(tag.subarray(0, pointersOffset));
    this.#raw.set(tag.subarray(pointersEnd), pointersEnd);
    if (!hasExtents) {
      const type = this.#mode >>> 12;
      const mayHavePointers =
        type === modeType.file ||
        type === modeType.directory ||
        (type === modeType.symlink && this.sizeBytes >= pointersSizeBytes);
      if ((flags & InodeFlag.inlineData) === 0 && mayHavePointers) throw this.#pointers();
      this.#map = undefined;
      this.#raw.set(tag.subarray(pointersOffset, pointersEnd), pointersOffset);
    }
    this.#isChanged = true;
  }

  /** Its map, to be changed. EOPNOTSUPP when it has none of extents. */
  changeableMap(): ReplayedMap {
    if ((this.flags & InodeFlag.extents) === 0) throw this.#pointers();
    this.#isChanged = true;
    this.#map ??= new ReplayedMap(
      this.#budget,
      this.#parts.image.map.extents(this.before, Infinity),
    );
    return this.#map;
  }

  /** EOPNOTSUPP for a directory of a form that is not written here. */
  mustHavePlainNames(): void {
    const forms = [
      [InodeFlag.encrypt, 'that is encrypted'],
      [InodeFlag.casefold, 'that folds case'],
      [InodeFlag.inlineData, 'with inline data'],
    ] as const;
    const form = forms.find(([flag]) => (this.flags & flag) !== 0)?.[1];
    if (form !== undefined) throw refused(`change a directory ${form}`);
    if ((this.flags & InodeFlag.extents) === 0) throw this.#pointers();
  }

  /** A new directory without anything in it. */
  startAsDirectory(parent: number): void {
    this.mustHavePlainNames();
    this.startsBelow = parent;
    this.names = 0;
    this.links = 2;
    this.#map = new ReplayedMap(this.#budget, []);
    this.resize(0, -this.#sectors, false);
  }

  /** After the blocks of a directory were written. */
  resize(sizeBytes: number, moreSectors: number, indexed: boolean): void {
    const sectors = this.#sectors + moreSectors;
    this.#view.setUint32(4, sizeBytes % 2 ** 32, true);
    if (this.#hasWideSize) this.#view.setUint32(0x6c, Math.floor(sizeBytes / 2 ** 32), true);
    this.#view.setUint32(0x1c, sectors, true);
    const flags = this.flags & ~(InodeFlag.hugeFile | (indexed ? 0 : InodeFlag.index));
    this.#view.setUint32(0x20, flags >>> 0, true);
    this.#isChanged = true;
  }

  /** What it is below in the tree. */
  parent(directories: Directories): number {
    return this.startsBelow ?? directories.parent(this.before);
  }

  /** Its last name is gone. */
  free(): void {
    this.links = 0;
    this.#map = new ReplayedMap(this.#budget, []);
  }

  /** Writes what it is now into its place. `allocate` gives blocks for the tree of its map. */
  write(overlay: ReplayOverlay, allocate: () => number): void {
    if (!this.#isChanged) return;
    const { image, inodes } = this.#parts;
    const { superblock } = image;
    if (this.#map !== undefined && (this.flags & InodeFlag.extents) !== 0) {
      const seed = inodeChecksumSeed(superblock, this.number, this.generation);
      const root = this.#raw.subarray(pointersOffset, pointersOffset + pointersSizeBytes);
      this.#map.write(superblock, seed, root, allocate, (block) => overlay.patch(block));
    }
    sealInode(superblock, this.number, this.#raw);
    const { blockNumber, offset } = inodes.place(this.number);
    overlay.patch(blockNumber).set(this.#raw, offset);
  }

  #pointers(): Error {
    return refused('change what has block pointers instead of extents');
  }
}

function refused(what: string): Error {
  return unsupported(
    `The fast commits of the journal ${what}, which Ebb does not replay. ` +
      'Run e2fsck on the image, or read it without them: -o nofastcommit',
  );
}
