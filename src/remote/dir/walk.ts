/**
 * Opening what is below a root directory without ever leaving it.
 *
 * Keys are walked name by name from a descriptor of the root, each step with O_NOFOLLOW and relative to the
 * descriptor before it (`/proc/self/fd/N/name` is openat(2) for a runtime that has none), so neither a symlink at
 * the origin nor a rename under way can lead out of the root. All calls run in the runtime's thread pool: a
 * network filesystem that hangs does not stop the event loop. Objects are opened with O_PATH first, which has no
 * side effects on pipes and devices.
 *
 * The root is opened anew for every call and compared with what was there at the start. A network filesystem that
 * went away leaves an empty mount point: that must be a failure, not an empty listing. No descriptor is kept
 * between calls, so the administrator can unmount.
 */
import { constants } from 'node:fs';
import type { BigIntStats } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { ebbError, toEbbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import { encodeName } from '../../base/name.ts';
import { splitKey } from '../key.ts';

/** open(2); `node:fs` does not export it. The same on x86-64 and arm64. */
const O_PATH = 0o10000000;
const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY, O_NONBLOCK, O_NOCTTY } = constants;

/** Which directory the root was when it was opened first. */
export interface RootIdentity {
  /** In the lossless form of base/name.ts. */
  readonly path: string;
  readonly device: bigint;
  readonly inode: bigint;
}

/** An open object (O_PATH; a symlink is itself) and the directory that holds it. */
export interface Found extends AsyncDisposable {
  readonly handle: FileHandle;
  readonly stats: BigIntStats;
  /** Path by which other calls reach the object through its directory's descriptor; do not follow its last name. */
  readonly path: Buffer;
}

/** `/proc/self/fd/N`: the open file itself, whatever became of its name. */
export function descriptorPath(handle: FileHandle): string {
  return `/proc/self/fd/${handle.fd}`;
}

/** The path of `name` in an open directory. */
export function entryPath(directory: FileHandle, name: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(`${descriptorPath(directory)}/`), name]);
}

/** Learns which directory `path` is. Symlinks in it are followed: the user chose it. */
export async function identifyRoot(path: string): Promise<RootIdentity> {
  await using handle = await open(Buffer.from(encodeName(path)), O_PATH | O_DIRECTORY);
  const stats = await handle.stat({ bigint: true });
  return { path, device: stats.dev, inode: stats.ino };
}

async function openRoot(root: RootIdentity): Promise<FileHandle> {
  let handle: FileHandle;
  try {
    handle = await open(Buffer.from(encodeName(root.path)), O_PATH | O_DIRECTORY);
  } catch (error) {
    const { code, message } = toEbbError(error);
    const gone = code === 'ENOENT' || code === 'ENOTDIR';
    throw ebbError(gone ? 'EIO' : code, `The remote root cannot be opened: ${message}`, {
      cause: error,
      retryable: true,
    });
  }
  const stats = await handle.stat({ bigint: true });
  if (stats.dev !== root.device || stats.ino !== root.inode) {
    await handle.close();
    throw ebbError('EIO', `The remote root changed: ${root.path} is another directory now.`, {
      retryable: true,
    });
  }
  return handle;
}

/** Walks to `key`. Throws what open(2) throws, see `originError`. The caller disposes the result. */
export async function find(root: RootIdentity, key: string): Promise<Found> {
  const names = splitKey(key).map(encodeName);
  let directory = await openRoot(root);
  let handle: FileHandle | undefined;
  try {
    for (const name of names.slice(0, -1)) {
      const next = await open(entryPath(directory, name), O_PATH | O_NOFOLLOW | O_DIRECTORY);
      const passed = directory;
      directory = next;
      await passed.close();
    }
    const last = names.at(-1);
    const path =
      last === undefined ? Buffer.from(descriptorPath(directory)) : entryPath(directory, last);
    const flags = last === undefined ? O_PATH | O_DIRECTORY : O_PATH | O_NOFOLLOW;
    handle = await open(path, flags);
    const stats = await handle.stat({ bigint: true });
    return found(directory, handle, stats, path);
  } catch (error) {
    await handle?.close();
    await directory.close();
    throw error;
  }
}

function found(directory: FileHandle, handle: FileHandle, stats: BigIntStats, path: Buffer): Found {
  return {
    handle,
    stats,
    path,
    async [Symbol.asyncDispose]() {
      await handle.close();
      await directory.close();
    },
  };
}

/** Opens the content of a found regular file: the very same inode. */
export function openContent(object: Found): Promise<FileHandle> {
  return open(descriptorPath(object.handle), O_RDONLY | O_NONBLOCK | O_NOCTTY);
}

/**
 * What a failed system call on the origin means in the contract. ESTALE of NFS ("the handle is old") must not be
 * taken for "another version"; a name behind something that is no directory does not exist.
 */
export function originError(error: unknown, key: string): EbbError {
  const known = toEbbError(error);
  if (known === error) return known;
  const sentence = `${key === '' ? 'The remote root' : key} cannot be read: ${known.message}`;
  switch (known.code) {
    case 'ENOENT':
    case 'ENOTDIR':
    case 'ELOOP':
    case 'ENAMETOOLONG':
      return ebbError('ENOENT', `${key} does not exist.`, { cause: error });
    case 'EACCES':
    case 'EPERM':
      return ebbError('EACCES', sentence, { cause: error });
    case 'ESTALE':
    case 'EIO':
      return ebbError('EIO', sentence, { cause: error, retryable: true });
    default:
      return ebbError(known.code, sentence, { cause: error, retryable: known.retryable });
  }
}
