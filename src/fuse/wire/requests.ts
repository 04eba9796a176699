/**
 * What the kernel sends: struct fuse_in_header, then per opcode a struct, names and bytes
 * (linux/fuse.h 7.45). Comments give the C declaration with byte offsets from the start of the
 * struct.
 */
import { struct } from './struct.ts';
import { Opcode } from '../constants.ts';
import type { Struct } from './struct.ts';

/**
 * struct fuse_in_header: u32 len 0, u32 opcode 4, u64 unique 8, u64 nodeid 16, u32 uid 24, u32 gid
 * 28, u32 pid 32, u16 total_extlen 36 (8-byte units), u16 padding 38; 40 bytes. `unique` is split
 * here because bit 63 is a flag.
 */
export const inHeader = struct('fuse_in_header', {
  len: 'u32',
  opcode: 'u32',
  uniqueLow: 'u32',
  uniqueHigh: 'u32',
  nodeid: 'u64',
  uid: 'u32',
  gid: 'u32',
  pid: 'u32',
  total_extlen: 'u16',
  padding: 'u16',
});

/** struct fuse_forget_in: u64 nlookup 0; 8 bytes. */
export const forgetIn = struct('fuse_forget_in', { nlookup: 'u64' });

/** struct fuse_forget_one: u64 nodeid 0, u64 nlookup 8; 16 bytes. */
export const forgetOne = struct('fuse_forget_one', { nodeid: 'u64', nlookup: 'u64' });

/** struct fuse_batch_forget_in: u32 count 0, u32 dummy 4; 8 bytes; then `count` fuse_forget_one. */
export const batchForgetIn = struct('fuse_batch_forget_in', { count: 'u32', dummy: 'u32' });

/** struct fuse_getattr_in: u32 getattr_flags 0, u32 dummy 4, u64 fh 8; 16 bytes. */
export const getattrIn = struct('fuse_getattr_in', {
  getattr_flags: 'u32',
  dummy: 'u32',
  fh: 'u64',
});

/**
 * struct fuse_setattr_in: u32 valid 0, u32 padding 4, u64 fh 8, u64 size 16, u64 lock_owner 24, u64
 * atime 32, u64 mtime 40, u64 ctime 48, u32 atimensec 56, u32 mtimensec 60, u32 ctimensec 64, u32
 * mode 68, u32 unused4 72, u32 uid 76, u32 gid 80, u32 unused5 84; 88 bytes. Times are signed
 * seconds.
 */
export const setattrIn = struct('fuse_setattr_in', {
  valid: 'u32',
  padding: 'u32',
  fh: 'u64',
  size: 'u64',
  lock_owner: 'token64',
  atime: 'i64',
  mtime: 'i64',
  ctime: 'i64',
  atimensec: 'u32',
  mtimensec: 'u32',
  ctimensec: 'u32',
  mode: 'u32',
  unused4: 'u32',
  uid: 'u32',
  gid: 'u32',
  unused5: 'u32',
});

/**
 * struct fuse_mknod_in: u32 mode 0, u32 rdev 4, u32 umask 8, u32 padding 12; 16 bytes; then the
 * name.
 */
export const mknodIn = struct('fuse_mknod_in', {
  mode: 'u32',
  rdev: 'u32',
  umask: 'u32',
  padding: 'u32',
});

/** struct fuse_mkdir_in: u32 mode 0, u32 umask 4; 8 bytes; then the name. */
export const mkdirIn = struct('fuse_mkdir_in', { mode: 'u32', umask: 'u32' });

/** struct fuse_rename_in: u64 newdir 0; 8 bytes; then the old and the new name. */
export const renameIn = struct('fuse_rename_in', { newdir: 'u64' });

/** struct fuse_rename2_in: u64 newdir 0, u32 flags 8, u32 padding 12; 16 bytes; then both names. */
export const rename2In = struct('fuse_rename2_in', {
  newdir: 'u64',
  flags: 'u32',
  padding: 'u32',
});

/** struct fuse_link_in: u64 oldnodeid 0; 8 bytes; then the new name. */
export const linkIn = struct('fuse_link_in', { oldnodeid: 'u64' });

