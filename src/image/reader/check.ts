/**
 * Whether everything that can be read from an image can be read: superblock, group descriptors, journal, and from the
 * root on every inode, map, directory, symlink and attribute. What reading does not need (bitmaps, free counts) is
 * e2fsck's to check.
 */
import { toEbbError } from '../../base/errors.ts';
import { decodeName } from '../../base/name.ts';
import { InodeFlag } from '../../ext4/loaded-inode.ts';
import type { DirectoryEntry, Inode, Volume } from '../../ext4/volume.ts';
import type { ReaderOutput } from './lines.ts';
import { ProgressLines } from './progress-lines.ts';

/** One bit for each block: 256 MiB, images of 8 TiB in blocks of 4 KiB. Larger ones are not checked for overlaps. */
const claimedBlocksMax = 2 ** 31;
/** Problems that are said; later ones are counted. */
const problemsMax = 1000;
/** Directories that wait to be looked at, and inodes with several names. */
const pendingMax = 4_000_000;
const largestLinkCount = 65_000;
/** Names of one directory that are remembered; behind that many they are looked up one by one. */
const namesMax = 1_000_000;

interface Pending {
  readonly directory: Inode;
  readonly parent: number;
  readonly path: string;
}

export class Check {
  files = 0;
  directories = 0;
  bytes = 0;
  problems = 0;
  readonly #volume: Volume;
  readonly #output: ReaderOutput;
  readonly #claimed: Uint8Array | undefined;
  /** Names found of files that should have several. */
  readonly #links = new Map<number, { found: number; readonly wanted: number; path: string }>();
  /** One bit for each inode with a link count of one whose name was met: as much as the image's own bitmaps. */
  readonly #named: Uint8Array;
  readonly #progress: ProgressLines;

  constructor(volume: Volume, output: ReaderOutput) {
    this.#volume = volume;
    this.#output = output;
    this.#progress = new ProgressLines(output);
    const { blockCount, features, inodeCount } = volume.superblock;
    this.#named = new Uint8Array(Math.ceil((inodeCount + 1) / 8));
    const mayCheck = blockCount <= claimedBlocksMax && !features.has('shared_blocks');
    this.#claimed = mayCheck ? new Uint8Array(Math.ceil(blockCount / 8)) : undefined;
  }

