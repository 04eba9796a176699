/** statx(2) with nanoseconds, birth time and allocated blocks; utimensat(2) with nanoseconds. */

import { AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW } from './fd.ts';
import { bind, bindAsync, lastErrno, lazily, onlyCString, systemError } from './ffi.ts';

/** STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID. */
const mask = 0x7ff | 0x800 | 0x1000;
const STATX_BTIME = 0x800;
const STATX_MNT_ID_UNIQUE = 0x4000;
const AT_STATX_FORCE_SYNC = 0x2000;
const AT_STATX_DONT_SYNC = 0x4000;
/** STATX_MTIME | STATX_CTIME | STATX_INO | STATX_SIZE. */
const versionMask = 0x40 | 0x80 | 0x100 | 0x200;
const mountIdAt = 144;

const native = lazily(() => ({
  statx: bind<
    (dir: number, path: Uint8Array, flags: number, mask: number, into: Uint8Array) => number
  >('int statx(int dirfd, const void *path, int flags, unsigned int mask, void *buf)'),
  statxInPool: bindAsync<
    [fd: number, path: Uint8Array, flags: number, mask: number, into: Uint8Array]
  >('int statx(int dirfd, const void *path, int flags, unsigned int mask, void *buf)'),
  futimens: bind<(fd: number, times: BigInt64Array) => number>(
    'int futimens(int fd, const void *times)',
  ),
  utimensat: bind<(dir: number, path: Uint8Array, times: BigInt64Array, flags: number) => number>(
    'int utimensat(int dirfd, const void *path, const void *times, int flags)',
  ),
}));

/** A point in time: split, because a Number cannot hold nanoseconds since 1970. */
export interface FileTime {
  /** Since 1970; negative before. */
  readonly seconds: number;
  /** 0 .. 999,999,999 */
  readonly nanoseconds: number;
}

export function sameTime(a: FileTime, b: FileTime | undefined): boolean {
  return a.seconds === b?.seconds && a.nanoseconds === b.nanoseconds;
}

/**
 * Whether two changes of an inode one after the other would show different ctimes, when somebody looks in between: they
 * do where there are fractions of a second (multigrain timestamps, Linux 6.13), and not within one second where the
 * file system keeps no more (ext4 with small inodes).
 */
export function tellsChanges(ctime: FileTime): boolean {
  return ctime.nanoseconds !== 0;
}

export interface FileStatus {
  /** File type and permission bits, as st_mode. */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  /** 64 bits; some file systems use them all. */
  readonly ino: bigint;
  readonly sizeBytes: number;
  /** Allocated on disk. */
  readonly allocatedBytes: number;
  readonly blockSizeBytes: number;
  readonly atime: FileTime;
  readonly mtime: FileTime;
  readonly ctime: FileTime;
  /** Birth time, where the file system keeps one. */
  readonly btime: FileTime | undefined;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  /** As in /proc/self/mountinfo. */
  readonly mountId: number;
}

/** The same inode, whatever name or descriptor it was found by. */
export function isSameFile(one: FileStatus, other: FileStatus): boolean {
  return (
    one.ino === other.ino &&
    one.deviceMajor === other.deviceMajor &&
    one.deviceMinor === other.deviceMinor
  );
}

/** What to look at: an open file (also O_PATH), or a path whose final symlink is not followed. */
export type StatTarget = number | string;

/** struct statx. One for all calls of this thread: it is decoded before the next one. */
const answer = new Uint8Array(256);
const view = new DataView(answer.buffer);
const noPath = new Uint8Array(1);

/** statx(2). Throws ENOENT, EACCES, EBADF, ... */
export function fileStatus(target: StatTarget): FileStatus {
  if (typeof target === 'string') return fileStatusAt(AT_FDCWD, target);
  const flags = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW;
  const result = native().statx(target, noPath, flags, mask, answer);
  if (result < 0) throw systemError(lastErrno(), 'statx', `descriptor ${target}`);
  return decodeStatx();
}

/** statx(2) of an entry of an open directory; a symlink is not followed. Throws ENOENT, ENOTDIR, ... */
export function fileStatusAt(directoryFd: number, name: string | Uint8Array): FileStatus {
  const path = onlyCString(name);
  const result = native().statx(directoryFd, path, AT_SYMLINK_NOFOLLOW, mask, answer);
  if (result < 0) throw systemError(lastErrno(), 'statx', shown(name));
  return decodeStatx();
}

function shown(name: string | Uint8Array): string {
  return typeof name === 'string' ? name : Buffer.from(name).toString();
}