/** struct fuse_open_in: u32 flags 0, u32 open_flags 4 (FUSE_OPEN_*); 8 bytes. OPEN and OPENDIR. */
export const openIn = struct('fuse_open_in', { flags: 'u32', open_flags: 'u32' });

/**
 * struct fuse_create_in: u32 flags 0, u32 mode 4, u32 umask 8, u32 open_flags 12; 16 bytes; then
 * the name.
 */
export const createIn = struct('fuse_create_in', {
  flags: 'u32',
  mode: 'u32',
  umask: 'u32',
  open_flags: 'u32',
});

/**
 * struct fuse_read_in: u64 fh 0, u64 offset 8, u32 size 16, u32 read_flags 20, u64 lock_owner 24,
 * u32 flags 32, u32 padding 36; 40 bytes. READ, READDIR, READDIRPLUS.
 */
export const readIn = struct('fuse_read_in', {
  fh: 'u64',
  offset: 'u64',
  size: 'u32',
  read_flags: 'u32',
  lock_owner: 'token64',
  flags: 'u32',
  padding: 'u32',
});

/** struct fuse_write_in: as fuse_read_in with write_flags at 20; 40 bytes; then `size` bytes. */
export const writeIn = struct('fuse_write_in', {
  fh: 'u64',
  offset: 'u64',
  size: 'u32',
  write_flags: 'u32',
  lock_owner: 'token64',
  flags: 'u32',
  padding: 'u32',
});

/**
 * struct fuse_release_in: u64 fh 0, u32 flags 8, u32 release_flags 12, u64 lock_owner 16; 24 bytes.
 */
export const releaseIn = struct('fuse_release_in', {
  fh: 'u64',
  flags: 'u32',
  release_flags: 'u32',
  lock_owner: 'token64',
});

/** struct fuse_flush_in: u64 fh 0, u32 unused 8, u32 padding 12, u64 lock_owner 16; 24 bytes. */
export const flushIn = struct('fuse_flush_in', {
  fh: 'u64',
  unused: 'u32',
  padding: 'u32',
  lock_owner: 'token64',
});

/** struct fuse_fsync_in: u64 fh 0, u32 fsync_flags 8, u32 padding 12; 16 bytes. FSYNC, FSYNCDIR. */
export const fsyncIn = struct('fuse_fsync_in', { fh: 'u64', fsync_flags: 'u32', padding: 'u32' });

/**
 * struct fuse_setxattr_in without SETXATTR_EXT: u32 size 0, u32 flags 4; 8 bytes; then name and
 * value.
 */
export const setxattrCompatIn = struct('fuse_setxattr_in (compat)', { size: 'u32', flags: 'u32' });

/**
 * struct fuse_setxattr_in: u32 size 0, u32 flags 4, u32 setxattr_flags 8, u32 padding 12; 16 bytes.
 */
export const setxattrIn = struct('fuse_setxattr_in', {
  size: 'u32',
  flags: 'u32',
  setxattr_flags: 'u32',
  padding: 'u32',
});

/**
 * struct fuse_getxattr_in: u32 size 0, u32 padding 4; 8 bytes. GETXATTR (then the name), LISTXATTR.
 */
export const getxattrIn = struct('fuse_getxattr_in', { size: 'u32', padding: 'u32' });

/**
 * struct fuse_lk_in: u64 fh 0, u64 owner 8, struct fuse_file_lock lk 16 {u64 start, u64 end, u32
 * type, u32 pid}, u32 lk_flags 40, u32 padding 44; 48 bytes. `end` is 2^63-1 for "to the end": a
 * token, not a number, here.
 */
export const lkIn = struct('fuse_lk_in', {
  fh: 'u64',
  owner: 'token64',
  start: 'u64',
  end: 'token64',
  type: 'u32',
  pid: 'u32',
  lk_flags: 'u32',
  padding: 'u32',
});

/** struct fuse_access_in: u32 mask 0, u32 padding 4; 8 bytes. */
export const accessIn = struct('fuse_access_in', { mask: 'u32', padding: 'u32' });

/**
 * struct fuse_init_in: u32 major 0, minor 4, max_readahead 8, flags 12, flags2 16, unused[11] 20;
 * 64 bytes.
 */
