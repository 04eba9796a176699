/**
 * File handles of btrfs (struct btrfs_fid, fs/btrfs/export.h, Linux 6.18): u64 inode, u64 id of the subvolume, u32
 * generation. A snapshot keeps inode numbers and generations and has another id.
 */
import { OpenFlag } from './fd.ts';
import type { OwnedFd } from './fd.ts';
import { openByHandle } from './handle.ts';
import type { FileHandle } from './handle.ts';

/** FILEID_BTRFS_WITHOUT_PARENT of linux/exportfs.h. */
const type = 0x4d;
const handleBytes = 20;
const subvolumeAt = 8;
/** BTRFS_FIRST_FREE_OBJECTID: the root directory of each subvolume. */
const rootInode = 256n;
/** BTRFS_FS_TREE_OBJECTID: the subvolume that all others are in. */
const topLevel = 5n;

/**
 * Opens the root of the top-level subvolume, wherever `fd` (not O_PATH) is in the file system, through the same mount.
 * Throws EPERM without CAP_DAC_READ_SEARCH.
 */
export function openTopLevel(fd: number): OwnedFd {
  const bytes = new Uint8Array(handleBytes);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, rootInode, true);
  // Generation 0 is not compared (btrfs_get_dentry()).
  view.setBigUint64(subvolumeAt, topLevel, true);
  return openByHandle(fd, { type, bytes }, OpenFlag.rdonly | OpenFlag.directory);
}

/** The handle that the inode has, or had, in the subvolume of another handle; undefined for other file systems. */
export function handleInSubvolumeOf(handle: FileHandle, other: FileHandle): FileHandle | undefined {
  const isBtrfs = [handle, other].every(
    (one) => one.type === type && one.bytes.length === handleBytes,
  );
  if (!isBtrfs) return undefined;
  const bytes = handle.bytes.slice();
  bytes.set(other.bytes.subarray(subvolumeAt, subvolumeAt + 8), subvolumeAt);
  return { type, bytes };
}
