/**
 * Directory entries, relative to an open directory (also O_PATH): no path is walked, so nobody can put something else
 * in its way. Names are raw bytes, or strings in the form of base/name.ts. Opening is `openFd` (fd.ts) with its
 * `directoryFd`; node:fs has fchmod and fchown for open files, but knows no directory descriptors.
 */
import { toEbbError } from '../base/errors.ts';
import { AT_FDCWD, AT_SYMLINK_NOFOLLOW } from './fd.ts';
import { bind, cString, lastErrno, lazily, onlyCString, orThrow, systemError } from './ffi.ts';

const AT_REMOVEDIR = 0x200;
const AT_SYMLINK_FOLLOW = 0x400;
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;

type OnName = (directory: number, name: Uint8Array, argument: number) => number;

const native = lazily(() => ({
  mkdirat: bind<OnName>('int mkdirat(int dirfd, const void *path, uint32_t mode)'),
  symlinkat: bind<(target: Uint8Array, directory: number, name: Uint8Array) => number>(
    'int symlinkat(const void *target, int dirfd, const void *path)',
  ),
  readlinkat: bind<
    (directory: number, name: Uint8Array, into: Uint8Array, sizeBytes: number) => number
  >('int64_t readlinkat(int dirfd, const void *path, void *buf, size_t size)'),
  linkat: bind<
    (from: number, path: Uint8Array, to: number, name: Uint8Array, flags: number) => number
  >('int linkat(int olddir, const void *old, int newdir, const void *new, int flags)'),
  renameat2: bind<
    (from: number, name: Uint8Array, to: number, newName: Uint8Array, flags: number) => number
  >('int renameat2(int olddir, const void *old, int newdir, const void *new, unsigned int flags)'),
  unlinkat: bind<OnName>('int unlinkat(int dirfd, const void *path, int flags)'),
  fchownat: bind<
    (directory: number, name: Uint8Array, uid: number, gid: number, flags: number) => number
  >('int fchownat(int dirfd, const void *path, uint32_t uid, uint32_t gid, int flags)'),
}));

type Name = string | Uint8Array;

function shown(name: Name): string {
  return typeof name === 'string' ? name : Buffer.from(name).toString();
}

/** mkdirat(2); umask applies to `mode`. Throws EEXIST, ENOSPC, EDQUOT, EMLINK, ENAMETOOLONG, ... */
export function makeDirectory(directoryFd: number, name: Name, mode: number): void {
  orThrow(native().mkdirat(directoryFd, cString(name), mode), 'mkdir', shown(name));
}

/** symlinkat(2): `name` leads to `target`, 1 .. 4095 bytes. Throws EEXIST, ENAMETOOLONG, ENOENT (empty), ... */
export function makeSymlink(directoryFd: number, name: Name, target: Name): void {
  orThrow(native().symlinkat(cString(target), directoryFd, cString(name)), 'symlink', shown(name));
}

/** PATH_MAX: no symlink is longer. One for all calls of this thread. */
const target = new Uint8Array(4096);

/** readlinkat(2). Throws EINVAL when it is no symlink, ENOENT, ... */
export function readSymlink(directoryFd: number, name: Name): Uint8Array<ArrayBuffer> {
  const result = native().readlinkat(directoryFd, onlyCString(name), target, target.length);
  return target.slice(0, orThrow(result, 'readlink', shown(name)));
}

/**
 * linkat(2) of an open file, also an O_TMPFILE one that has no name yet (and was not opened with O_EXCL). Goes through
 * /proc: needs no capability. Throws EEXIST, EXDEV (also another mount of the same file system), ENOENT (it had a name
 * and lost it), EMLINK, ...
 */
export function linkFile(fd: number, directoryFd: number, name: Name): void {
  const from = cString(`/proc/self/fd/${fd}`);
  const path = onlyCString(name);
  const result = native().linkat(AT_FDCWD, from, directoryFd, path, AT_SYMLINK_FOLLOW);
  if (result < 0) throw systemError(lastErrno(), 'link', shown(name));
}

/** linkat(2) of an entry; a symlink is not followed. Throws as `linkFile`. */
export function linkEntry(fromFd: number, from: Name, directoryFd: number, name: Name): void {
  const result = native().linkat(fromFd, cString(from), directoryFd, cString(name), 0);
  orThrow(result, 'link', shown(name));
}

/** `replace`: what is there goes. `keep`: EEXIST. `exchange`: both change places (ENOENT when there is nothing). */
export type RenameMode = 'replace' | 'keep' | 'exchange';

const renameFlags: Readonly<Record<RenameMode, number>> = {
  replace: 0,
  keep: RENAME_NOREPLACE,
  exchange: RENAME_EXCHANGE,
};

/** renameat2(2), atomically. Throws EEXIST, ENOENT, EXDEV, ENOTEMPTY, EISDIR, ... */
export function renameEntry(
  fromFd: number,
  from: Name,
  toFd: number,
  to: Name,
  mode: RenameMode,
): void {
  const result = native().renameat2(fromFd, cString(from), toFd, cString(to), renameFlags[mode]);
  orThrow(result, 'rename', shown(from));
}

/** unlinkat(2) of anything but a directory. Throws ENOENT, EISDIR, EPERM, ... */
export function removeFile(directoryFd: number, name: Name): void {
  orThrow(native().unlinkat(directoryFd, cString(name), 0), 'unlink', shown(name));
}

/** The same; false: it is not there (any more). */
export function removeFileIfThere(directoryFd: number, name: Name): boolean {
  try {
    removeFile(directoryFd, name);
    return true;
  } catch (error) {
    if (toEbbError(error).code === 'ENOENT') return false;
    throw error;
  }
}

/** unlinkat(2) of an empty directory. Throws ENOENT, ENOTEMPTY, ENOTDIR, EBUSY (mount point), ... */
export function removeDirectory(directoryFd: number, name: Name): void {
  orThrow(native().unlinkat(directoryFd, cString(name), AT_REMOVEDIR), 'rmdir', shown(name));
}

/** fchownat(2); a symlink is not followed. Clears set-id bits of files. */
export function setOwner(directoryFd: number, name: Name, uid: number, gid: number): void {
  const result = native().fchownat(directoryFd, cString(name), uid, gid, AT_SYMLINK_NOFOLLOW);
  orThrow(result, 'chown', shown(name));
}
