/**
 * Names that fast commits added to a directory and took from it, written into its blocks as the kernel would. New names
 * go where there is room: in an indexed directory into the block that the index has for them. Where that is full,
 * the directory loses its index instead of having it split: what is read is the same.
 */
import { toEbbError } from '../../base/errors.ts';
import { directoryBlock, indexOffset } from '../directory-block.ts';
import { entryInode, entryName, headerSize, recordLength, recordMin } from '../directory-entry.ts';
import { corrupt } from '../errors.ts';
import { leavesFor } from '../htree.ts';
import type { Image } from '../image.ts';
import type { LoadedInode } from '../loaded-inode.ts';
import { Region, viewOf } from '../region.ts';
import { directoryTailBytes, sealDirectory } from '../seal.ts';
import type { Superblock } from '../superblock.ts';
import type { ReplayOverlay } from './overlay.ts';
import type { ReplayedMap } from './replayed-map.ts';
import { bytesPerUnit } from './work-budget.ts';
import type { WorkBudget } from './work-budget.ts';

const directoryTypeCode = 2;

/** What a name is in the end. */
export interface NameEdit {
  readonly name: Uint8Array;
  /** Whether the directory had the name before the fast commits. */
  readonly existed: boolean;
  /** undefined: it is gone. */
  readonly entry: { readonly inode: number; readonly typeCode: number } | undefined;
}

export interface EditedDirectory {
  readonly image: Image;
  readonly overlay: ReplayOverlay;
  /** As it was before; undefined for one that is new. */
  readonly before: LoadedInode | undefined;
  readonly map: ReplayedMap;
  readonly checksumSeed: number;
  sizeBytes: number;
  indexed: boolean;
  readonly budget: WorkBudget;
  allocate(): number;
}

/** The first block of a new directory: itself and the one above. */
export function startDirectory(directory: EditedDirectory, self: number, parent: number): void {
  const { superblock } = directory.image;
  const { bytes } = appendBlock(directory);
  const end = bytes.length - directoryTailBytes(superblock);
  const own = { name: Buffer.from('.'), inode: self, typeCode: directoryTypeCode };
  const above = { name: Buffer.from('..'), inode: parent, typeCode: directoryTypeCode };
  writeEntry(superblock, bytes, 0, recordMin, own);
  writeEntry(superblock, bytes, recordMin, end - recordMin, above);
  sealDirectory(superblock, directory.checksumSeed, bytes);
}

/** Writes all edits of one directory. EUCLEAN for a directory that is damaged. */
export function editDirectory(directory: EditedDirectory, edits: Iterable<NameEdit>): void {
  const known = new Map<string, NameEdit>();
  const added: NewEntry[] = [];
  for (const edit of edits) {
    if (edit.existed) known.set(keyOf(edit.name), edit);
    else if (edit.entry !== undefined) added.push({ name: edit.name, ...edit.entry });
  }
  if (known.size > 0) {
    for (const each of blocks(directory)) {
      changeKnown(directory, each, known);
      if (known.size === 0) break;
    }
  }
  const homeless = directory.indexed ? addByIndex(directory, added) : added;
  if (homeless.length === 0) return;
  if (directory.indexed) dropIndex(directory);
  addAnywhere(directory, homeless);
}

export function keyOf(name: Uint8Array): string {
  return Buffer.from(name).toString('latin1');
}

interface NewEntry {
  readonly name: Uint8Array;
  readonly inode: number;
  readonly typeCode: number;
}

interface DirectoryBlock {
  readonly logical: number;
  readonly block: number;
  readonly region: Region;
}

/** As they are now: of what was not changed yet the checksum is verified. */
function* blocks(directory: EditedDirectory): Generator<DirectoryBlock> {
  const { image, map, sizeBytes } = directory;
  const end = Math.ceil(sizeBytes / image.superblock.blockSizeBytes);
  for (const { logicalBlock, physicalBlock, blockCount, unwritten } of map.extents) {
    for (
      let index = 0;
      index < blockCount && logicalBlock + index < end && !unwritten;
      index += 1
    ) {
      directory.budget.spend(image.superblock.blockSizeBytes / bytesPerUnit);
      const logical = logicalBlock + index;
      const block = physicalBlock + index;
      yield { logical, block, region: regionOf(directory, logical, block) };
    }
  }
}

function regionOf(directory: EditedDirectory, logical: number, block: number): Region {
  const patched = directory.overlay.patched(block);
  if (patched !== undefined) return new Region(patched, `block ${block}`);
  if (directory.before === undefined) throw corrupt('a new directory has blocks already');
  return directoryBlock(directory.image, directory.before, logical, block);
}

/** Takes out, or gives to another inode, what this block has of `known`, and takes that from it. */
function changeKnown(
  directory: EditedDirectory,
  { block, region }: DirectoryBlock,
  known: Map<string, NameEdit>,
): void {
  const { superblock } = directory.image;
  if (!records(superblock, region).some(({ key }) => key !== undefined && known.has(key))) return;
  const bytes = directory.overlay.patch(block);
  const writable = new Region(bytes, `block ${block}`);
  let previous: { readonly at: number; length: number } | undefined;
  for (const { at, length, key } of records(superblock, writable)) {
    const edit = key === undefined ? undefined : known.get(key);
    if (key === undefined || edit === undefined) {
      previous = { at, length };
      continue;
    }
    known.delete(key);
    if (edit.entry !== undefined) {
      writeEntry(superblock, bytes, at, length, { name: edit.name, ...edit.entry });
      previous = { at, length };
    } else if (previous === undefined) {
      viewOf(bytes).setUint32(at, 0, true);
      previous = { at, length };
    } else {
      // The record before it takes its place (ext4_generic_delete_entry).
      previous.length += length;
      setLength(bytes, previous.at, previous.length);
    }
  }
  sealDirectory(superblock, directory.checksumSeed, bytes);
}

