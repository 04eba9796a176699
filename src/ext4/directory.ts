/**
 * Directories: listing them in the order of their blocks, and finding a name, with the help of the
 * index where there is one. A cookie is the position behind an entry, so it stays right for as
 * long as the image does not change.
 */
import { ebbError, toEbbError } from '../base/errors.ts';
import type { CachedBlock } from './block-cache.ts';
import { foldName, isAscii } from './casefold.ts';
import type { DirectoryEntry } from './contract.ts';
import { directoryBlock } from './directory-block.ts';
import { decodeEntry, entryInode, entryName, isDots, recordLength } from './directory-entry.ts';
import { corrupt } from './errors.ts';
import { leavesFor } from './htree.ts';
import type { Image } from './image.ts';
import { inlineDirectory } from './inline-data.ts';
import { InodeFlag, pointersOf } from './loaded-inode.ts';
import type { LoadedInode } from './loaded-inode.ts';
import { noKeyMatcher } from './no-key-name.ts';
import type { Region } from './region.ts';

/** What is looked through for one entry, without an index: seconds of work, tens of millions of names. */
const bytesPerEntryMax = 1024 ** 3;
/** Blocks of a directory that are asked for ahead. */
const prefetchBlocksMax = 256;
/** Leaves with names of one hash that the index sends us to. */
const leavesPerLookupMax = 256;

/** Entries in a row, without the position of a directory's own two. */
interface Stretch {
  readonly region: Region;
  readonly start: number;
  readonly end: number;
  /** Position of byte 0 of the region in the directory. */
  readonly base: number;
}

type Match = (name: Uint8Array) => boolean;

export class Directories {
  readonly #image: Image;
  readonly #onBlock: () => void;

  /** `onBlock` is told of each block that is read through; what it throws ends that. */
  constructor(image: Image, onBlock: () => void = () => undefined) {
    this.#image = image;
    this.#onBlock = onBlock;
  }

