/**
 * A pool: an xfs file system in a sparse file, for trees where no file system is to spare. Its blocks are taken from
 * the file system around it when they are written, and given back (discard) when they are freed.
 *
 * When the file system around it is full, writes of the pool fail as if its disk were broken, and xfs shuts down: so
 * nothing here makes a pool larger than what is free at that moment, unless it is told to.
 */
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  realpathSync,
  rmSync,
  rmdirSync,
  statSync,
  truncateSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { ebbError, toEbbError } from '../../base/errors.ts';
import { coveredError, mountAt, readMountInfo } from '../../base/mount-info.ts';
import { OpenFlag, openFd } from '../../sys/fd.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { pread } from '../../sys/io.ts';
import { tryLock } from '../../sys/lease.ts';
import { fileStatus } from '../../sys/stat.ts';
import { filesystemStatus } from '../../sys/statfs.ts';
import { runProgram } from './programs.ts';

/** mkfs.xfs makes nothing smaller. */
export const poolBytesMin = 300 * 1024 * 1024;
/** Another process may take the same free loop device first. */
const loopTriesMax = 10;
/** Named in a refusal. */
const shownEntriesMax = 3;

export interface PoolStatus {
  /** The file itself, where a symlink to it was named. */
  readonly imagePath: string;
  readonly sizeBytes: number;
  /** What it takes of the file system around it. */
  readonly allocatedBytes: number;
  readonly device: string | undefined;
  readonly mountPoint: string | undefined;
}

/** What there is. Throws ENOENT, EINVAL (no file). */
export async function poolStatus(typedPath: string): Promise<PoolStatus> {
  const imagePath = fileOf(typedPath);
  const { sizeBytes, allocatedBytes } = fileStatus(imagePath);
  const [device] = await loopDevices(imagePath);
  const mount = readMountInfo().find(({ source }) => device !== undefined && source === device);
  return { imagePath, sizeBytes, allocatedBytes, device, mountPoint: mount?.mountPoint };
}

/** A symlink has a size of its own, and deleting it deletes no pool. Throws ENOENT, EINVAL. */
function fileOf(typedPath: string): string {
  try {
    const imagePath = realpathSync(typedPath);
    if (statSync(imagePath).isFile()) return imagePath;
  } catch (error) {
    throw toEbbError(error);
  }
  throw ebbError('EINVAL', `${typedPath} is no file, so no pool.`);
}

/**
 * Makes the file and the file system in it; leaves nothing when it fails. `overcommit`: even when so much is not free.
 * Throws EEXIST, EINVAL (too small), ENOSPC, ENOENT (program or directory), EROFS.
 */
export async function createPool(
  imagePath: string,
  sizeBytes: number,
  { overcommit = false }: { readonly overcommit?: boolean } = {},
): Promise<void> {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < poolBytesMin) {
    throw ebbError('EINVAL', `A pool has at least ${poolBytesMin / 2 ** 20} MiB.`);
  }
  requireRoom(path.dirname(imagePath), sizeBytes, overcommit);
  try {
    closeSync(openSync(imagePath, 'wx', 0o600));
  } catch (error) {
    const known = toEbbError(error);
    if (known.code !== 'EEXIST') throw known;
    throw ebbError('EEXIST', `${imagePath} exists already.`, { cause: error });
  }
  try {
    truncateSync(imagePath, sizeBytes);
    // No reverse map: with a million stubs that share their blocks it would need a million entries.
    await runProgram('mkfs.xfs', '-q', '-K', '-m', 'reflink=1,rmapbt=0', imagePath);
  } catch (error) {
    rmSync(imagePath, { force: true });
    throw toEbbError(error);
  }
}

/**
 * Mounts the pool; does nothing when it is mounted there. Resolves to the loop device. Throws ENOENT, EBUSY (mounted
 * elsewhere; somebody is at it just now), EIO (no pool).
 */
export async function mountPool(imagePath: string, mountPoint: string): Promise<string> {
  using _lock = lockImage(imagePath);
  const { device, mountPoint: mounted } = await poolStatus(imagePath);
  if (device !== undefined && mounted === mountPoint) return device;
  if (mounted !== undefined) {
    throw ebbError('EBUSY', `The pool ${imagePath} is mounted at ${mounted}.`);
  }
  const attached = device ?? (await attachLoop(imagePath));
  try {
    await runProgram('mount', '-t', 'xfs', '-o', 'discard', attached, mountPoint);
    return attached;
  } catch (error) {
    if (device === undefined) await runProgram('losetup', '--detach', attached);
    throw error;
  }
}

/**
 * Unmounts the pool and frees its loop device; does nothing when there is none. Throws EBUSY while it is in use, or
 * something else is mounted over it.
 */
export async function unmountPool(imagePath: string): Promise<void> {
  using _lock = lockImage(imagePath);
  const { device, mountPoint } = await poolStatus(imagePath);
  if (mountPoint !== undefined) {
    requireOnTop(mountPoint, device);
    await runProgram('umount', mountPoint);
  }
  if (device !== undefined) await runProgram('losetup', '--detach', device);
}

/**
 * Makes a mounted pool larger, while it is used. Can be repeated after a failure. Throws EINVAL (not mounted, or
 * smaller than it is), EBUSY (covered), ENOSPC.
 */
