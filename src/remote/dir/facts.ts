/** What the kernel says of a file, in the words of the remote contract. Pure. */
import type { BigIntStats } from 'node:fs';
import { FilesystemMagic } from '../../sys/statfs.ts';
import type { ObjectAttributes, ObjectKind, Timestamp } from '../remote.ts';

const nanosecondsPerSecond = 1_000_000_000n;

export function kindOf(stats: BigIntStats): ObjectKind {
  if (stats.isFile()) return 'file';
  if (stats.isDirectory()) return 'directory';
  if (stats.isSymbolicLink()) return 'symlink';
  return 'other';
}

/** Splits nanoseconds since 1970 (negative before) so that the fraction is never negative. */
export function timestampOf(timeNs: bigint): Timestamp {
  const nanoseconds =
    ((timeNs % nanosecondsPerSecond) + nanosecondsPerSecond) % nanosecondsPerSecond;
  return {
    seconds: Number((timeNs - nanoseconds) / nanosecondsPerSecond),
    nanoseconds: Number(nanoseconds),
  };
}

/**
 * The version of a regular file: modification time, change time, size and (where the filesystem
 * keeps it across mounts) inode number.
 *
 * Why the change time: mtime can be set to anything (`touch -r`, `cp -p`, `rsync -t`, `tar -x`), so
 * the same mtime and size do not mean the same bytes; ctime cannot be set and moves with every
 * write, truncation and utimes. It moves with chmod, chown, rename and link, too: then the content
 * is fetched again though it is equal, which is the safe side. Its grain is the limit of this
 * remote: two writes within one tick, with a read between them, show one time on filesystems
 * without multigrain timestamps (before Linux 6.13; many network filesystems; for whole seconds see
 * `blindForMs`), and stores through a writable mapping move it only at the first store after a write-back (mmap(2)).
 */
export function versionOf(stats: BigIntStats, inodesAreStable: boolean): string {
  const version = `m${stats.mtimeNs.toString(16)}c${stats.ctimeNs.toString(16)}s${stats.size.toString(16)}`;
  return inodesAreStable ? `${version}i${stats.ino.toString(16)}` : version;
}

/** vfat keeps every second one; and the kernel's clock for files may be a tick behind ours. */
const wholeSecondsBlindMs = 2_020;

/**
 * For so long, in ms, a change of the file may leave its version as it is: where the file system keeps whole seconds
 * (ext4 with inodes of 128 bytes, vfat), until that of the last change is over. Whoever reads before may read a mix. 0
 * when the change lies in the future: then the clocks do not agree, and nothing is known.
 */
export function blindForMs(ctimeNs: bigint, nowMs: number): number {
  if (ctimeNs % nanosecondsPerSecond !== 0n) return 0;
  const agoMs = nowMs - Number(ctimeNs / 1_000_000n);
  return agoMs < 0 ? 0 : Math.max(0, wholeSecondsBlindMs - agoMs);
}

/** Device and inode: what the names of a hard link share. */
function linkOf(stats: BigIntStats): string {
  return `${stats.dev.toString(16)}.${stats.ino.toString(16)}`;
}

export function attributesOf(stats: BigIntStats, inodesAreStable: boolean): ObjectAttributes {
  const kind = kindOf(stats);
  const common = {
    kind,
    mtime: timestampOf(stats.mtimeNs),
    mode: Number(stats.mode & 0o7777n),
    uid: Number(stats.uid),
    gid: Number(stats.gid),
  };
  if (kind !== 'file') return common;
  return {
    ...common,
    sizeBytes: Number(stats.size),
    version: versionOf(stats, inodesAreStable),
    ...(inodesAreStable && stats.nlink > 1n ? { link: linkOf(stats) } : {}),
  };
}

/**
 * Filesystems whose inode numbers may differ from one look to the next (statfs(2), linux/magic.h): FUSE
 * (sshfs gives numbers as it meets files), CIFS without `serverino`. There the version goes without.
 */
const unstableInodeMagics: ReadonlySet<number> = new Set([0x65735546, 0xff534d42, 0xfe534d42]);

export function hasStableInodes(filesystemMagic: number): boolean {
  return !unstableInodeMagics.has(filesystemMagic >>> 0);
}

/**
 * Those of vfat, exfat (iunique()) and overlayfs may differ after a remount. Versions keep them: what is fetched
 * again for nothing is the safe side where ctime may be no more than a coarse mtime (vfat).
 */
const fleetingInodeMagics: ReadonlySet<number> = new Set([
  ...unstableInodeMagics,
  0x4d44,
  0x2011bab0,
  FilesystemMagic.overlayfs,
]);

/** Whether an inode number means the same directory after a remount. */
export function hasLastingInodes(filesystemMagic: number): boolean {
  return !fleetingInodeMagics.has(filesystemMagic >>> 0);
}