  *entries(directory: LoadedInode, afterCookie: number): Generator<DirectoryEntry> {
    mustBeDirectory(directory);
    if (!Number.isSafeInteger(afterCookie) || afterCookie < 0) {
      throw ebbError('EINVAL', `${afterCookie} is no position in a directory`);
    }
    const passed = { bytes: 0 };
    for (const stretch of this.#stretches(directory, afterCookie, passed)) {
      const { region, start, end, base } = stretch;
      let length: number;
      for (let at = start; at < end; at += length) {
        length = recordLength(this.#image.superblock, region, at, end);
        if (base + at < afterCookie || this.#isUnused(region, at, base)) continue;
        yield decodeEntry(this.#image.superblock, directory, region, at, base + at + length);
        passed.bytes = 0;
      }
    }
  }

  lookup(directory: LoadedInode, name: Uint8Array): DirectoryEntry | undefined {
    mustBeDirectory(directory);
    if (name.length === 0 || isDots(name)) return undefined;
    const match = matcher(directory, name);
    // Our tables may fold what the file system's did not: as it is written goes first.
    const isExactFirst = directory.casefold && !directory.encrypted && !isAscii(name);
    // It may have been made where characters have no sign: then the index has such names elsewhere.
    const isUnsure = this.#image.superblock.hashSignUnknown && !isAscii(name);
    const indexed =
      (directory.flags & InodeFlag.index) !== 0 && !directory.inlineData && !directory.encrypted;
    if (indexed) {
      try {
        const found = this.#findByIndex(directory, name, match);
        const isRight = !isExactFirst || (found !== undefined && equals(found.name, name));
        if (isRight && (found !== undefined || !isUnsure)) return found;
      } catch (error) {
        if (toEbbError(error).code !== 'EUCLEAN') throw error;
      }
    }
    const exact = isExactFirst
      ? this.#findAnywhere(directory, (other) => equals(other, name))
      : undefined;
    return exact ?? this.#findAnywhere(directory, match);
  }

  #findAnywhere(directory: LoadedInode, match: Match): DirectoryEntry | undefined {
    for (const stretch of this.#stretches(directory, 0)) {
      const found = this.#find(directory, stretch, match);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** What ".." names. EUCLEAN when there is none. */
  parent(directory: LoadedInode): number {
    mustBeDirectory(directory);
    let parent: number;
    if (directory.inlineData) {
      parent = pointersOf(directory).u32(0);
    } else {
      const { value } = this.#stretches(directory, 0)[Symbol.iterator]().next();
      if (value === undefined || value.base !== 0) throw this.#noParent(directory);
      const { region, end } = value;
      const second = recordLength(this.#image.superblock, region, 0, end);
      recordLength(this.#image.superblock, region, second, end);
      const name = entryName(region, second);
      if (name.length !== 2 || !isDots(name)) throw this.#noParent(directory);
      parent = entryInode(region, second);
    }
    const { firstInode, inodeCount } = this.#image.superblock;
    if (parent !== 2 && (parent < firstInode || parent > inodeCount)) {
      throw this.#noParent(directory);
    }
    return parent;
  }

  #noParent(directory: LoadedInode): Error {
    return corrupt(`directory ${directory.number} does not name its parent`);
  }

  /** Unused, or one of the directory's own two, which are the first of its first block. */
  #isUnused(region: Region, at: number, base: number): boolean {
    if (entryInode(region, at) === 0) return true;
    return base === 0 && at <= 12 && isDots(entryName(region, at));
  }

  #findByIndex(directory: LoadedInode, name: Uint8Array, match: Match): DirectoryEntry | undefined {
    let visited = 0;
    for (const logical of leavesFor(this.#image, directory, name)) {
      visited += 1;
      if (visited > leavesPerLookupMax) throw corrupt('an index goes on and on');
      const { physicalBlock, unwritten } = this.#image.map.run(directory, logical);
      if (physicalBlock === undefined || unwritten) throw corrupt('an index leads to a hole');
      const block = directoryBlock(this.#image, directory, logical, physicalBlock);
      const found = this.#find(directory, this.#stretch(block, logical), match);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #find(directory: LoadedInode, stretch: Stretch, match: Match): DirectoryEntry | undefined {
    const { region, start, end, base } = stretch;
    const { superblock } = this.#image;
    let length: number;
    for (let at = start; at < end; at += length) {
      length = recordLength(superblock, region, at, end);
      if (this.#isUnused(region, at, base) || !match(entryName(region, at))) continue;
      return decodeEntry(superblock, directory, region, at, base + at + length);
    }
    return undefined;
  }

  /** All that holds entries, from the block of a position on. EUCLEAN when `passed` grows to what nobody has. */
  *#stretches(directory: LoadedInode, from: number, passed = { bytes: 0 }): Generator<Stretch> {
    if (directory.inlineData) {
      yield* inlineDirectory(this.#image, directory);
      return;
    }
    const { map, cache, superblock } = this.#image;
    const end = Math.ceil(directory.sizeBytes / superblock.blockSizeBytes);
    for (let at = Math.floor(from / superblock.blockSizeBytes); at < end;) {
      const { physicalBlock, blockCount } = map.run(directory, at);
      const count = Math.min(blockCount, end - at);
      if (physicalBlock === undefined) {
        // Names are missing. The kernel goes on where it has no index and it is not the first block.
        if (at === 0 || (directory.flags & InodeFlag.index) !== 0) {
          throw corrupt(`directory ${directory.number} has no block ${at}`);
        }
      } else {
        // Who marked it as never written was wrong: the kernel does not look at that, either.
        cache.prefetch(rangeOf(physicalBlock, Math.min(count, prefetchBlocksMax)));
        for (let index = 0; index < count; index += 1) {
          this.#onBlock();
          passed.bytes += superblock.blockSizeBytes;
          if (passed.bytes > bytesPerEntryMax) {
            throw corrupt(`directory ${directory.number} has no end`);
          }
          const block = directoryBlock(this.#image, directory, at + index, physicalBlock + index);
          yield this.#stretch(block, at + index);
        }
      }
      at += count;
    }
  }

  #stretch(block: CachedBlock, logicalBlock: number): Stretch {
    const size = block.sizeBytes;
    return { region: block, start: 0, end: size, base: logicalBlock * size };
  }
}

function mustBeDirectory(inode: LoadedInode): void {
  if (inode.type !== 'directory') throw ebbError('ENOTDIR', 'Not a directory');
}

function matcher(directory: LoadedInode, name: Uint8Array): Match {
  if (directory.encrypted) return noKeyMatcher(name);
  if (directory.casefold) {
    const folded = Buffer.from(foldName(name));
    return (other) => folded.equals(foldName(other));
  }
  const first = name[0];
  return (other) => other[0] === first && equals(other, name);
}

function equals(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && Buffer.compare(one, other) === 0;
}

function* rangeOf(start: number, count: number): Generator<number> {
  for (let index = 0; index < count; index += 1) yield start + index;
}
