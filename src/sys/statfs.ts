/** statfs(2): which file system, and how much room it has. */
import { bind, cString, lazily, orThrow } from './ffi.ts';

/** linux/magic.h. */
export const FilesystemMagic = {
  ext4: 0xef53,
  xfs: 0x58465342,
  btrfs: 0x9123683e,
  tmpfs: 0x01021994,
  overlayfs: 0x794c7630,
  fuse: 0x65735546,
  nfs: 0x6969,
  zfs: 0x2fc12fc1,
  f2fs: 0xf2f52010,
} as const;

const native = lazily(() => ({
  statfs: bind<(path: Uint8Array, into: Uint8Array) => number>(
    'int statfs(const void *path, void *buf)',
  ),
  fstatfs: bind<(fd: number, into: Uint8Array) => number>('int fstatfs(int fd, void *buf)'),
}));

export interface FilesystemStatus {
  /** `FilesystemMagic`, or another one. */
  readonly magic: number;
  readonly totalBytes: number;
  readonly freeBytes: number;
  /** Free for everybody but root: what counts for quotas of space. */
  readonly availableBytes: number;
  readonly files: number;
  readonly filesFree: number;
  readonly nameMaxBytes: number;
  readonly blockSizeBytes: number;
  readonly readOnly: boolean;
  /** f_fsid: what it is made of differs between file systems. */
  readonly fsid: bigint;
}

const ST_RDONLY = 1;

/**
 * statfs(2) of the file system that holds an open file or a path. Throws ENOENT, EBADF, EIO, ...
 */
export function filesystemStatus(target: number | string): FilesystemStatus {
  const memory = new Uint8Array(120);
  if (typeof target === 'number') {
    orThrow(native().fstatfs(target, memory), 'fstatfs', `descriptor ${target}`);
  } else {
    orThrow(native().statfs(cString(target), memory), 'statfs', target);
  }
  const view = new DataView(memory.buffer);
  const long = (offset: number): number => Number(view.getBigUint64(offset, true));
  // f_blocks and the like count in f_frsize, which is f_bsize where it is 0.
  const unitBytes = long(72) || long(8);
  return {
    magic: view.getUint32(0, true),
    blockSizeBytes: long(8),
    totalBytes: long(16) * unitBytes,
    freeBytes: long(24) * unitBytes,
    availableBytes: long(32) * unitBytes,
    files: long(40),
    filesFree: long(48),
    nameMaxBytes: long(64),
    readOnly: (long(80) & ST_RDONLY) !== 0,
    fsid: view.getBigUint64(56, true),
  };
}

/**
 * Whether `availableBytes` does not know of what was written or freed since the last transaction (btrfs_statfs in
 * fs/btrfs/super.c takes what block groups have in use, which changes when delayed references are run): after syncfs(2)
 * it does.
 */
export function countsLate(target: number | string): boolean {
  return filesystemStatus(target).magic === FilesystemMagic.btrfs;
}
