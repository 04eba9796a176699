/**
 * Extended attributes of the origin's files: the namespace `user.`, and access control lists.
 *
 * These system calls have no asynchronous form here: they would hold up the whole daemon while a
 * network filesystem does not answer. So they are used on local filesystems (known by their magic,
 * statfs(2)) and on the root's own device only; elsewhere extended attributes are unknown.
 */
import { toEbbError } from '../../base/errors.ts';
import { decodeName } from '../../base/name.ts';
import { getXattr, listXattrs } from '../../sys/xattr.ts';
import type { XattrTarget } from '../../sys/xattr.ts';
import { accessListName } from './access-list.ts';

const userNamespace = 'user.';

/** linux/magic.h: ext4, xfs, btrfs, tmpfs, f2fs, bcachefs; zfs. */
const localMagics: ReadonlySet<number> = new Set([
  0xef53, 0x58465342, 0x9123683e, 0x01021994, 0xf2f52010, 0xca451a4e, 0x2fc12fc1,
]);

export function isLocalFilesystem(filesystemMagic: number): boolean {
  return localMagics.has(filesystemMagic >>> 0);
}

/** What a file has beside its inode, on a local filesystem. */
export interface Xattrs {
  /** The `user.` attributes; undefined when there are none. */
  readonly user: ReadonlyMap<string, Uint8Array> | undefined;
  /** `system.posix_acl_access`, if the mode does not say all of it. */
  readonly accessList: Uint8Array | undefined;
}

/**
 * Those of the object at `path` (its last name is not followed). None where the filesystem has no such thing. What may
 * not be read is left out.
 */
export function xattrsOf(path: Uint8Array): Xattrs {
  const target = decodeName(path);
  const user = new Map<string, Uint8Array>();
  let accessList: Uint8Array | undefined;
  for (const name of attempt(() => listXattrs(target)) ?? []) {
    if (name === accessListName) accessList = accessListOf(target);
    if (!name.startsWith(userNamespace)) continue;
    const value = attempt(() => getXattr(target, name));
    if (value !== undefined) user.set(name, value);
  }
  return { user: user.size === 0 ? undefined : user, accessList };
}

/** As `Xattrs.accessList`. */
export function accessListOf(target: XattrTarget): Uint8Array | undefined {
  return attempt(() => getXattr(target, accessListName));
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
