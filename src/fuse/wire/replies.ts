/**
 * What the server sends: struct fuse_out_header, then per opcode one or two structs or plain bytes;
 * and the notifications, which have unique 0 and their code in `error` (linux/fuse.h 7.45).
 */
import { struct } from './struct.ts';
import { Opcode } from '../constants.ts';
import type { Struct } from './struct.ts';

/** struct fuse_out_header: u32 len 0, i32 error 4, u64 unique 8; 16 bytes. */
export const outHeader = struct('fuse_out_header', {
  len: 'u32',
  error: 'i32',
  uniqueLow: 'u32',
  uniqueHigh: 'u32',
});

/**
 * struct fuse_attr: u64 ino 0, u64 size 8, u64 blocks 16, u64 atime 24, u64 mtime 32, u64 ctime 40,
 * u32 atimensec 48, u32 mtimensec 52, u32 ctimensec 56, u32 mode 60, u32 nlink 64, u32 uid 68, u32
 * gid 72, u32 rdev 76, u32 blksize 80, u32 flags 84; 88 bytes. Times are signed seconds.
 */
export const attr = struct('fuse_attr', {
  ino: 'u64',
  size: 'u64',
  blocks: 'u64',
  atime: 'i64',
  mtime: 'i64',
  ctime: 'i64',
  atimensec: 'u32',
  mtimensec: 'u32',
  ctimensec: 'u32',
  mode: 'u32',
  nlink: 'u32',
  uid: 'u32',
  gid: 'u32',
  rdev: 'u32',
  blksize: 'u32',
  flags: 'u32',
});

/**
 * struct fuse_entry_out: u64 nodeid 0, u64 generation 8, u64 entry_valid 16, u64 attr_valid 24,
 * u32 entry_valid_nsec 32, u32 attr_valid_nsec 36, struct fuse_attr attr 40; 128 bytes.
 */
export const entryOut = struct('fuse_entry_out', {
  nodeid: 'u64',
  generation: 'u64',
  entry_valid: 'u64',
  attr_valid: 'u64',
  entry_valid_nsec: 'u32',
  attr_valid_nsec: 'u32',
  ...attr.fields,
});
/** Offset of `attr` in fuse_entry_out. */
export const entryOutAttrBytes = 40;

/**
 * struct fuse_attr_out: u64 attr_valid 0, u32 attr_valid_nsec 8, u32 dummy 12, struct fuse_attr 16;
 * 104 bytes.
 */
export const attrOut = struct('fuse_attr_out', {
  attr_valid: 'u64',
  attr_valid_nsec: 'u32',
  dummy: 'u32',
  ...attr.fields,
});
/** Offset of `attr` in fuse_attr_out. */
export const attrOutAttrBytes = 16;

/** struct fuse_open_out: u64 fh 0, u32 open_flags 8, i32 backing_id 12; 16 bytes. */
export const openOut = struct('fuse_open_out', {
  fh: 'u64',
  open_flags: 'u32',
  backing_id: 'i32',
});

/** struct fuse_write_out: u32 size 0, u32 padding 4; 8 bytes. WRITE, COPY_FILE_RANGE. */
export const writeOut = struct('fuse_write_out', { size: 'u32', padding: 'u32' });

/** struct fuse_copy_file_range_out: u64 bytes_copied 0; 8 bytes. COPY_FILE_RANGE_64. */
export const copyFileRangeOut = struct('fuse_copy_file_range_out', { bytes_copied: 'u64' });

/**
 * struct fuse_statfs_out = struct fuse_kstatfs: u64 blocks 0, bfree 8, bavail 16, files 24, ffree
 * 32, u32 bsize 40, u32 namelen 44, u32 frsize 48, u32 padding 52, u32 spare[6] 56; 80 bytes.
 */
export const statfsOut = struct(
  'fuse_statfs_out',
  {
    blocks: 'u64',
    bfree: 'u64',
    bavail: 'u64',
    files: 'u64',
    ffree: 'u64',
    bsize: 'u32',
    namelen: 'u32',
    frsize: 'u32',
    padding: 'u32',
  },
  24,
);

/**
 * struct fuse_getxattr_out: u32 size 0, u32 padding 4; 8 bytes. GETXATTR and LISTXATTR with size 0.
 */
export const getxattrOut = struct('fuse_getxattr_out', { size: 'u32', padding: 'u32' });

/**
 * struct fuse_lk_out: struct fuse_file_lock {u64 start 0, u64 end 8, u32 type 16, u32 pid 20}; 24
 * bytes.
 */
