/**
 * File descriptors that somebody owns.
 *
 * Opened and closed by our own calls, not by node:fs: in worker threads Node keeps a list of the
 * descriptors that node:fs opened and closes them by number when the thread ends, whoever owns the
 * number by then.
 */
import { constants } from '../base/node-fs.ts';
import { Errno } from '../base/errno.ts';
import { ebbError } from '../base/errors.ts';
import {
  bind,
  bindAsync,
  lastErrno,
  lazily,
  onlyCString,
  orErrno,
  orThrow,
  systemError,
} from './ffi.ts';

/** open(2). The platform's own numbers where architectures differ (x86-64, arm64). */
export const OpenFlag = {
  rdonly: constants.O_RDONLY,
  wronly: constants.O_WRONLY,
  rdwr: constants.O_RDWR,
  creat: constants.O_CREAT,
  excl: constants.O_EXCL,
  trunc: constants.O_TRUNC,
  append: constants.O_APPEND,
  nonblock: constants.O_NONBLOCK,
  noctty: constants.O_NOCTTY,
  direct: constants.O_DIRECT,
  directory: constants.O_DIRECTORY,
  nofollow: constants.O_NOFOLLOW,
  noatime: constants.O_NOATIME,
  dsync: constants.O_DSYNC,
  cloexec: 0o2000000,
  path: 0o10000000,
  tmpfile: 0o20000000 | constants.O_DIRECTORY,
} as const;

/** "Relative to the working directory" for the *at system calls. */
export const AT_FDCWD = -100;
/** Flags of the *at system calls: a final symlink is meant itself; an empty path means the descriptor itself. */
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_EMPTY_PATH = 0x1000;

const native = lazily(() => ({
  openat: bind<(directory: number, path: Uint8Array, flags: number, mode: number) => number>(
    'int openat(int dirfd, const void *path, int flags, uint32_t mode)',
  ),
  close: bind<(fd: number) => number>('int close(int fd)'),
  closeAsync: bindAsync<[fd: number]>('int close(int fd)'),
  fcntl: bind<(fd: number, command: number, argument: number) => number>(
    'int fcntl(int fd, int cmd, long arg)',
  ),
  dup2: bind<(from: number, to: number) => number>('int dup2(int oldfd, int newfd)'),
}));

/** A descriptor with one owner. `using` closes it; closing twice is harmless. */
export class OwnedFd implements Disposable {
  #fd: number;

  /** Takes over an open descriptor that nobody else closes. */
  constructor(fd: number) {
    if (!Number.isSafeInteger(fd) || fd < 0) throw ebbError('EBADF', `${fd} is no descriptor.`);
    this.#fd = fd;
  }

  /** The number; EBADF after it was closed or released. */
  get fd(): number {
    if (this.#fd < 0) throw ebbError('EBADF', 'The descriptor is closed already.');
    return this.#fd;
  }

  get isOpen(): boolean {
    return this.#fd >= 0;
  }

  /** Gives the number away: the caller owns it now. */
  release(): number {
    const fd = this.fd;
    this.#fd = -1;
    return fd;
  }

  /**
   * Closes it, once. Throws what close(2) reports (EIO, ENOSPC, EDQUOT: earlier writes were lost);
   * the descriptor is gone even then, and after EINTR, which is not an error on Linux.
   */
  close(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    if (native().close(fd) < 0) {
      const errno = lastErrno();
      if (errno !== Errno.EINTR) throw systemError(errno, 'close', `descriptor ${fd}`);
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** close(2) of a descriptor that has no `OwnedFd`. Returns 0 or -errno; it is gone even then. Hot. */
export function closeFd(fd: number): number {
  return orErrno(native().close(fd));
}

/**
 * Closes it in libuv's thread pool, soon: for descriptors whose close waits for the kernel, as that of a detached mount
 * does (RCU, some tens of milliseconds). What close(2) reports is lost.
 */
export function closeLater(owned: OwnedFd): void {
  if (owned.isOpen) void native().closeAsync(owned.release());
}

/**
 * open(2), always close-on-exec. `directoryFd`: what a relative path starts from. `mode`:
 * permission bits of a new file, umask applies. Blocks for as long as the file system does.
 */
export function openFd(
  path: string | Uint8Array,
  flags: number,
  mode = 0o600,
  directoryFd: number = AT_FDCWD,
): OwnedFd {
  const fd = native().openat(directoryFd, onlyCString(path), flags | OpenFlag.cloexec, mode);
  return new OwnedFd(orThrow(fd, 'open', typeof path === 'string' ? path : undefined));
}

const F_SETFD = 2;
const FD_CLOEXEC = 1;
const F_GETFL = 3;
const F_SETFL = 4;
const F_DUPFD_CLOEXEC = 1030;

/** A second descriptor of the same open file, close-on-exec. Throws EBADF, EMFILE. */
export function duplicateFd(fd: number): OwnedFd {
  return new OwnedFd(orThrow(native().fcntl(fd, F_DUPFD_CLOEXEC, 0), 'dup', `descriptor ${fd}`));
}

/**
 * Makes `place` a second descriptor of the open file of `fd`, which survives an exec; what it was is closed. Throws
 * EBADF.
 */
export function replaceFd(place: number, fd: number): void {
  orThrow(native().dup2(fd, place), 'dup2', `descriptor ${fd}`);
}

/** Switches O_NONBLOCK of the open file (all its descriptors). Throws EBADF. */
export function setNonblocking(fd: number, nonblocking: boolean): void {
  const flags = orThrow(native().fcntl(fd, F_GETFL, 0), 'fcntl', `descriptor ${fd}`);
  const wanted = nonblocking ? flags | OpenFlag.nonblock : flags & ~OpenFlag.nonblock;
  if (wanted !== flags) orThrow(native().fcntl(fd, F_SETFL, wanted), 'fcntl', `descriptor ${fd}`);
}

/** For descriptors that the kernel opened without it. Throws EBADF. */
export function setCloseOnExec(fd: number): void {
  orThrow(native().fcntl(fd, F_SETFD, FD_CLOEXEC), 'fcntl', `descriptor ${fd}`);
}

/** The descriptor survives an exec. Throws EBADF. */
export function clearCloseOnExec(fd: number): void {
  orThrow(native().fcntl(fd, F_SETFD, 0), 'fcntl', `descriptor ${fd}`);
}