  run(): void {
    const { backup, state } = this.#volume.superblock;
    if (backup !== undefined) this.#say('', `the first superblock is damaged: ${backup.reason}`);
    if (state === 'errors') this.#say('', 'the kernel recorded errors in it');
    this.#try('', () => this.#volume.statfs());
    const root = this.#try('', () => this.#volume.root());
    if (root === undefined) return;
    this.#inode(root, '');
    const pending: Pending[] = [{ directory: root, parent: root.number, path: '' }];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      this.#directory(next, pending);
    }
    for (const { found, wanted, path } of this.#links.values()) {
      if (found !== wanted) this.#say(path, `it has ${found} names, its link count is ${wanted}`);
    }
  }

  #directory({ directory, parent, path }: Pending, pending: Pending[]): void {
    this.directories += 1;
    let below = 0;
    const names = hasNamesInOrder(directory) ? new Map<string, number>() : undefined;
    this.#try(path, () => {
      const above = this.#volume.parent(directory);
      if (above !== parent) this.#say(path, `its ".." leads to inode ${above}, not ${parent}`);
    });
    this.#try(path, () => {
      for (const entry of this.#volume.entries(directory, 0)) {
        const name = `${path}/${decodeName(entry.name)}`;
        const inode = this.#try(name, () => this.#child(directory, entry, name, names));
        if (inode === undefined) continue;
        if (inode.type === 'directory') {
          below += 1;
          if (pending.length < pendingMax)
            pending.push({ directory: inode, parent: directory.number, path: name });
        }
        this.#inode(inode, name);
        this.#progress.tell(name, this.files, this.bytes);
      }
    });
    // 1: more than could be counted (dir_nlink).
    const { linkCount } = directory;
    if (linkCount !== 1 && linkCount !== below + 2 && below + 2 < largestLinkCount) {
      this.#say(path, `it has ${below} directories, its link count is ${linkCount}`);
    }
  }

  #child(
    directory: Inode,
    entry: DirectoryEntry,
    path: string,
    names: Map<string, number> | undefined,
  ): Inode {
    const inode = this.#volume.child(directory, entry);
    if (entry.type === 'unknown' && this.#volume.superblock.features.has('filetype')) {
      this.#say(path, 'its entry does not say what kind of file it is');
    }
    if (this.#inodeNamed(directory, entry, names) !== entry.inodeNumber) {
      this.#say(path, 'it is not found under its name');
    }
    return inode;
  }

  /**
   * What a name leads to: an index may not know what the directory holds. Without one it is the first entry of that
   * name, and the directory is not read through for each of them.
   */
  #inodeNamed(
    directory: Inode,
    { name, inodeNumber }: DirectoryEntry,
    names: Map<string, number> | undefined,
  ): number | undefined {
    if (names === undefined) return this.#volume.lookup(directory, name)?.inodeNumber;
    const key = decodeName(name);
    const known = names.get(key);
    if (known !== undefined) return known;
    if (names.size >= namesMax) return this.#volume.lookup(directory, name)?.inodeNumber;
    names.set(key, inodeNumber);
    return inodeNumber;
  }

  #inode(inode: Inode, path: string): void {
    if (inode.type !== 'directory') {
      const known = this.#links.get(inode.number);
      if (known !== undefined) {
        known.found += 1;
        return;
      }
      if (inode.linkCount <= 1 && this.#isNamedAgain(inode.number)) {
        this.#say(path, `its inode has another name already, its link count is ${inode.linkCount}`);
        return;
      }
      this.files += 1;
      if (inode.linkCount > 1 && this.#links.size < pendingMax) {
        this.#links.set(inode.number, { found: 1, wanted: inode.linkCount, path });
      }
    }
    this.#try(path, () => this.#volume.xattrs(inode).forEach(({ value }) => value.length));
    if (inode.encrypted) {
      if (!this.#volume.superblock.features.has('encrypt'))
        this.#say(path, 'it is encrypted, in a file system without encryption');
      return;
    }
    if (inode.type === 'symlink') this.#try(path, () => this.#volume.symlinkTarget(inode));
    this.#try(path, () => this.#claim(inode, path));
    if (inode.inlineData && inode.type === 'file') {
      this.#try(path, () => this.#volume.read(inode, 0, new Uint8Array(1)));
    }
  }

  #isNamedAgain(inodeNumber: number): boolean {
    const bit = 1 << (inodeNumber & 7);
    const before = this.#named[inodeNumber >>> 3] ?? 0;
    this.#named[inodeNumber >>> 3] = before | bit;
    return (before & bit) !== 0;
  }

  #claim(inode: Inode, path: string): void {
    const { blockSizeBytes } = this.#volume.superblock;
    // What seals a file stands behind its end.
    const endBytes = inode.type === 'file' && !inode.verity ? inode.sizeBytes : Infinity;
    let nextBlock = 0;
    for (const extent of this.#volume.extents(inode, { pastEnd: true })) {
      this.bytes += extent.blockCount * blockSizeBytes;
      const lastBlock = extent.logicalBlock + extent.blockCount - 1;
      // What was only reserved may lie there.
      if (!extent.unwritten && lastBlock * blockSizeBytes > endBytes) {
        this.#say(path, `it has content behind its end, at ${endBytes} bytes`);
        return;
      }
      if (inode.type === 'directory' && extent.logicalBlock !== nextBlock) break;
      nextBlock = extent.logicalBlock + extent.blockCount;
      if (this.#claimed === undefined) continue;
      let isShared = false;
      for (let at = 0; at < extent.blockCount; at += 1) {
        const block = extent.physicalBlock + at;
        const bit = 1 << (block & 7);
        const before = this.#claimed[block >>> 3] ?? 0;
        if ((before & bit) !== 0) isShared = true;
        this.#claimed[block >>> 3] = before | bit;
      }
      if (isShared) {
        this.#say(
          path,
          `some of the ${extent.blockCount} blocks from ${extent.physicalBlock} on are another's, too`,
        );
        return;
      }
    }
    const isWhole = inode.inlineData || nextBlock * blockSizeBytes >= inode.sizeBytes;
    if (inode.type === 'directory' && !isWhole) {
      this.#say(path, `block ${nextBlock} of the directory is missing`);
    }
  }

  #try<Result>(path: string, action: () => Result): Result | undefined {
    try {
      return action();
    } catch (error) {
      const { code, message } = toEbbError(error);
      this.#say(path, message, code === 'EUCLEAN' ? 'EUCLEAN' : code);
      return undefined;
    }
  }

  #say(path: string, message: string, code: ReturnType<typeof toEbbError>['code'] = 'EUCLEAN') {
    this.problems += 1;
    if (this.problems <= problemsMax) {
      this.#output.line({ error: { path, code, message, refused: false } });
    }
  }
}

/** Whether a lookup in a directory is a walk through its entries. */
function hasNamesInOrder({ flags, casefold, encrypted }: Inode): boolean {
  return (flags & InodeFlag.index) === 0 && !casefold && !encrypted;
}
