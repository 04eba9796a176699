/**
 * Copies files and trees out of an image. The image is not trusted: each directory is entered by descriptor, without
 * following symlinks; whatever names and symlinks there are, nothing is written outside of the destination. Set-id
 * bits, capabilities, devices and sockets stay behind.
 */
import { fchmodSync, fchownSync, ftruncateSync, writeSync } from 'node:fs';
import { Errno } from '../../base/errno.ts';
import { ebbError, toEbbError } from '../../base/errors.ts';
import { decodeName, encodeName, nameProblem } from '../../base/name.ts';
import type { Inode, Volume } from '../../ext4/volume.ts';
import {
  linkEntry,
  makeDirectory,
  makeSymlink,
  removeFile,
  removeFileIfThere,
  renameEntry,
  setOwner,
} from '../../sys/entries.ts';
import { openFd, OpenFlag } from '../../sys/fd.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import {
  fileStatus,
  fileStatusAt,
  isSameFile,
  setFileTimes,
  setFileTimesAt,
} from '../../sys/stat.ts';
import type { FileStatus } from '../../sys/stat.ts';
import { setXattr } from '../../sys/xattr.ts';
import type { ReaderOutput } from './lines.ts';
import { ProgressLines } from './progress-lines.ts';

export interface CopyOptions {
  /** Replaces files and symlinks that are there; never directories. */
  readonly force: boolean;
}

const pieceBytes = 1024 * 1024;
/** Each level holds a descriptor. */
const depthMax = 500;
/** PATH_MAX, without the NUL. */
const pathMaxBytes = 4095;
/** Inodes with several names of which it is remembered where the first one went; others become copies. */
const linksMax = 1_000_000;
/** Neither set-user-id nor set-group-id: who made the image is not who runs the copy. */
const modeMask = 0o1777;
const copiedAttribute = /^(user\.|system\.posix_acl_)/;
const createFlags = OpenFlag.wronly | OpenFlag.creat | OpenFlag.excl | OpenFlag.nofollow;
const enterFlags = OpenFlag.rdonly | OpenFlag.directory | OpenFlag.nofollow;
/** Through a directory that may not be listed, too. */
const passFlags = OpenFlag.path | OpenFlag.directory | OpenFlag.nofollow;
const typeMask = 0o170000;
const directoryType = 0o040000;

/** The copy of an inode that has several names: where its first name went, and as what. */
interface FirstCopy {
  /** From the destination. */
  readonly path: string;
  readonly status: FileStatus;
}

export class CopyOut {
  files = 0;
  directories = 0;
  bytes = 0;
  attributesLost = 0;
  failed = 0;
  refused = 0;
  readonly #volume: Volume;
  readonly #output: ReaderOutput;
  readonly #options: CopyOptions;
  readonly #rootFd: number;
  readonly #links = new Map<number, FirstCopy>();
  #replaced = 0;
  readonly #isRoot = process.geteuid?.() === 0;
  readonly #piece = new Uint8Array(pieceBytes);
  readonly #progress: ProgressLines;

  /** `rootFd`: the directory in which everything ends up; the caller's. */
  constructor(volume: Volume, rootFd: number, output: ReaderOutput, options: CopyOptions) {
    this.#volume = volume;
    this.#rootFd = rootFd;
    this.#output = output;
    this.#options = options;
    this.#progress = new ProgressLines(output);
  }

  /** Copies an inode, with all below, to a name in the destination. Failures are said, file by file. */
  copy(inode: Inode, name: string): void {
    this.#try(name, () => this.#copy(inode, this.#rootFd, name, name, 0));
  }

  /** Copies what is in a directory into the destination. */
  copyEntries(directory: Inode): void {
    this.#try('', () => this.#entries(directory, this.#rootFd, '', 0));
  }