/** Puts each name into the block that the index has for it. Returns those without room, or without a sound index. */
function addByIndex(directory: EditedDirectory, added: readonly NewEntry[]): readonly NewEntry[] {
  const { image, before } = directory;
  if (before === undefined) return added;
  return added.filter((entry) => {
    try {
      // The index itself is as before: nothing is split.
      const logical: number | undefined = leavesFor(image, before, entry.name).next().value;
      if (logical === undefined) return true;
      const { physicalBlock, unwritten } = image.map.run(before, logical);
      if (physicalBlock === undefined || unwritten) return true;
      return !add(directory, regionOf(directory, logical, physicalBlock), physicalBlock, entry);
    } catch (error) {
      if (toEbbError(error).code !== 'EUCLEAN') throw error;
      return true;
    }
  });
}

/** Makes blocks without entries of those of the index. */
function dropIndex(directory: EditedDirectory): void {
  const { image, before, overlay } = directory;
  if (before === undefined) throw corrupt('a new directory has an index');
  const { superblock } = image;
  const tail = directoryTailBytes(superblock);
  for (const { logical, block } of blocks(directory)) {
    // Blocks of entries that were patched are none of the index.
    if (overlay.patched(block) !== undefined) continue;
    if (indexOffset(before, image.cache.block(block), logical) === undefined) continue;
    const bytes = overlay.patch(block);
    const from = logical === 0 ? recordMin : 0;
    if (logical > 0) bytes.fill(0);
    setLength(bytes, from, bytes.length - tail - from);
    sealDirectory(superblock, directory.checksumSeed, bytes);
  }
  directory.indexed = false;
}

/** Puts the names, in their order, into blocks with room, and the rest into new ones at the end. */
function addAnywhere(directory: EditedDirectory, added: readonly NewEntry[]): void {
  let next = 0;
  const fill = (block: number, region: Region): void => {
    for (let entry = added[next]; entry !== undefined; entry = added[next]) {
      if (!add(directory, latest(directory, block, region), block, entry)) return;
      next += 1;
    }
  };
  for (const { block, region } of blocks(directory)) {
    if (next === added.length) return;
    fill(block, region);
  }
  while (next < added.length) {
    const { bytes, block } = appendBlock(directory);
    const { superblock } = directory.image;
    setLength(bytes, 0, bytes.length - directoryTailBytes(superblock));
    sealDirectory(superblock, directory.checksumSeed, bytes);
    fill(block, new Region(bytes, `block ${block}`));
  }
}

/** A block as it is now: the first change of it made a copy. */
function latest({ overlay }: EditedDirectory, block: number, region: Region): Region {
  const patched = overlay.patched(block);
  return patched === undefined ? region : new Region(patched, `block ${block}`);
}

/** False: there is no room in this block. */
function add(directory: EditedDirectory, region: Region, block: number, entry: NewEntry): boolean {
  const { superblock } = directory.image;
  const needed = recordSize(entry.name.length);
  const end = region.sizeBytes - directoryTailBytes(superblock);
  let length: number;
  for (let at = 0; at < end; at += length) {
    directory.budget.spend(1);
    length = recordLength(superblock, region, at, region.sizeBytes);
    const used = entryInode(region, at) === 0 ? 0 : recordSize(region.u8(at + 6));
    if (length - used < needed) continue;
    const bytes = directory.overlay.patch(block);
    directory.budget.spend(bytes.length / bytesPerUnit);
    if (used > 0) setLength(bytes, at, used);
    writeEntry(superblock, bytes, at + used, length - used, entry);
    sealDirectory(superblock, directory.checksumSeed, bytes);
    return true;
  }
  return false;
}

/** `key`: undefined for a record that is not in use. */
function records(
  superblock: Superblock,
  region: Region,
): { readonly at: number; readonly length: number; readonly key: string | undefined }[] {
  const found = [];
  let length: number;
  for (let at = 0; at < region.sizeBytes; at += length) {
    length = recordLength(superblock, region, at, region.sizeBytes);
    const key = entryInode(region, at) === 0 ? undefined : keyOf(entryName(region, at));
    found.push({ at, length, key });
  }
  return found;
}

function appendBlock(directory: EditedDirectory): { bytes: Uint8Array; block: number } {
  const { image, map, overlay } = directory;
  const { blockSizeBytes } = image.superblock;
  const block = directory.allocate();
  const logicalBlock = Math.ceil(directory.sizeBytes / blockSizeBytes);
  map.set({ logicalBlock, physicalBlock: block, blockCount: 1, unwritten: false });
  directory.sizeBytes = (logicalBlock + 1) * blockSizeBytes;
  const bytes = overlay.patch(block);
  bytes.fill(0);
  return { bytes, block };
}

function recordSize(nameLength: number): number {
  return headerSize + Math.ceil(nameLength / 4) * 4;
}

function setLength(bytes: Uint8Array, at: number, length: number): void {
  // ext4_rec_len_to_disk: 65536 does not fit, and can only be all of the block.
  viewOf(bytes).setUint16(at + 4, length === 65_536 ? 0xffff : length, true);
}

function writeEntry(
  superblock: Superblock,
  bytes: Uint8Array,
  at: number,
  length: number,
  { name, inode, typeCode }: NewEntry,
): void {
  const view = viewOf(bytes);
  view.setUint32(at, inode, true);
  setLength(bytes, at, length);
  view.setUint8(at + 6, name.length);
  view.setUint8(at + 7, superblock.features.names.has('filetype') ? typeCode : 0);
  bytes.set(name, at + headerSize);
}
