/**
 * Opening what is below a root directory without ever leaving it.
 *
 * Keys are walked name by name from a descriptor of the root, each step with O_NOFOLLOW and
 * relative to the descriptor before it (`/proc/self/fd/N/name` is openat(2) for a runtime that has
 * none), so neither a symlink at the origin nor a rename under way can lead out of the root. All
 * calls run in the runtime's thread pool: a network filesystem that hangs does not stop the event
 * loop. Objects are opened with O_PATH first, which has no side effects on pipes and devices.
 *
 * The root is opened anew for every call and compared with what was there at the start. A network
 * filesystem that went away leaves an empty mount point: that must be a failure, not an empty
 * listing. No descriptor is kept between calls, so the administrator can unmount.
 *
 * On local file systems what the kernel has in memory is looked up at once, without the pool (`findCached`).
 */
import { closeSync, constants, fstat, fstatSync, open } from 'node:fs';
import type { BigIntStats } from 'node:fs';
import { ebbError, toEbbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import { encodeName } from '../../base/name.ts';
import { openCachedPath } from '../../sys/open-cached.ts';
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
  /** On a local file system: attributes of what is in memory are had without waiting. */
  readonly isLocal: boolean;
}

/** An owned file descriptor. */
export class Descriptor implements Disposable {
  readonly fd: number;
  #open = true;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** open(2) in the thread pool. */
  static open(path: Uint8Array, flags: number): Promise<Descriptor> {
    return new Promise((resolve, reject) => {
      open(Buffer.from(path), flags, (error, fd) => {
        if (error === null) resolve(new Descriptor(fd));
        else reject(error);
      });
    });
  }

  /** Takes over a descriptor that nobody else closes. */
  static own(fd: number): Descriptor {
    return new Descriptor(fd);
  }

  /** fstat(2) at once: for local file systems. */
  statNow(): BigIntStats {
    return fstatSync(this.fd, { bigint: true });
  }

  /** fstat(2) in the thread pool. */
  stat(): Promise<BigIntStats> {
    return new Promise((resolve, reject) => {
      fstat(this.fd, { bigint: true }, (error, stats) => {
        if (error === null) resolve(stats);
        else reject(error);
      });
    });
  }

  /** `/proc/self/fd/N`: the open file itself, whatever became of its name. */
  get path(): string {
    return `/proc/self/fd/${this.fd}`;
  }

  /** The path of `name` in this directory. */
  entry(name: Uint8Array): Buffer {
    return Buffer.concat([Buffer.from(`${this.path}/`), name]);
  }

  /** At once: nothing was written through it, so there is nothing that close(2) could wait for. */
  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.fd);
  }
}

/** An open object (O_PATH; a symlink is itself) and the directory that holds it. */
export interface Found extends Disposable {
  readonly handle: Descriptor;
  readonly stats: BigIntStats;
  /** Reaches the object through its directory's descriptor; do not follow its last name. */
  readonly path: Buffer;
}

function pathBytes(text: string): Buffer {
  return Buffer.from(encodeName(text));
}

/** Learns which directory `path` is. Symlinks in it are followed: the user chose it. */
export async function identifyRoot(path: string, isLocal: boolean): Promise<RootIdentity> {
  using handle = await Descriptor.open(pathBytes(path), O_PATH | O_DIRECTORY);
  const stats = await handle.stat();
  return { path, device: stats.dev, inode: stats.ino, isLocal };
}

async function openRoot(root: RootIdentity): Promise<Descriptor> {
  let handle: Descriptor;
  try {
    handle = await Descriptor.open(pathBytes(root.path), O_PATH | O_DIRECTORY);
  } catch (error) {
    const { code, message } = toEbbError(error);
    const gone = code === 'ENOENT' || code === 'ENOTDIR';
    throw ebbError(gone ? 'EIO' : code, `The remote root cannot be opened: ${message}`, {
      cause: error,
      retryable: true,
    });
  }
  using stack = new DisposableStack();
  stack.use(handle);
  const stats = await handle.stat();
  if (stats.dev !== root.device || stats.ino !== root.inode) {
    throw ebbError('EIO', `The remote root changed: ${root.path} is another directory now.`, {
      retryable: true,
    });
  }
  stack.move();
  return handle;
}

/** Walks to `key`. Throws what open(2) throws, see `originError`. The caller disposes the result. */
export async function find(root: RootIdentity, key: string): Promise<Found> {
  const names = splitKey(key).map(encodeName);
  const known = root.isLocal ? findCached(root, names) : undefined;
  if (known !== undefined) return known;
  using stack = new DisposableStack();
  let directory = stack.use(await openRoot(root));
  for (const name of names.slice(0, -1)) {
    const flags = O_PATH | O_NOFOLLOW | O_DIRECTORY;
    const next = stack.use(await Descriptor.open(directory.entry(name), flags));
    directory[Symbol.dispose]();
    directory = next;
  }
  const last = names.at(-1);
  const path = last === undefined ? Buffer.from(directory.path) : directory.entry(last);
  const flags = last === undefined ? O_PATH | O_DIRECTORY : O_PATH | O_NOFOLLOW;
  const handle = stack.use(await Descriptor.open(path, flags));
  const stats = await handle.stat();
  const owned = stack.move();
  return { handle, stats, path, [Symbol.dispose]: () => owned.dispose() };
}

/**
 * The same without waiting, and without a turn of the thread pool for each name: most objects that are asked for were
 * listed or read a moment ago. Undefined when that is not enough, whatever the reason: then the long way finds it.
 */
function findCached(root: RootIdentity, names: readonly Uint8Array[]): Found | undefined {
  const last = names.at(-1);
  if (last === undefined) return undefined;
  using stack = new DisposableStack();
  const open = (path: Uint8Array, flags: number, from?: Descriptor): Descriptor | undefined => {
    const fd = openCachedPath(path, flags, from?.fd);
    return fd < 0 ? undefined : stack.use(Descriptor.own(fd));
  };
  const top = open(pathBytes(root.path), O_DIRECTORY);
  if (top === undefined) return undefined;
  const { dev, ino } = top.statNow();
  if (dev !== root.device || ino !== root.inode) return undefined;
  const parents = names.slice(0, -1).flatMap((name) => [name, Buffer.from('/')]);
  const directory = parents.length === 0 ? top : open(Buffer.concat(parents), O_DIRECTORY, top);
  const handle = directory && open(last, O_NOFOLLOW, directory);
  if (directory === undefined || handle === undefined) return undefined;
  const stats = handle.statNow();
  if (stats.dev !== root.device) return undefined;
  if (directory !== top) top[Symbol.dispose]();
  const path = directory.entry(last);
  const owned = stack.move();
  return { handle, stats, path, [Symbol.dispose]: () => owned.dispose() };
}

/** How content is opened: pipes do not wait, terminals stay what they are. */
const contentFlags = O_RDONLY | O_NONBLOCK | O_NOCTTY;

/** Opens the content of a found regular file: the very same inode. */
export function openContent(object: Found): Promise<Descriptor> {
  return Descriptor.open(Buffer.from(object.handle.path), contentFlags);
}

/**
 * What a failed system call on the origin means in the contract. ESTALE of NFS ("the handle is
 * old") must not be taken for "another version"; a name behind something that is no directory does
 * not exist.
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