export const lkOut = struct('fuse_lk_out', {
  start: 'u64',
  end: 'token64',
  type: 'u32',
  pid: 'u32',
});

/**
 * struct fuse_init_out: u32 major 0, minor 4, max_readahead 8, flags 12, u16 max_background 16, u16
 * congestion_threshold 18, u32 max_write 20, u32 time_gran 24, u16 max_pages 28, u16 map_alignment
 * 30, u32 flags2 32, u32 max_stack_depth 36, u16 request_timeout 40, u16 unused[11] 42; 64 bytes.
 */
export const initOut = struct(
  'fuse_init_out',
  {
    major: 'u32',
    minor: 'u32',
    max_readahead: 'u32',
    flags: 'u32',
    max_background: 'u16',
    congestion_threshold: 'u16',
    max_write: 'u32',
    time_gran: 'u32',
    max_pages: 'u16',
    map_alignment: 'u16',
    flags2: 'u32',
    max_stack_depth: 'u32',
    request_timeout: 'u16',
  },
  22,
);

/** struct fuse_bmap_out: u64 block 0; 8 bytes. */
export const bmapOut = struct('fuse_bmap_out', { block: 'u64' });

/**
 * struct fuse_ioctl_out: i32 result 0, u32 flags 4, u32 in_iovs 8, u32 out_iovs 12; 16 bytes; then
 * bytes.
 */
export const ioctlOut = struct('fuse_ioctl_out', {
  result: 'i32',
  flags: 'u32',
  in_iovs: 'u32',
  out_iovs: 'u32',
});

/** struct fuse_poll_out: u32 revents 0, u32 padding 4; 8 bytes. */
export const pollOut = struct('fuse_poll_out', { revents: 'u32', padding: 'u32' });

/** struct fuse_lseek_out: u64 offset 0; 8 bytes. */
export const lseekOut = struct('fuse_lseek_out', { offset: 'u64' });

/**
 * struct fuse_statx_out: u64 attr_valid 0, u32 attr_valid_nsec 8, u32 flags 12, u64 spare[2] 16,
 * struct fuse_statx 32 (as statx(2): u32 mask, u32 blksize, u64 attributes, u32 nlink, u32 uid, u32
 * gid, u16 mode, u16 spare, u64 ino, u64 size, u64 blocks, u64 attributes_mask, 4 × {i64 sec, u32
 * nsec, i32 reserved}: atime, btime, ctime, mtime, u32 rdev_major, rdev_minor, dev_major,
 * dev_minor, u64 spare[14]); 288 bytes.
 */
export const statxOut = struct(
  'fuse_statx_out',
  {
    attr_valid: 'u64',
    attr_valid_nsec: 'u32',
    flags: 'u32',
    spare0: 'u64',
    spare1: 'u64',
    mask: 'u32',
    blksize: 'u32',
    attributes: 'u64',
    nlink: 'u32',
    uid: 'u32',
    gid: 'u32',
    mode: 'u16',
    mode_spare: 'u16',
    ino: 'u64',
    size: 'u64',
    blocks: 'u64',
    attributes_mask: 'u64',
    atime: 'i64',
    atimensec: 'u32',
    atime_reserved: 'i32',
    btime: 'i64',
    btimensec: 'u32',
    btime_reserved: 'i32',
    ctime: 'i64',
    ctimensec: 'u32',
    ctime_reserved: 'i32',
    mtime: 'i64',
    mtimensec: 'u32',
    mtime_reserved: 'i32',
    rdev_major: 'u32',
    rdev_minor: 'u32',
    dev_major: 'u32',
    dev_minor: 'u32',
  },
  112,
);

/**
 * struct fuse_dirent: u64 ino 0, u64 off 8, u32 namelen 16, u32 type 20; 24 bytes; then the name,
 * 8-aligned.
 */
export const dirent = struct('fuse_dirent', {
  ino: 'u64',
  off: 'u64',
  namelen: 'u32',
  type: 'u32',
});

/** struct fuse_notify_inval_inode_out: u64 ino 0, i64 off 8, i64 len 16; 24 bytes. */
export const notifyInvalInodeOut = struct('fuse_notify_inval_inode_out', {
  ino: 'u64',
  off: 'i64',
  len: 'i64',
});

/**
 * struct fuse_notify_inval_entry_out: u64 parent 0, u32 namelen 8, u32 flags 12; 16 bytes; then
 * name, NUL.
 */
export const notifyInvalEntryOut = struct('fuse_notify_inval_entry_out', {
  parent: 'u64',
  namelen: 'u32',
  flags: 'u32',
});

/**
 * struct fuse_notify_delete_out: u64 parent 0, u64 child 8, u32 namelen 16, u32 padding 20; 24
 * bytes; name, NUL.
 */
