/**
 * One entry of a directory, as stored: inode, length of the record, length of the name, type, name
 * (Documentation/filesystems/ext4/directory.rst). All rules that an entry must keep are here, those
 * of ext4_check_dir_entry and those of names that a kernel could be given.
 */
import { SmallCopies } from '../base/small-copies.ts';
import type { DirectoryEntry, FileType } from './contract.ts';
import { corrupt } from './errors.ts';
import type { NameHash } from './hash.ts';
import { noKeyName } from './no-key-name.ts';
import type { LoadedInode } from './loaded-inode.ts';
import type { Region } from './region.ts';
import type { Superblock } from './superblock.ts';

export const headerSize = 8;
export const recordMin = 12;
const slash = 0x2f;
const dot = 0x2e;

/** Names. */
const copies = new SmallCopies();

const types: readonly FileType[] = [
  'unknown',
  'file',
  'directory',
  'character',
  'block',
  'fifo',
  'socket',
  'symlink',
];

/** Length of the record at `offset`, of which `end` is the end of the block. EUCLEAN when it is wrong. */
export function recordLength(
  superblock: Superblock,
  region: Region,
  offset: number,
  end: number,
): number {
  const stored = region.u16(offset + 4);
  let length = stored;
  if (superblock.blockSizeBytes === 65_536) {
    // Lengths of 64 KiB do not fit in 16 bits (ext4_rec_len_from_disk).
    length = stored === 0xffff || stored === 0 ? 65_536 : (stored & 0xfffc) | ((stored & 3) << 16);
  }
  const nameLength = region.u8(offset + 6);
  const left = end - offset - length;
  if (
    length < recordMin ||
    length % 4 !== 0 ||
    length < headerSize + nameLength ||
    left < 0 ||
    (left > 0 && left < recordMin)
  ) {
    throw corrupt(`a directory entry at byte ${offset} of its block is ${length} bytes long`);
  }
  return length;
}

export function entryInode(region: Region, offset: number): number {
  return region.u32(offset);
}

/** A view, not a copy. */
export function entryName(region: Region, offset: number): Uint8Array {
  return region.slice(offset + headerSize, region.u8(offset + 6));
}

/** Behind the name, where names are encrypted and fold case (EXT4_DIRENT_HASHES). */
function storedHash(region: Region, offset: number): NameHash {
  const at = offset + headerSize + Math.ceil(region.u8(offset + 6) / 4) * 4;
  return { major: region.u32(at), minor: region.u32(at + 4) };
}

/** Whether a name is "." or "..". */
export function isDots(name: Uint8Array): boolean {
  return name[0] === dot && (name.length === 1 || (name.length === 2 && name[1] === dot));
}

/** The entry for others: checked, copied, its encrypted name written so that it can be shown. */
export function decodeEntry(
  superblock: Superblock,
  directory: LoadedInode,
  region: Region,
  offset: number,
  cookie: number,
): DirectoryEntry {
  const stored = entryName(region, offset);
  const inodeNumber = entryInode(region, offset);
  if (inodeNumber > superblock.inodeCount) {
    throw corrupt(`directory ${directory.number} names inode ${inodeNumber}, which does not exist`);
  }
  if (stored.length === 0) throw corrupt(`directory ${directory.number} has an empty name`);
  let name: Uint8Array;
  if (directory.encrypted) {
    name = noKeyName(
      superblock,
      stored,
      directory.casefold ? storedHash(region, offset) : undefined,
    );
  } else {
    name = copies.of(stored);
    if (name.includes(slash) || name.includes(0) || isDots(name)) {
      throw corrupt(`directory ${directory.number} has a name that cannot be one`);
    }
  }
  const hasType = superblock.features.names.has('filetype');
  const type = (hasType ? types[region.u8(offset + 7)] : undefined) ?? 'unknown';
  return { name, inodeNumber, type, cookie };
}
