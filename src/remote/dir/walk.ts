/**
 * Opening what is below a root directory without ever leaving it.
 *
 * Keys are walked name by name from a descriptor of the root, each step with O_NOFOLLOW and
 * relative to the descriptor before it (`/proc/self/fd/N/name` is openat(2) for a runtime that has
 * none), so neither a symlink at the origin nor a rename under way can lead out of the root. All
 * calls run in the runtime's thread pool: a network filesystem that hangs does not stop the event
 * loop. Objects are opened with O_PATH first, which has no side effects on pipes and devices.
 *
 * The root is opened anew for every call (root.ts).
 *
 * On local file systems what the kernel has in memory is looked up at once, without the pool (`findCached`).
 */
import type { BigIntStats } from 'node:fs';
import { ebbError, toEbbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import { encodeName } from '../../base/name.ts';
import { OpenFlag } from '../../sys/fd.ts';
import { openCachedExactly, openCachedPath } from '../../sys/open-cached.ts';
import { splitKey } from '../key.ts';
import { Descriptor } from './descriptor.ts';
import type { RemoteRoot } from './root.ts';

/** An open object (O_PATH; a symlink is itself). */
export interface FoundObject extends Disposable {
  readonly handle: Descriptor;
  readonly stats: BigIntStats;
}

/** With the directory that holds it. */
export interface Found extends FoundObject {
  /** Reaches the object through its directory's descriptor; do not follow its last name. */
  readonly path: Buffer;
}

/** Walks to `key`. Throws what open(2) throws, see `originError`. The caller disposes the result. */
export async function find(root: RemoteRoot, key: string): Promise<Found> {
  const names = splitKey(key).map(encodeName);
  const known = root.isLocal ? findCached(root, names) : undefined;
  if (known !== undefined) return known;
  using stack = new DisposableStack();
  let directory = stack.use(await root.open());
  for (const name of names.slice(0, -1)) {
    const flags = OpenFlag.path | OpenFlag.nofollow | OpenFlag.directory;
    const next = stack.use(await Descriptor.open(directory.entry(name), flags));
    directory[Symbol.dispose]();
    directory = next;
  }
  const last = names.at(-1);
  const path = last === undefined ? Buffer.from(directory.path) : directory.entry(last);
  const flags = OpenFlag.path | (last === undefined ? OpenFlag.directory : OpenFlag.nofollow);
  const handle = stack.use(await Descriptor.open(path, flags));
  const stats = await handle.stat();
  const owned = stack.move();
  return { handle, stats, path, [Symbol.dispose]: () => owned.dispose() };
}

/**
 * As `find`, by what the kernel has in memory, on the root's own local file system. By one path from `/` where that is
 * without symlinks: then it is not looked at whether the root is still the same directory, so the caller must know the
 * object by its version, which names the inode. Undefined when that does not do.
 */
export function findAtOnce(root: RemoteRoot, key: string): FoundObject | undefined {
  if (!root.isLocal) return undefined;
  const names = splitKey(key);
  const fd = root.hasStableInodes ? openCachedExactly(encodeName(`${root.path}/${key}`)) : -1;
  if (fd < 0) return findCached(root, names.map(encodeName));
  using stack = new DisposableStack();
  const handle = stack.use(Descriptor.own(fd));
  const stats = handle.statNow();
  if (!root.isOnItsMount(handle, stats)) return undefined;
  const owned = stack.move();
  return { handle, stats, [Symbol.dispose]: () => owned.dispose() };
}

/**
 * The same without waiting, and without a turn of the thread pool for each name: most objects that are asked for were
 * listed or read a moment ago. Undefined when that is not enough, whatever the reason: then the long way finds it.
 */
function findCached(root: RemoteRoot, names: readonly Uint8Array[]): Found | undefined {
  const last = names.at(-1);
  if (last === undefined) return undefined;
  using stack = new DisposableStack();
  const open = (path: Uint8Array, flags: number, from?: Descriptor): Descriptor | undefined => {
    const fd = openCachedPath(path, flags, from?.fd);
    return fd < 0 ? undefined : stack.use(Descriptor.own(fd));
  };
  const top = open(root.pathBytes, OpenFlag.directory);
  if (top === undefined || !root.isIt(top)) return undefined;
  const parents = names.slice(0, -1).flatMap((name) => [name, Buffer.from('/')]);
  const directory =
    parents.length === 0 ? top : open(Buffer.concat(parents), OpenFlag.directory, top);
  const handle = directory && open(last, OpenFlag.nofollow, directory);
  if (directory === undefined || handle === undefined) return undefined;
  const stats = handle.statNow();
  if (stats.dev !== root.device) return undefined;
  if (directory !== top) top[Symbol.dispose]();
  const path = directory.entry(last);
  const owned = stack.move();
  return { handle, stats, path, [Symbol.dispose]: () => owned.dispose() };
}

/** How content is opened: pipes do not wait, terminals stay what they are. */
const contentFlags = OpenFlag.rdonly | OpenFlag.nonblock | OpenFlag.noctty;

/** Opens the content of a found regular file: the very same inode. */
export function openContent(object: FoundObject): Promise<Descriptor> {
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