/** struct statx of linux/stat.h; offsets are the ABI. */
function decodeStatx(): FileStatus {
  const known = view.getUint32(0, true);
  return {
    blockSizeBytes: view.getUint32(4, true),
    nlink: view.getUint32(16, true),
    uid: view.getUint32(20, true),
    gid: view.getUint32(24, true),
    mode: view.getUint16(28, true),
    ino: view.getBigUint64(32, true),
    sizeBytes: wordAt(40),
    allocatedBytes: wordAt(48) * 512,
    atime: timestampAt(64),
    btime: (known & STATX_BTIME) === 0 ? undefined : timestampAt(80),
    ctime: timestampAt(96),
    mtime: timestampAt(112),
    deviceMajor: view.getUint32(136, true),
    deviceMinor: view.getUint32(140, true),
    mountId: wordAt(mountIdAt),
  };
}

/**
 * Of the mount that a file was opened through: an id that no other mount ever gets (Linux 6.8; before, a number that is
 * used again). The file system itself is asked nothing: it may be hanging, or be served by this process. Throws EBADF.
 */
export function uniqueMountId(fd: number): bigint {
  const flags = AT_EMPTY_PATH | AT_STATX_DONT_SYNC;
  const result = native().statx(fd, noPath, flags, STATX_MNT_ID_UNIQUE, answer);
  if (result < 0) throw systemError(lastErrno(), 'statx', `descriptor ${fd}`);
  return view.getBigUint64(mountIdAt, true);
}

/** What comes here is for the kernel to keep. */
const notLookedAt = new Uint8Array(256);

/**
 * Has the kernel ask for the attributes of an open file anew, in the thread pool: a network file system's it keeps for
 * seconds or minutes without asking (actimeo= of nfs(5), FUSE's timeouts), while bytes are read as they are now. What
 * fstat(2) says afterwards is no older than the call. Rejects with EIO, ESTALE, ...
 */
export async function refreshAttributes(fd: number): Promise<void> {
  const flags = AT_EMPTY_PATH | AT_STATX_FORCE_SYNC;
  const result = await native().statxInPool(fd, noPath, flags, versionMask, notLookedAt);
  if (result < 0) throw systemError(-result, 'statx', `descriptor ${fd}`);
}

/** 64 bits without sign. */
function wordAt(offset: number): number {
  return view.getUint32(offset + 4, true) * 2 ** 32 + view.getUint32(offset, true);
}

/** struct statx_timestamp { s64 tv_sec; u32 tv_nsec; s32 reserved; }. */
function timestampAt(offset: number): FileTime {
  return {
    seconds: view.getInt32(offset + 4, true) * 2 ** 32 + view.getUint32(offset, true),
    nanoseconds: view.getUint32(offset + 8, true),
  };
}

const UTIME_NOW = 0x3fffffff;
const UTIME_OMIT = 0x3ffffffe;

/** A time to set; undefined leaves it as it is. */
export type NewTime = FileTime | 'now' | undefined;

/**
 * utimensat(2): sets access and modification time of an open file, or of a path whose final symlink
 * is not followed. Throws EPERM, EACCES, EROFS, EINVAL for nanoseconds outside 0 .. 999,999,999.
 */
export function setFileTimes(target: StatTarget, atime: NewTime, mtime: NewTime): void {
  const times = timesOf(atime, mtime);
  const result =
    typeof target === 'number'
      ? native().futimens(target, times)
      : native().utimensat(AT_FDCWD, onlyCString(target), times, AT_SYMLINK_NOFOLLOW);
  if (result >= 0) return;
  const errno = lastErrno();
  throw systemError(
    errno,
    'utimensat',
    typeof target === 'number' ? `descriptor ${target}` : target,
  );
}

/** The same for an entry of an open directory. */
export function setFileTimesAt(
  directoryFd: number,
  name: string | Uint8Array,
  atime: NewTime,
  mtime: NewTime,
): void {
  const times = timesOf(atime, mtime);
  const path = onlyCString(name);
  const result = native().utimensat(directoryFd, path, times, AT_SYMLINK_NOFOLLOW);
  if (result < 0) throw systemError(lastErrno(), 'utimensat', shown(name));
}

/** struct timespec[2]. One for all calls of this thread. */
const newTimes = new BigInt64Array(4);

function timesOf(atime: NewTime, mtime: NewTime): BigInt64Array {
  [newTimes[0], newTimes[1]] = timespec(atime);
  [newTimes[2], newTimes[3]] = timespec(mtime);
  return newTimes;
}

function timespec(time: NewTime): [seconds: bigint, nanoseconds: bigint] {
  if (time === undefined) return [0n, BigInt(UTIME_OMIT)];
  if (time === 'now') return [0n, BigInt(UTIME_NOW)];
  // The kernel's own magic values must not be reachable with numbers.
  const nanoseconds = time.nanoseconds >= 0 && time.nanoseconds < 1e9 ? time.nanoseconds : -1;
  return [BigInt(time.seconds), BigInt(nanoseconds)];
}
