/**
 * Extended attributes of the origin's files, namespace `user.` only.
 *
 * These system calls have no asynchronous form here: they would hold up the whole daemon while a
 * network filesystem does not answer. So they are used on local filesystems (known by their magic,
 * statfs(2)) and on the root's own device only; elsewhere extended attributes are unknown.
 */
import { toEbbError } from '../../base/errors.ts';
import { decodeName } from '../../base/name.ts';
import { getXattr, listXattrs } from '../../sys/xattr.ts';

const userNamespace = 'user.';

/** linux/magic.h: ext4, xfs, btrfs, tmpfs, f2fs, bcachefs; zfs. */
const localMagics: ReadonlySet<number> = new Set([
  0xef53, 0x58465342, 0x9123683e, 0x01021994, 0xf2f52010, 0xca451a4e, 0x2fc12fc1,
]);

export function isLocalFilesystem(filesystemMagic: number): boolean {
  return localMagics.has(filesystemMagic >>> 0);
}

/**
 * The `user.` attributes of the object at `path` (its last name is not followed); undefined when
 * there are none or the filesystem has no such thing. What may not be read is left out.
 */
export function userXattrs(path: Uint8Array): ReadonlyMap<string, Uint8Array> | undefined {
  const target = decodeName(path);
  const found = new Map<string, Uint8Array>();
  for (const name of attempt(() => listXattrs(target)) ?? []) {
    if (!name.startsWith(userNamespace)) continue;
    const value = attempt(() => getXattr(target, name));
    if (value !== undefined) found.set(name, value);
  }
  return found.size === 0 ? undefined : found;
}

/** Not supported, not allowed, gone meanwhile: all the same as "none". Real failures are thrown. */
function attempt<T>(call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    const { code } = toEbbError(error);
    if (['EOPNOTSUPP', 'EPERM', 'EACCES', 'ENOENT', 'ENODATA'].includes(code)) return undefined;
    throw error;
  }
}
