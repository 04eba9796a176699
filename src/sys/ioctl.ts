/**
 * ioctl(2): reflinks, UUIDs, the requests of /dev/fuse, the numbers for xfs-handle.ts. Numbers: asm-generic/ioctl.h
 * (x86-64, arm64).
 */
import { Errno } from '../base/errno.ts';
import { bind, checkOffset, lastErrno, lazily, orErrno, systemError } from './ffi.ts';

const toKernel = 1;
const fromKernel = 2;
const both = 3;

/** _IOC(direction, type, number, sizeBytes). */
function request(direction: number, type: number, number: number, sizeBytes: number): number {
  return direction * 2 ** 30 + sizeBytes * 2 ** 16 + type * 2 ** 8 + number;
}

const fuseType = 229;
const fsType = 'f'.charCodeAt(0);
const xfsType = 'X'.charCodeAt(0);

export const IoctlRequest = {
  /** linux/fs.h: struct file_clone_range, 32 bytes. */
  ficloneRange: request(toKernel, 0x94, 13, 32),
  /** linux/fs.h: struct fsxattr, 28 bytes. */
  /** linux/fs.h: FS_IOC_GETFLAGS, FS_IOC_SETFLAGS; they say long and mean a 32-bit number. */
  fsGetFlags: request(fromKernel, fsType, 1, 8),
  fsSetFlags: request(toKernel, fsType, 2, 8),
  fsGetXattr: request(fromKernel, xfsType, 31, 28),
  fsSetXattr: request(toKernel, xfsType, 32, 28),
  /** linux/fs.h: struct fsuuid2 { u8 len; u8 uuid[16]; }. */
  fsGetUuid: request(fromKernel, 0x15, 0, 17),
  /** linux/btrfs.h: struct btrfs_ioctl_fs_info_args, 1 KiB; its UUID after two u64. */
  btrfsInfo: request(fromKernel, 0x94, 31, 1024),
  /** linux/fuse.h. */
  fuseBackingOpen: request(toKernel, fuseType, 1, 16),
  fuseBackingClose: request(toKernel, fuseType, 2, 4),
  /** fs/xfs/libxfs/xfs_fs.h: struct xfs_fsop_handlereq, 56 bytes. */
  xfsFdToHandle: request(both, xfsType, 106, 56),
  xfsOpenByHandle: request(both, xfsType, 107, 56),
} as const;

const native = lazily(() => ({
  ioctl: bind<(fd: number, request: number, argument: Uint8Array | null) => number>(
    'int ioctl(int fd, unsigned long request, void *argument)',
  ),
}));

/** For the neighbours in this folder that have a file of their own: the raw result. */
export function ioctlBytes(fd: number, number: number, argument: Uint8Array): number {
  return native().ioctl(fd, number, argument);
}

/**
 * The file system's UUID, by FS_IOC_GETFSUUID (Linux 6.9) or BTRFS_IOC_FS_INFO; undefined where it has or tells none.
 */
export function filesystemUuid(fd: number): Uint8Array | undefined {
  const info = new Uint8Array(1024);
  if (succeeds(fd, IoctlRequest.fsGetUuid, info)) return info.slice(1, 1 + (info[0] ?? 0));
  if (succeeds(fd, IoctlRequest.btrfsInfo, info)) return info.slice(16, 32);
  return undefined;
}

/** False: the file system does not know the request. */
function succeeds(fd: number, number: number, argument: Uint8Array): boolean {
  const result = orErrno(native().ioctl(fd, number, argument));
  if (result === -Errno.ENOTTY || result === -Errno.EOPNOTSUPP) return false;
  if (result < 0) throw systemError(-result, 'ioctl', `descriptor ${fd}`);
  return true;
}

/** struct file_clone_range. */
const cloneWords = new BigInt64Array(4);
const cloneArgument = new Uint8Array(cloneWords.buffer);

/**
 * FICLONERANGE: the range of `targetFd` shares the blocks of `sourceFd` (copy on write). Offsets
 * and length are multiples of the block size, except a length that reaches the source's end; length
 * 0 means to the end. Throws EOPNOTSUPP where the file system cannot (ext4), EXDEV, EINVAL, ENOSPC.
 */
export function cloneRange(
  sourceFd: number,
  sourceOffset: number,
  lengthBytes: number,
  targetFd: number,
  targetOffset: number,
): void {
  checkOffset(sourceOffset, 'The source offset');
  checkOffset(lengthBytes, 'The length');
  checkOffset(targetOffset, 'The target offset');
  cloneWords[0] = BigInt(sourceFd);
  cloneWords[1] = BigInt(sourceOffset);
  cloneWords[2] = BigInt(lengthBytes);
  cloneWords[3] = BigInt(targetOffset);
  const result = native().ioctl(targetFd, IoctlRequest.ficloneRange, cloneArgument);
  if (result < 0) throw systemError(lastErrno(), 'ioctl(FICLONERANGE)', `descriptor ${targetFd}`);
}