  #try(shown: string, action: () => void): void {
    try {
      action();
    } catch (error) {
      const { code, message } = toEbbError(error);
      this.failed += 1;
      this.#output.line({ error: { path: shown, code, message, refused: false } });
    }
  }

  #refuse(shown: string, message: string): void {
    this.refused += 1;
    this.#output.line({ error: { path: shown, code: 'EPERM', message, refused: true } });
  }

  #copy(inode: Inode, parentFd: number, name: string, shown: string, depth: number): void {
    const problem = nameProblem(name);
    if (problem !== undefined) {
      this.#refuse(shown, `not copied: ${problem}`);
      return;
    }
    if (inode.type === 'directory') this.#directory(inode, parentFd, name, shown, depth);
    else if (inode.type === 'file') this.#file(inode, parentFd, name, shown);
    else if (inode.type === 'symlink') this.#symlink(inode, parentFd, name, shown);
    else this.#refuse(shown, `not copied: it is a special file (${inode.type})`);
  }

  #directory(inode: Inode, parentFd: number, name: string, shown: string, depth: number): void {
    if (depth >= depthMax) {
      throw ebbError('ENAMETOOLONG', `Directories are copied ${depthMax} levels deep`);
    }
    const isNew = made(() => makeDirectory(parentFd, name, 0o700));
    using directory = openFd(name, enterFlags, 0, parentFd);
    this.directories += 1;
    this.#entries(inode, directory.fd, `${shown}/`, depth + 1);
    if (isNew) this.#describe(inode, directory.fd);
  }

  #entries(directory: Inode, fd: number, prefix: string, depth: number): void {
    for (const entry of this.#volume.entries(directory, 0)) {
      const name = decodeName(entry.name);
      const shown = `${prefix}${name}`;
      this.#try(shown, () => {
        this.#copy(this.#volume.child(directory, entry), fd, name, shown, depth);
      });
    }
  }

  #file(inode: Inode, parentFd: number, name: string, shown: string): void {
    this.#named(inode, parentFd, name, shown, (place) =>
      this.#newFile(inode, parentFd, place, shown),
    );
    this.#progress.tell(shown, this.files, this.bytes);
  }

  /** Links a name to the first copy of its inode; where that is this one, `make` makes it. */
  #named(
    inode: Inode,
    parentFd: number,
    name: string,
    shown: string,
    make: (place: string) => FileStatus,
  ): void {
    if (inode.linkCount > 1 && this.#isLinked(inode, parentFd, name)) {
      this.files += 1;
      return;
    }
    const status = this.#place(parentFd, name, make);
    this.files += 1;
    const isKnown = this.#links.has(inode.number);
    if (inode.linkCount > 1 && (isKnown || this.#links.size < linksMax)) {
      this.#links.set(inode.number, { path: shown, status });
    }
  }

  /** False: there is no first copy any more; `force` may have put another file in its place. */
  #isLinked({ number }: Inode, parentFd: number, name: string): boolean {
    const known = this.#links.get(number);
    if (known === undefined) return false;
    using first = placeBelow(this.#rootFd, known.path);
    const now = first === undefined ? undefined : statusOf(first.fd, first.name);
    if (first === undefined || now === undefined || !isSameFile(now, known.status)) return false;
    this.#place(parentFd, name, (place) => linkEntry(first.fd, first.name, parentFd, place));
    return true;
  }

  /** Makes a file; none is left when that fails. Returns what it became. */
  #newFile(inode: Inode, parentFd: number, name: string, shown: string): FileStatus {
    using file = openFd(name, createFlags, 0o600, parentFd);
    try {
      this.#content(inode, file.fd, shown);
      this.#describe(inode, file.fd);
      const status = fileStatus(file.fd);
      // Some file systems say only here that they could not write.
      file.close();
      return status;
    } catch (error) {
      // Half a file is none.
      removeFile(parentFd, name);
      throw error;
    }
  }

  #symlink(inode: Inode, parentFd: number, name: string, shown: string): void {
    const target = this.#volume.symlinkTarget(inode);
    this.#named(inode, parentFd, name, shown, (place) => {
      makeSymlink(parentFd, place, target);
      if (this.#isRoot) setOwner(parentFd, place, inode.uid, inode.gid);
      setFileTimesAt(parentFd, place, inode.accessTime, inode.modificationTime);
      return fileStatusAt(parentFd, place);
    });
  }

  /**
   * Makes a name. What is there is replaced when that is wanted, by what was made whole under another name: an image
   * that cannot be read, or a disk that is full, costs nobody the file that he has.
   */
  #place<Result>(parentFd: number, name: string, make: (place: string) => Result): Result {
    try {
      return make(name);
    } catch (error) {
      if (toEbbError(error).errno !== Errno.EEXIST) throw error;
      if (!this.#options.force) {
        throw ebbError('EEXIST', 'It exists already; --force replaces it', { cause: error });
      }
    }
    if (((statusOf(parentFd, name)?.mode ?? 0) & typeMask) === directoryType) {
      throw ebbError('EISDIR', 'It is a directory here already, which is not replaced');
    }
    this.#replaced += 1;
    const aside = `.ebb-image-cp-${process.pid}-${this.#replaced}`;
    try {
      const made = make(aside);
      renameEntry(parentFd, aside, parentFd, name, 'replace');
      return made;
    } finally {
      // After a rename of one name of a file to another of it both are there (rename(2)).
      removeFileIfThere(parentFd, aside);
    }
  }

  /** Holes stay holes. */
  #content(inode: Inode, fd: number, shown: string): void {
    ftruncateSync(fd, inode.sizeBytes);
    const { blockSizeBytes } = this.#volume.superblock;
    if (inode.inlineData) {
      // No inode holds more than a block: what truncate(2) put behind that is zeros.
      this.#range(inode, fd, 0, Math.min(inode.sizeBytes, blockSizeBytes), shown);
      return;
    }
    if (inode.encrypted) this.#volume.read(inode, 0, this.#piece);
    for (const { logicalBlock, blockCount, unwritten } of this.#volume.extents(inode)) {
      if (unwritten) continue;
      const start = logicalBlock * blockSizeBytes;
      const end = Math.min(start + blockCount * blockSizeBytes, inode.sizeBytes);
      this.#range(inode, fd, start, end, shown);
    }
  }

  #range(inode: Inode, fd: number, start: number, end: number, shown: string): void {
    for (let at = start; at < end;) {
      const piece = this.#piece.subarray(0, Math.min(pieceBytes, end - at));
      const count = this.#volume.read(inode, at, piece);
      if (count !== piece.length) throw ebbError('EIO', `The file ended at ${at + count}`);
      for (let done = 0; done < count;) done += writeSync(fd, piece, done, count - done, at + done);
      at += count;
      this.bytes += count;
      this.#progress.tell(shown, this.files, this.bytes);
    }
  }

  /** Owner (root only), mode, attributes, times: what is permitted. */
  #describe(inode: Inode, fd: number): void {
    if (this.#isRoot) fchownSync(fd, inode.uid, inode.gid);
    fchmodSync(fd, inode.mode & modeMask);
    for (const { name, value } of this.#volume.xattrs(inode)) {
      const text = decodeName(name);
      if (!copiedAttribute.test(text)) continue;
      try {
        setXattr(fd, text, value);
      } catch {
        this.attributesLost += 1;
      }
    }
    setFileTimes(fd, inode.accessTime, inode.modificationTime);
  }
}

