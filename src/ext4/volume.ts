/** An open image: the parts of the reader put together. The contract is in contract.ts. */
import { BoundedMap } from '../base/bounded-map.ts';
import { EbbError, ebbError, toEbbError } from '../base/errors.ts';
import type { BlockDevice } from './block-device.ts';
import type {
  DirectoryEntry,
  ExtendedAttribute,
  Extent,
  ExtentsOptions,
  FileSizes,
  FilesystemStatistics,
  Inode,
  Run,
  SuperblockFacts,
  Volume,
  VolumeOptions,
} from './contract.ts';
import { Directories } from './directory.ts';
import { corrupt, isDamage, noKey } from './errors.ts';
import { attributedInodes, fileSizes } from './inode-survey.ts';
import { hasBlocks, prefetchContent, readContent, readTarget } from './file-content.ts';
import type { GroupTable } from './groups.ts';
import type { Image } from './image.ts';
import type { InodeTable } from './inode-table.ts';
import { InodeFlag } from './loaded-inode.ts';
import type { LoadedInode } from './loaded-inode.ts';
import { openParts } from './parts.ts';
import { statistics } from './statistics.ts';
import { superblockFacts } from './superblock-facts.ts';
import { extendedAttributes } from './xattr.ts';

export type {
  DirectoryEntry,
  ExtendedAttribute,
  Extent,
  FilesystemStatistics,
  FileType,
  Inode,
  SuperblockFacts,
  Timestamp,
  Volume,
  VolumeOptions,
} from './contract.ts';

const rootInode = 2;
/** Directories of which it is remembered where they were met; the oldest are forgotten. */
const directoriesRememberedMax = 1024 * 1024;

/** Where a directory was met: the directory above it, and the entry there. */
interface Place {
  readonly parent: number;
  readonly cookie: number;
}

/**
 * Opens an ext2, ext3 or ext4 image for reading. Throws EUCLEAN when neither the superblock nor one
 * of its backups can be used, EOPNOTSUPP (naming them) when it has features that Ebb does not know.
 */
export function openVolume(device: BlockDevice, options: VolumeOptions = {}): Volume {
  return new OpenVolume(device, options);
}

class OpenVolume implements Volume {
  readonly superblock: SuperblockFacts;
  readonly #image: Image;
  readonly #inodes: InodeTable;
  readonly #groups: GroupTable;
  readonly #directories: Directories;
  readonly #places = new BoundedMap<number, Place>(directoriesRememberedMax);

  constructor(device: BlockDevice, options: VolumeOptions) {
    const { found, image, groups, inodes } = openParts(device, options);
    this.superblock = superblockFacts(found);
    this.#image = image;
    this.#groups = groups;
    this.#inodes = inodes;
    this.#directories = new Directories(this.#image);
  }

  statfs(): FilesystemStatistics {
    return statistics(this.#image.superblock, this.#groups, this.#journalBlocks());
  }

  /** Of a journal that is damaged none are counted. */
  #journalBlocks(): number {
    const { journalInode, blockSizeBytes } = this.superblock;
    if (journalInode === 0) return 0;
    try {
      return Math.floor(this.#inodes.inode(journalInode).sizeBytes / blockSizeBytes);
    } catch (error) {
      const known = toEbbError(error);
      if (isDamage(known) || known.code === 'ENOENT' || known.code === 'EINVAL') return 0;
      throw error;
    }
  }

  root(): Inode {
    const root = this.inode(rootInode);
    if (root.type !== 'directory') throw corrupt('the root is no directory');
    return root;
  }

  inode(number: number): Inode {
    return this.#inodes.inode(number);
  }

  child(directory: Inode, entry: DirectoryEntry): Inode {
    const { inodeNumber } = entry;
    const { firstInode, inodeCount } = this.superblock;
    const wrong = (what: string): Error =>
      corrupt(`an entry of directory ${directory.number} names inode ${inodeNumber}, ${what}`);
    if (!(inodeNumber >= firstInode && inodeNumber <= inodeCount)) throw wrong('which is reserved');
    let inode: LoadedInode;
    try {
      inode = this.#inodes.inode(inodeNumber);
    } catch (error) {
      if (toEbbError(error).code === 'ENOENT') throw wrong('which is free');
      throw error;
    }
    if (entry.type !== 'unknown' && entry.type !== inode.type) {
      throw wrong(`as ${entry.type}; it is of type ${inode.type}`);
    }
    if ((inode.flags & InodeFlag.extendedAttribute) !== 0) throw wrong('which is an attribute');
    if (inode.type === 'directory') this.#settle(directory.number, entry, wrong);
    return inode;
  }

  /** Linux expects a tree: a directory has one place, the first one in which it was met. */
  #settle(parent: number, entry: DirectoryEntry, wrong: (what: string) => Error): void {
    const place = this.#places.get(entry.inodeNumber);
    if (place === undefined) {
      this.#places.set(entry.inodeNumber, { parent, cookie: entry.cookie });
    } else if (place.parent !== parent || place.cookie !== entry.cookie) {
      throw wrong('a directory that has another name already');
    }
  }