/** struct fsxattr { u32 xflags, extsize, nextents, projid, cowextsize; u8 pad[8]; } */
const fsxattrWords = new Uint32Array(7);
const fsxattrBytes = new Uint8Array(fsxattrWords.buffer);
const cowExtentSizeFlag = 0x1_0000;
/** FS_XFLAG_PREALLOC and FS_XFLAG_HASATTR are told, not set. */
const settableFlags = 0x7fff_fffd;

/**
 * FS_IOC_FSSETXATTR: writes into shared blocks of this file take room in units of `sizeBytes`, a multiple of the block
 * size, instead of the file system's own (xfs: 32 blocks, given back when nobody has the file open any more). Moves
 * ctime. False where that cannot be said (any file system but an xfs with reflinks).
 */
export function setCowExtentSize(fd: number, sizeBytes: number): boolean {
  if (native().ioctl(fd, IoctlRequest.fsGetXattr, fsxattrBytes) < 0) return false;
  fsxattrWords[0] = ((fsxattrWords[0] ?? 0) & settableFlags) | cowExtentSizeFlag;
  fsxattrWords[4] = sizeBytes;
  return native().ioctl(fd, IoctlRequest.fsSetXattr, fsxattrBytes) >= 0;
}

/** FS_XFLAG_PROJINHERIT, chattr +P. */
const projectInheritFlag = 0x200;

/**
 * FS_IOC_FSSETXATTR: the file belongs to the project (of quotas) that new files of this directory belong to: no other
 * file can be moved there (EXDEV). Moves ctime. False where the directory hands none on, or it cannot be said.
 */
export function joinProject(fd: number, directoryFd: number): boolean {
  if (native().ioctl(directoryFd, IoctlRequest.fsGetXattr, fsxattrBytes) < 0) return false;
  const [directoryFlags = 0, , , project = 0] = fsxattrWords;
  if ((directoryFlags & projectInheritFlag) === 0) return false;
  if (native().ioctl(fd, IoctlRequest.fsGetXattr, fsxattrBytes) < 0) return false;
  fsxattrWords[0] = (fsxattrWords[0] ?? 0) & settableFlags;
  fsxattrWords[3] = project;
  return native().ioctl(fd, IoctlRequest.fsSetXattr, fsxattrBytes) >= 0;
}

/** The directory takes in files of all projects, whatever project it belongs to. */
export function admitAllProjects(directoryFd: number): void {
  if (native().ioctl(directoryFd, IoctlRequest.fsGetXattr, fsxattrBytes) < 0) return;
  const flags = fsxattrWords[0] ?? 0;
  if ((flags & projectInheritFlag) === 0) return;
  fsxattrWords[0] = flags & settableFlags & ~projectInheritFlag;
  native().ioctl(directoryFd, IoctlRequest.fsSetXattr, fsxattrBytes);
}

const inodeFlags = new Uint32Array(2);
const inodeFlagsBytes = new Uint8Array(inodeFlags.buffer);
/** FS_NOCOW_FL, chattr +C. */
const noCopyOnWriteFlag = 0x80_0000;

/**
 * FS_IOC_SETFLAGS: an empty file on btrfs is written in place and without checksums from now on, or neither, whatever
 * the mount's options and its directory have made it. False where that cannot be said.
 */
export function setWrittenInPlace(fd: number, isInPlace: boolean): boolean {
  if (native().ioctl(fd, IoctlRequest.fsGetFlags, inodeFlagsBytes) < 0) return false;
  const others = ((inodeFlags[0] ?? 0) & ~noCopyOnWriteFlag) >>> 0;
  inodeFlags[0] = (others | (isInPlace ? noCopyOnWriteFlag : 0)) >>> 0;
  return native().ioctl(fd, IoctlRequest.fsSetFlags, inodeFlagsBytes) >= 0;
}

const backingMap = new Int32Array(4);
const backingMapBytes = new Uint8Array(backingMap.buffer);
const backingId = new Int32Array(1);
const backingIdBytes = new Uint8Array(backingId.buffer);

/**
 * FUSE_DEV_IOC_BACKING_OPEN: registers an open file for passthrough. Returns the backing id (> 0)
 * or -errno: -EPERM without CAP_SYS_ADMIN or when INIT did not agree on passthrough, -ELOOP when
 * the file lies on too deep a stack of file systems, -ENOTTY from old kernels. The descriptor may
 * be closed afterwards. Hot.
 */
export function fuseBackingOpen(deviceFd: number, fileFd: number): number {
  // struct fuse_backing_map { int32_t fd; uint32_t flags; uint64_t padding; }
  backingMap[0] = fileFd;
  return orErrno(native().ioctl(deviceFd, IoctlRequest.fuseBackingOpen, backingMapBytes));
}

/**
 * FUSE_DEV_IOC_BACKING_CLOSE. Files that are open keep their backing. Returns 0 or -errno
 * (-ENOENT). Hot.
 */
export function fuseBackingClose(deviceFd: number, id: number): number {
  backingId[0] = id;
  return orErrno(native().ioctl(deviceFd, IoctlRequest.fuseBackingClose, backingIdBytes));
}