export const initIn = struct(
  'fuse_init_in',
  { major: 'u32', minor: 'u32', max_readahead: 'u32', flags: 'u32', flags2: 'u32' },
  44,
);

/** What kernels before 5.17 (7.36) send: the first 16 bytes of fuse_init_in. */
export const initCompatInBytes = 16;

/** struct fuse_interrupt_in: u64 unique 0; 8 bytes. Split as in fuse_in_header. */
export const interruptIn = struct('fuse_interrupt_in', { uniqueLow: 'u32', uniqueHigh: 'u32' });

/** struct fuse_bmap_in: u64 block 0, u32 blocksize 8, u32 padding 12; 16 bytes. */
export const bmapIn = struct('fuse_bmap_in', { block: 'u64', blocksize: 'u32', padding: 'u32' });

/**
 * struct fuse_ioctl_in: u64 fh 0, u32 flags 8, u32 cmd 12, u64 arg 16, u32 in_size 24, u32 out_size
 * 28; 32 bytes; then `in_size` bytes. `arg` is an address or a number of the caller: opaque.
 */
export const ioctlIn = struct('fuse_ioctl_in', {
  fh: 'u64',
  flags: 'u32',
  cmd: 'u32',
  arg: 'token64',
  in_size: 'u32',
  out_size: 'u32',
});

/** struct fuse_poll_in: u64 fh 0, u64 kh 8, u32 flags 16, u32 events 20; 24 bytes. */
export const pollIn = struct('fuse_poll_in', {
  fh: 'u64',
  kh: 'token64',
  flags: 'u32',
  events: 'u32',
});

/**
 * struct fuse_notify_retrieve_in: u64 dummy1, u64 offset 8, u32 size 16, u32 dummy2, u64 dummy3,
 * u64 dummy4.
 */
export const notifyRetrieveIn = struct('fuse_notify_retrieve_in', {
  dummy1: 'token64',
  offset: 'u64',
  size: 'u32',
  dummy2: 'u32',
  dummy3: 'token64',
  dummy4: 'token64',
});

/**
 * struct fuse_fallocate_in: u64 fh 0, u64 offset 8, u64 length 16, u32 mode 24, u32 padding 28; 32
 * bytes.
 */
export const fallocateIn = struct('fuse_fallocate_in', {
  fh: 'u64',
  offset: 'u64',
  length: 'u64',
  mode: 'u32',
  padding: 'u32',
});

/** struct fuse_lseek_in: u64 fh 0, u64 offset 8, u32 whence 16, u32 padding 20; 24 bytes. */
export const lseekIn = struct('fuse_lseek_in', {
  fh: 'u64',
  offset: 'i64',
  whence: 'u32',
  padding: 'u32',
});

/**
 * struct fuse_copy_file_range_in: u64 fh_in 0, off_in 8, nodeid_out 16, fh_out 24, off_out 32, len
 * 40, flags 48; 56 bytes. COPY_FILE_RANGE and COPY_FILE_RANGE_64.
 */
export const copyFileRangeIn = struct('fuse_copy_file_range_in', {
  fh_in: 'u64',
  off_in: 'u64',
  nodeid_out: 'u64',
  fh_out: 'u64',
  off_out: 'u64',
  len: 'u64',
  flags: 'u64',
});

/**
 * struct fuse_setupmapping_in: u64 fh 0, foffset 8, len 16, flags 24, moffset 32; 40 bytes
 * (virtiofs only).
 */
export const setupmappingIn = struct('fuse_setupmapping_in', {
  fh: 'u64',
  foffset: 'u64',
  len: 'u64',
  flags: 'u64',
  moffset: 'u64',
});

/**
 * struct fuse_removemapping_in: u32 count 0; 4 bytes; then `count` {u64 moffset, u64 len} (virtiofs
 * only).
 */
export const removemappingIn = struct('fuse_removemapping_in', { count: 'u32' });

/** struct fuse_syncfs_in: u64 padding 0; 8 bytes. */
export const syncfsIn = struct('fuse_syncfs_in', { padding: 'u64' });

/**
 * struct fuse_statx_in: u32 getattr_flags 0, u32 reserved 4, u64 fh 8, u32 sx_flags 16, u32 sx_mask
 * 20; 24 bytes.
 */