export const notifyDeleteOut = struct('fuse_notify_delete_out', {
  parent: 'u64',
  child: 'u64',
  namelen: 'u32',
  padding: 'u32',
});

/**
 * struct fuse_notify_store_out: u64 nodeid 0, u64 offset 8, u32 size 16, u32 padding 20; 24 bytes;
 * then bytes.
 */
export const notifyStoreOut = struct('fuse_notify_store_out', {
  nodeid: 'u64',
  offset: 'u64',
  size: 'u32',
  padding: 'u32',
});

/**
 * struct fuse_notify_retrieve_out: u64 notify_unique 0, nodeid 8, offset 16, u32 size 24, u32
 * padding; 32 bytes.
 */
export const notifyRetrieveOut = struct('fuse_notify_retrieve_out', {
  notify_unique: 'u64',
  nodeid: 'u64',
  offset: 'u64',
  size: 'u32',
  padding: 'u32',
});

/**
 * struct fuse_notify_prune_out: u32 count 0, u32 padding 4, u64 spare 8; 16 bytes; then `count` u64
 * node ids.
 */
export const notifyPruneOut = struct('fuse_notify_prune_out', {
  count: 'u32',
  padding: 'u32',
  spare: 'u64',
});

/** struct fuse_notify_poll_wakeup_out: u64 kh 0; 8 bytes. */
export const notifyPollWakeupOut = struct('fuse_notify_poll_wakeup_out', { kh: 'token64' });

/**
 * What follows the header of a successful answer. `data`: plain bytes (after the structs, if any).
 */
export interface ReplyShape {
  readonly structs: readonly Struct[];
  readonly hasData: boolean;
}

const empty: ReplyShape = { structs: [], hasData: false };
const bytes: ReplyShape = { structs: [], hasData: true };

function only(...structs: readonly Struct[]): ReplyShape {
  return { structs, hasData: false };
}

/**
 * By opcode; opcodes without an answer (FORGET, BATCH_FORGET, INTERRUPT, NOTIFY_REPLY) are absent.
 * GETXATTR and LISTXATTR are given as bytes: with size 0 asked the bytes are a struct
 * fuse_getxattr_out.
 */
export const replyShapes: ReadonlyMap<number, ReplyShape> = new Map<number, ReplyShape>([
  ...[Opcode.LOOKUP, Opcode.SYMLINK, Opcode.MKNOD, Opcode.MKDIR, Opcode.LINK].map(
    (opcode) => [opcode, only(entryOut)] as const,
  ),
  ...[
    Opcode.UNLINK,
    Opcode.RMDIR,
    Opcode.RENAME,
    Opcode.RENAME2,
    Opcode.RELEASE,
    Opcode.RELEASEDIR,
    Opcode.FSYNC,
    Opcode.FSYNCDIR,
    Opcode.FLUSH,
    Opcode.SETXATTR,
    Opcode.REMOVEXATTR,
    Opcode.SETLK,
    Opcode.SETLKW,
    Opcode.ACCESS,
    Opcode.DESTROY,
    Opcode.FALLOCATE,
    Opcode.SETUPMAPPING,
    Opcode.REMOVEMAPPING,
    Opcode.SYNCFS,
  ].map((opcode) => [opcode, empty] as const),
  ...[
    Opcode.READ,
    Opcode.READLINK,
    Opcode.READDIR,
    Opcode.READDIRPLUS,
    Opcode.GETXATTR,
    Opcode.LISTXATTR,
  ].map((opcode) => [opcode, bytes] as const),
  [Opcode.GETATTR, only(attrOut)],
  [Opcode.SETATTR, only(attrOut)],
  [Opcode.OPEN, only(openOut)],
  [Opcode.OPENDIR, only(openOut)],
  [Opcode.CREATE, only(entryOut, openOut)],
  [Opcode.TMPFILE, only(entryOut, openOut)],
  [Opcode.WRITE, only(writeOut)],
  [Opcode.COPY_FILE_RANGE, only(writeOut)],
  [Opcode.COPY_FILE_RANGE_64, only(copyFileRangeOut)],
  [Opcode.STATFS, only(statfsOut)],
  [Opcode.GETLK, only(lkOut)],
  [Opcode.INIT, only(initOut)],
  [Opcode.BMAP, only(bmapOut)],
  [Opcode.IOCTL, { structs: [ioctlOut], hasData: true }],
  [Opcode.POLL, only(pollOut)],
  [Opcode.LSEEK, only(lseekOut)],
  [Opcode.STATX, only(statxOut)],
]);
