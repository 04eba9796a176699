/**
 * Numbers of the FUSE kernel protocol 7.45, as in include/uapi/linux/fuse.h of Linux 6.18. Names
 * are those of the header without the `FUSE_` prefix where the object says it already.
 */

export const protocolMajor = 7;
/**
 * The newest minor version this library knows; the session speaks the smaller of this and the
 * kernel's.
 */
export const protocolMinor = 45;
/** Older kernels (before 5.4) have other struct sizes; they are refused with EPROTO. */
export const protocolMinorMinimum = 31;

/** FUSE_ROOT_ID: the node id of the root directory; its generation must be 0. */
export const rootNodeId = 1;
/** FUSE_MIN_READ_BUFFER: read(2) on /dev/fuse with less fails with EINVAL. */
export const readBufferMinimumBytes = 8192;
/** FUSE_DEFAULT_MAX_PAGES_PER_REQ of the kernel: the request size without FUSE_MAX_PAGES. */
export const pagesPerRequestDefault = 32;
/** The kernel's page, as max_pages counts it on x86-64 and (usually) arm64. */
export const pageSizeBytes = 4096;

export const Opcode = Object.freeze({
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  BMAP: 37,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SETUPMAPPING: 48,
  REMOVEMAPPING: 49,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
  COPY_FILE_RANGE_64: 53,
});

/** One past the largest opcode known here. */
export const opcodeCount = 54;

const opcodeNames = new Map<number, string>(
  Object.entries(Opcode).map(([name, number]) => [number, name]),
);

/** `LOOKUP` for 1; `opcode 99` for what is not known. */
export function opcodeName(opcode: number): string {
  return opcodeNames.get(opcode) ?? `opcode ${opcode}`;
}

/** INIT flags: bits 0..31 travel in `flags`, 32..63 in `flags2` (with INIT_EXT). */
export const InitFlag = Object.freeze({
  ASYNC_READ: 1n << 0n,
  POSIX_LOCKS: 1n << 1n,
  FILE_OPS: 1n << 2n,
  ATOMIC_O_TRUNC: 1n << 3n,
  EXPORT_SUPPORT: 1n << 4n,
  BIG_WRITES: 1n << 5n,
  DONT_MASK: 1n << 6n,
  SPLICE_WRITE: 1n << 7n,
  SPLICE_MOVE: 1n << 8n,
  SPLICE_READ: 1n << 9n,
  FLOCK_LOCKS: 1n << 10n,
  HAS_IOCTL_DIR: 1n << 11n,
  AUTO_INVAL_DATA: 1n << 12n,
  DO_READDIRPLUS: 1n << 13n,
  READDIRPLUS_AUTO: 1n << 14n,
  ASYNC_DIO: 1n << 15n,
  WRITEBACK_CACHE: 1n << 16n,
  NO_OPEN_SUPPORT: 1n << 17n,
  PARALLEL_DIROPS: 1n << 18n,
  HANDLE_KILLPRIV: 1n << 19n,
  POSIX_ACL: 1n << 20n,
  ABORT_ERROR: 1n << 21n,
  MAX_PAGES: 1n << 22n,
  CACHE_SYMLINKS: 1n << 23n,
  NO_OPENDIR_SUPPORT: 1n << 24n,
  EXPLICIT_INVAL_DATA: 1n << 25n,
  MAP_ALIGNMENT: 1n << 26n,
  SUBMOUNTS: 1n << 27n,
  HANDLE_KILLPRIV_V2: 1n << 28n,
  SETXATTR_EXT: 1n << 29n,
  INIT_EXT: 1n << 30n,
  INIT_RESERVED: 1n << 31n,
  SECURITY_CTX: 1n << 32n,
  HAS_INODE_DAX: 1n << 33n,
  CREATE_SUPP_GROUP: 1n << 34n,
  HAS_EXPIRE_ONLY: 1n << 35n,
  DIRECT_IO_ALLOW_MMAP: 1n << 36n,
  PASSTHROUGH: 1n << 37n,
  NO_EXPORT_SUPPORT: 1n << 38n,
  HAS_RESEND: 1n << 39n,
  ALLOW_IDMAP: 1n << 40n,
  OVER_IO_URING: 1n << 41n,
  REQUEST_TIMEOUT: 1n << 42n,
});

