/**
 * Which inode a local file is (invariant I7): the kernel's file handle, which carries the inode's generation, so
 * a reused inode number is another identity.
 *
 * Where the file system has no handles (some overlays and network file systems): inode number and birth time.
 * That is weaker: it takes a clock set back to the same nanosecond and a reused inode number to fool it.
 */
import { EbbError, ebbError } from '../base/errors.ts';
import { encodeHandle, handleOf } from '../sys/handle.ts';
import { fileStatus } from '../sys/stat.ts';

/** Stands where the handle type is; the kernel's types are small numbers (linux/exportfs.h). */
const weakType = 0x7fff_ffff;

/** Identity of an open file, to be stored and compared: 4 bytes type, then up to 128 bytes. */
export function identityOf(fd: number): Uint8Array {
  try {
    return encodeHandle(handleOf(fd).handle);
  } catch (error) {
    if (error instanceof EbbError && error.code === 'EOPNOTSUPP') return weakIdentityOf(fd);
    throw error;
  }
}

/** Whether two stored identities are the same inode (of one file system). */
export function sameIdentity(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function weakIdentityOf(fd: number): Uint8Array {
  const { ino, btime } = fileStatus(fd);
  if (btime === undefined) {
    throw ebbError(
      'EOPNOTSUPP',
      'The file system of the cache has neither file handles nor birth times, so Ebb cannot tell its ' +
        'files from others. Choose a cache directory on ext4, xfs or btrfs.',
    );
  }
  const bytes = new Uint8Array(24);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, weakType, true);
  view.setBigUint64(4, ino, true);
  view.setBigInt64(12, BigInt(btime.seconds), true);
  view.setUint32(20, btime.nanoseconds, true);
  return bytes;
}