  lookup(directory: Inode, name: Uint8Array): DirectoryEntry | undefined {
    return this.#directories.lookup(this.#loaded(directory), name);
  }

  entries(directory: Inode, afterCookie: number): Iterable<DirectoryEntry> {
    return this.#directories.entries(this.#loaded(directory), afterCookie);
  }

  parent(directory: Inode): number {
    return this.#directories.parent(this.#loaded(directory));
  }

  read(inode: Inode, offsetBytes: number, into: Uint8Array): number {
    const file = this.#loaded(inode);
    if (file.type === 'directory') throw ebbError('EISDIR', 'Is a directory');
    if (file.type !== 'file' || !Number.isSafeInteger(offsetBytes) || offsetBytes < 0) {
      throw ebbError('EINVAL', `Inode ${inode.number} cannot be read at ${offsetBytes}`);
    }
    mustBePlain(file);
    const sizeBytes = Math.min(into.length, file.sizeBytes - offsetBytes);
    if (sizeBytes <= 0) return 0;
    readContent(this.#image, file, offsetBytes, into.subarray(0, sizeBytes));
    return sizeBytes;
  }

  extents(inode: Inode, options: ExtentsOptions = {}): Iterable<Extent> {
    const file = this.#loaded(inode);
    if (file.type === 'file') mustBePlain(file);
    if (!hasBlocks(this.#image, file)) return [];
    const end = Math.ceil(file.sizeBytes / this.superblock.blockSizeBytes);
    const { pastEnd = false, fromBlock = 0 } = options;
    return this.#image.map.extents(file, pastEnd ? Infinity : end, fromBlock);
  }

  run(inode: Inode, logicalBlock: number): Run {
    const file = this.#loaded(inode);
    if (file.type === 'file') mustBePlain(file);
    const { map } = this.#image;
    if (!hasBlocks(this.#image, file) || logicalBlock >= map.blocksMax(file)) {
      return { physicalBlock: undefined, blockCount: Infinity, unwritten: false };
    }
    return map.run(file, logicalBlock);
  }

  symlinkTarget(inode: Inode): Uint8Array {
    const symlink = this.#loaded(inode);
    if (symlink.type !== 'symlink') throw ebbError('EINVAL', 'Not a symlink');
    mustBePlain(symlink);
    return readTarget(this.#image, symlink);
  }

  xattrs(inode: Inode): readonly ExtendedAttribute[] {
    return extendedAttributes(this.#image, this.#loaded(inode));
  }

  attributedInodes(): number[] | undefined {
    return this.#survey(() => attributedInodes(this.#image, this.#groups));
  }

  fileSizes(largeMinBytes: number): FileSizes | undefined {
    return this.#survey(() => fileSizes(this.#image, this.#groups, largeMinBytes));
  }

  #survey<Result>(look: () => Result): Result | undefined {
    // Where hints are of use, inode tables are far away.
    const isFar = this.#image.device.prefetch !== undefined;
    if (isFar || this.superblock.state !== 'clean' || this.#inodes.hasMetUnused) return undefined;
    try {
      return look();
    } catch (error) {
      if (error instanceof EbbError) return undefined;
      throw error;
    }
  }

  prefetchContent(inode: Inode, offsetBytes: number, lengthBytes: number): void {
    try {
      const file = this.#loaded(inode);
      const isPlain = file.type === 'file' && !file.encrypted && !file.inlineData;
      if (isPlain) prefetchContent(this.#image, file, offsetBytes, lengthBytes);
    } catch (error) {
      // Whoever reads it hears of it.
      if (!(error instanceof EbbError)) throw error;
    }
  }

  prefetchInodes(numbers: Iterable<number>): void {
    this.#inodes.prefetch(numbers);
  }

  /** What we know ourselves, whatever object the caller brings. */
  #loaded(inode: Inode): LoadedInode {
    return this.#inodes.inode(inode.number);
  }
}

function mustBePlain(inode: LoadedInode): void {
  if (inode.encrypted) throw noKey(`Inode ${inode.number} is encrypted; Ebb holds no keys`);
}