/** The names of the bits of an INIT flag set, in bit order; unknown bits as `bit N`. */
export function initFlagNames(flags: bigint): string[] {
  const names: string[] = [];
  const byBit = new Map(Object.entries(InitFlag).map(([name, bit]) => [bit, name]));
  for (let bit = 0n; bit < 64n; bit += 1n) {
    if ((flags & (1n << bit)) !== 0n) names.push(byBit.get(1n << bit) ?? `bit ${bit}`);
  }
  return names;
}

/** fuse_open_out.open_flags. */
export const FOPEN_DIRECT_IO = 1 << 0;
export const FOPEN_KEEP_CACHE = 1 << 1;
export const FOPEN_NONSEEKABLE = 1 << 2;
export const FOPEN_CACHE_DIR = 1 << 3;
export const FOPEN_STREAM = 1 << 4;
export const FOPEN_NOFLUSH = 1 << 5;
export const FOPEN_PARALLEL_DIRECT_WRITES = 1 << 6;
/**
 * Beside it only DIRECT_IO, PARALLEL_DIRECT_WRITES and NOFLUSH are allowed, else the opener gets
 * EIO.
 */
export const FOPEN_PASSTHROUGH = 1 << 7;

/** fuse_setattr_in.valid: which fields of `SetAttributes` count. */
export const FATTR_MODE = 1 << 0;
export const FATTR_UID = 1 << 1;
export const FATTR_GID = 1 << 2;
export const FATTR_SIZE = 1 << 3;
export const FATTR_ATIME = 1 << 4;
export const FATTR_MTIME = 1 << 5;
export const FATTR_FH = 1 << 6;
export const FATTR_ATIME_NOW = 1 << 7;
export const FATTR_MTIME_NOW = 1 << 8;
export const FATTR_LOCKOWNER = 1 << 9;
export const FATTR_CTIME = 1 << 10;
export const FATTR_KILL_SUIDGID = 1 << 11;

export const GETATTR_FH = 1 << 0;
export const OPEN_KILL_SUIDGID = 1 << 0;
export const RELEASE_FLUSH = 1 << 0;
export const RELEASE_FLOCK_UNLOCK = 1 << 1;
export const WRITE_CACHE = 1 << 0;
export const WRITE_LOCKOWNER = 1 << 1;
export const WRITE_KILL_SUIDGID = 1 << 2;
export const READ_LOCKOWNER = 1 << 1;
export const FSYNC_FDATASYNC = 1 << 0;
export const SETXATTR_ACL_KILL_SGID = 1 << 0;
export const EXPIRE_ONLY = 1 << 0;

/** enum fuse_notify_code: travels in the `error` field of a header with unique 0. */
export const NotifyCode = Object.freeze({
  POLL: 1,
  INVAL_INODE: 2,
  INVAL_ENTRY: 3,
  STORE: 4,
  RETRIEVE: 5,
  DELETE: 6,
  RESEND: 7,
  INC_EPOCH: 8,
  PRUNE: 9,
});

/**
 * enum fuse_ext_type: types up to 31 are a struct fuse_secctx_header whose second word is a count.
 */
export const EXTENSION_SECURITY_CONTEXTS_MAXIMUM = 31;
export const EXTENSION_GROUPS = 32;

/**
 * Bit 31 of the high word of `unique`: redelivered after FUSE_NOTIFY_RESEND (FUSE_UNIQUE_RESEND).
 */
export const uniqueResendHighBit = 0x8000_0000;