export const statxIn = struct('fuse_statx_in', {
  getattr_flags: 'u32',
  reserved: 'u32',
  fh: 'u64',
  sx_flags: 'u32',
  sx_mask: 'u32',
});

/**
 * What follows the header of a request: a struct, then NUL-terminated names, then bytes to the end.
 */
export interface RequestShape {
  readonly body: Struct | undefined;
  readonly names: 0 | 1 | 2;
  /** Whether bytes follow the names (WRITE, SETXATTR, IOCTL, BATCH_FORGET, NOTIFY_REPLY). */
  readonly hasData: boolean;
}

function shape(body?: Struct, names: 0 | 1 | 2 = 0, hasData = false): RequestShape {
  return { body, names, hasData };
}

/** By opcode. SETXATTR is given in its short form; see `setxattrIn`. */
export const requestShapes: ReadonlyMap<number, RequestShape> = new Map<number, RequestShape>([
  [Opcode.LOOKUP, shape(undefined, 1)],
  [Opcode.FORGET, shape(forgetIn)],
  [Opcode.GETATTR, shape(getattrIn)],
  [Opcode.SETATTR, shape(setattrIn)],
  [Opcode.READLINK, shape()],
  [Opcode.SYMLINK, shape(undefined, 2)],
  [Opcode.MKNOD, shape(mknodIn, 1)],
  [Opcode.MKDIR, shape(mkdirIn, 1)],
  [Opcode.UNLINK, shape(undefined, 1)],
  [Opcode.RMDIR, shape(undefined, 1)],
  [Opcode.RENAME, shape(renameIn, 2)],
  [Opcode.LINK, shape(linkIn, 1)],
  [Opcode.OPEN, shape(openIn)],
  [Opcode.READ, shape(readIn)],
  [Opcode.WRITE, shape(writeIn, 0, true)],
  [Opcode.STATFS, shape()],
  [Opcode.RELEASE, shape(releaseIn)],
  [Opcode.FSYNC, shape(fsyncIn)],
  [Opcode.SETXATTR, shape(setxattrCompatIn, 1, true)],
  [Opcode.GETXATTR, shape(getxattrIn, 1)],
  [Opcode.LISTXATTR, shape(getxattrIn)],
  [Opcode.REMOVEXATTR, shape(undefined, 1)],
  [Opcode.FLUSH, shape(flushIn)],
  [Opcode.INIT, shape(initIn)],
  [Opcode.OPENDIR, shape(openIn)],
  [Opcode.READDIR, shape(readIn)],
  [Opcode.RELEASEDIR, shape(releaseIn)],
  [Opcode.FSYNCDIR, shape(fsyncIn)],
  [Opcode.GETLK, shape(lkIn)],
  [Opcode.SETLK, shape(lkIn)],
  [Opcode.SETLKW, shape(lkIn)],
  [Opcode.ACCESS, shape(accessIn)],
  [Opcode.CREATE, shape(createIn, 1)],
  [Opcode.INTERRUPT, shape(interruptIn)],
  [Opcode.BMAP, shape(bmapIn)],
  [Opcode.DESTROY, shape()],
  [Opcode.IOCTL, shape(ioctlIn, 0, true)],
  [Opcode.POLL, shape(pollIn)],
  [Opcode.NOTIFY_REPLY, shape(notifyRetrieveIn, 0, true)],
  [Opcode.BATCH_FORGET, shape(batchForgetIn, 0, true)],
  [Opcode.FALLOCATE, shape(fallocateIn)],
  [Opcode.READDIRPLUS, shape(readIn)],
  [Opcode.RENAME2, shape(rename2In, 2)],
  [Opcode.LSEEK, shape(lseekIn)],
  [Opcode.COPY_FILE_RANGE, shape(copyFileRangeIn)],
  [Opcode.SETUPMAPPING, shape(setupmappingIn)],
  [Opcode.REMOVEMAPPING, shape(removemappingIn, 0, true)],
  [Opcode.SYNCFS, shape(syncfsIn)],
  [Opcode.TMPFILE, shape(createIn, 1)],
  [Opcode.STATX, shape(statxIn)],
  [Opcode.COPY_FILE_RANGE_64, shape(copyFileRangeIn)],
]);