/** False: it was there. */
function made(make: () => void): boolean {
  try {
    make();
    return true;
  } catch (error) {
    if (toEbbError(error).code === 'EEXIST') return false;
    throw error;
  }
}

interface Place extends Disposable {
  readonly fd: number;
  readonly name: string;
}

/**
 * A path below a directory in a form that system calls take, however long it is. undefined: it cannot be entered, most
 * likely because it is not there.
 */
function placeBelow(rootFd: number, path: string): Place | undefined {
  let directory: OwnedFd | undefined;
  const end = (): void => directory?.close();
  let name = path;
  while (encodeName(name).length > pathMaxBytes) {
    // A character has three bytes at the most.
    const cut = name.lastIndexOf('/', pathMaxBytes / 3);
    try {
      const next = openFd(name.slice(0, cut), passFlags, 0, directory?.fd ?? rootFd);
      end();
      directory = next;
    } catch {
      end();
      return undefined;
    }
    name = name.slice(cut + 1);
  }
  return { fd: directory?.fd ?? rootFd, name, [Symbol.dispose]: end };
}

/** undefined: it cannot be looked at, most likely because it is not there. */
function statusOf(parentFd: number, path: string): FileStatus | undefined {
  try {
    return fileStatusAt(parentFd, path);
  } catch {
    return undefined;
  }
}