export async function growPool(
  imagePath: string,
  sizeBytes: number,
  { overcommit = false }: { readonly overcommit?: boolean } = {},
): Promise<void> {
  using _lock = lockImage(imagePath);
  const status = await poolStatus(imagePath);
  if (status.device === undefined || status.mountPoint === undefined) {
    throw ebbError('EINVAL', `The pool ${imagePath} must be mounted to grow.`);
  }
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < status.sizeBytes) {
    throw ebbError('EINVAL', `The pool ${imagePath} has ${status.sizeBytes} bytes: it only grows.`);
  }
  requireOnTop(status.mountPoint, status.device);
  requireRoom(imagePath, sizeBytes - status.allocatedBytes, overcommit);
  truncateSync(status.imagePath, sizeBytes);
  await runProgram('losetup', '--set-capacity', status.device);
  await runProgram('xfs_growfs', '-d', status.mountPoint);
}

/**
 * Deletes the pool and all that is in it. Throws EBUSY while it is mounted, ENOTEMPTY when anything is in it, which may
 * be the last copy (`force`: whatever is in it), and EINVAL for a file that is no pool.
 */
export async function destroyPool(
  imagePath: string,
  { force = false }: { readonly force?: boolean } = {},
): Promise<void> {
  using lock = lockImage(imagePath);
  const { device, mountPoint, imagePath: file } = await poolStatus(imagePath);
  if (!holdsXfs(lock.fd)) {
    throw ebbError('EINVAL', `${imagePath} is no pool: there is no xfs in it. To delete it: rm`);
  }
  if (mountPoint !== undefined) {
    throw ebbError(
      'EBUSY',
      `The pool ${imagePath} is mounted at ${mountPoint}: unmount it first (ebb pool umount).`,
    );
  }
  if (device !== undefined) {
    throw ebbError('EBUSY', `The pool ${imagePath} is attached to ${device}.`);
  }
  if (!force) await requireEmpty(imagePath);
  rmSync(file);
}

/** The magic number of its first superblock (fs/xfs/libxfs/xfs_format.h). */
function holdsXfs(fd: number): boolean {
  const magic = new Uint8Array(4);
  return pread(fd, magic, 0) === magic.length && Buffer.from(magic).toString('latin1') === 'XFSB';
}

async function requireEmpty(imagePath: string): Promise<void> {
  const names = await namesIn(imagePath);
  if (names.length === 0) return;
  const shown = names.slice(0, shownEntriesMax).join(', ');
  throw ebbError(
    'ENOTEMPTY',
    `The pool ${imagePath} holds files (${shown}): --force destroys them with it.`,
  );
}

/** Leaves no mount, device or directory, whatever fails. */
async function namesIn(imagePath: string): Promise<string[]> {
  const directory = mkdtempSync(path.join(tmpdir(), 'ebb-pool-'));
  try {
    const device = await attachLoop(imagePath);
    try {
      await runProgram('mount', '-t', 'xfs', '-o', 'ro', device, directory);
      try {
        return readdirSync(directory);
      } finally {
        await runProgram('umount', directory);
      }
    } finally {
      await runProgram('losetup', '--detach', device);
    }
  } finally {
    try {
      rmdirSync(directory);
    } catch {
      // It is still mounted: that umount failed is what is told.
    }
  }
}

/** What is done to the mount point would be done to what somebody else has mounted over the pool. */
function requireOnTop(mountPoint: string, device: string | undefined): void {
  if (mountAt(readMountInfo(), mountPoint)?.source === device) return;
  throw coveredError(mountPoint);
}

/** One at a time works on a pool: two loop devices of one file would destroy it. */
function lockImage(imagePath: string): OwnedFd {
  const fd = openFd(imagePath, OpenFlag.rdonly);
  if (tryLock(fd.fd)) return fd;
  fd.close();
  throw ebbError('EBUSY', `Another process is working on the pool ${imagePath}.`);
}

function requireRoom(target: string, sizeBytes: number, overcommit: boolean): void {
  const { availableBytes } = filesystemStatus(target);
  if (overcommit || availableBytes >= sizeBytes) return;
  const free = `only ${Math.floor(availableBytes / 2 ** 20)} MiB are free there`;
  throw ebbError(
    'ENOSPC',
    `${target} has no room for ${Math.ceil(sizeBytes / 2 ** 20)} MiB (${free}); a pool that cannot get its ` +
      'blocks stops working',
  );
}

async function loopDevices(imagePath: string): Promise<string[]> {
  const args = ['--associated', imagePath, '--noheadings', '--output', 'NAME'];
  const text = await runProgram('losetup', ...args);
  return text.split('\n').filter((line) => line !== '');
}

/** Direct I/O spares the cache a second copy; not every file system can. */
async function attachLoop(imagePath: string): Promise<string> {
  for (let tries = 1; ; tries += 1) {
    try {
      const device = (await runProgram('losetup', '--find', '--show', imagePath)).trim();
      await runProgram('losetup', '--direct-io=on', device).catch(() => undefined);
      return device;
    } catch (error) {
      if (tries >= loopTriesMax || toEbbError(error).code === 'ENOENT') throw error;
    }
  }
}
