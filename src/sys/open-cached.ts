/**
 * Opening without waiting: openat2(2) with RESOLVE_CACHED succeeds only when the kernel has all it needs in memory
 * already, so that no disk, no network and no automounter can hold up the thread that asks.
 */
import { AT_FDCWD, OpenFlag } from './fd.ts';
import { bind, lazily, onlyCString, orErrno } from './ffi.ts';

/** The same on x86-64 and arm64. */
const SYS_openat2 = 437;

/** linux/openat2.h. */
const RESOLVE_NO_XDEV = 0x01;
const RESOLVE_NO_SYMLINKS = 0x04;
const RESOLVE_BENEATH = 0x08;
const RESOLVE_CACHED = 0x20;

const native = lazily(() => ({
  openat2: bind<
    (number: number, dirfd: number, path: Uint8Array, how: Uint8Array, sizeBytes: number) => number
  >('long syscall(long number, long dirfd, const void *path, const void *how, size_t size)'),
}));

/**
 * Opens `path` with O_PATH, which does nothing to the file itself. Returns the descriptor, which the caller owns, or
 * -errno: -EAGAIN when it cannot be known without waiting. Below `directoryFd`: neither out of that directory nor over
 * to another mount, and through no symlink; a last name that is one is opened as itself (with O_NOFOLLOW). Without it
 * the path is absolute and followed as usual.
 */
export function openCachedPath(
  path: string | Uint8Array,
  flags: number,
  directoryFd?: number,
): number {
  const below = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH;
  return open(directoryFd ?? AT_FDCWD, path, flags, directoryFd === undefined ? 0 : below);
}

/** The same for an absolute path without symlinks (-ELOOP); a last name that is one is opened as itself. */
export function openCachedExactly(path: string | Uint8Array): number {
  return open(AT_FDCWD, path, OpenFlag.nofollow, RESOLVE_NO_SYMLINKS);
}

/** struct open_how: flags, mode, resolve. One for all calls of this thread. */
const how = new BigUint64Array(3);
const howBytes = new Uint8Array(how.buffer);

function open(from: number, path: string | Uint8Array, flags: number, resolve: number): number {
  how[0] = BigInt(flags | OpenFlag.path | OpenFlag.cloexec);
  how[2] = BigInt(RESOLVE_CACHED | resolve);
  const call = native();
  return orErrno(call.openat2(SYS_openat2, from, onlyCString(path), howBytes, howBytes.length));
}
