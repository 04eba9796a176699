/**
 * Mounts as descriptors: open_tree(2), move_mount(2), mount_setattr(2) (Linux 5.2 and 5.12). A detached clone of a
 * mount can be reached by nobody but who holds its descriptor; it is gone when that is closed.
 */
import { AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, OpenFlag, OwnedFd } from './fd.ts';
import { bind, cString, lazily, orThrow } from './ffi.ts';
import { MountFlag } from './mount.ts';

/** One table for all architectures since 424 (asm-generic/unistd.h). glibc has had functions only since 2.36. */
const SYS_open_tree = 428;
const SYS_move_mount = 429;
const SYS_mount_setattr = 442;

const OPEN_TREE_CLONE = 1;
const MOVE_MOUNT_F_EMPTY_PATH = 0x4;
const AT_RECURSIVE = 0x8000;

/** linux/mount.h MOUNT_ATTR_*: what a mount (not the file system behind it) forbids. */
export const MountAttribute = { rdonly: 1, nosuid: 2, nodev: 4, noexec: 8, noatime: 0x10 } as const;
/** The access time modes are one field: to set one of them, all are cleared. */
const MOUNT_ATTR__ATIME = 0x70;

type Syscall5 = (
  number: number,
  directory: number,
  path: Uint8Array,
  flags: number,
  structure: BigUint64Array,
  sizeBytes: number,
) => number;

const native = lazily(() => ({
  openTree: bind<(number: number, directory: number, path: Uint8Array, flags: number) => number>(
    'long syscall(long number, long dirfd, const void *path, long flags)',
  ),
  moveMount: bind<
    (
      number: number,
      fromDirectory: number,
      from: Uint8Array,
      toDirectory: number,
      to: Uint8Array,
      flags: number,
    ) => number
  >(
    'long syscall(long number, long from_dir, const void *from, long to_dir, const void *to, long flags)',
  ),
  setattr: bind<Syscall5>(
    'long syscall(long number, long dirfd, const void *path, long flags, const void *attr, size_t size)',
  ),
}));

/** An open file or directory (its mount), or a path whose final symlink is not followed. */
export type TreeTarget = number | string | Uint8Array;

function located(target: TreeTarget): [directory: number, path: Uint8Array, flags: number] {
  return typeof target === 'number'
    ? [target, cString(''), AT_EMPTY_PATH]
    : [AT_FDCWD, cString(target), AT_SYMLINK_NOFOLLOW];
}

function shown(target: TreeTarget): string {
  if (typeof target === 'number') return `descriptor ${target}`;
  return typeof target === 'string' ? target : Buffer.from(target).toString();
}

/**
 * open_tree(2) with OPEN_TREE_CLONE: a private copy of the mount at `target`, with the directory there as its root,
 * in no namespace. `recursive`: mounts below it, too. The descriptor is O_PATH and close-on-exec. Changes of the mount
 * flags of one do not reach the other. Throws EPERM (CAP_SYS_ADMIN), ENOENT, EINVAL (unbindable; or `target` is in a
 * detached mount and the kernel is older than 6.15).
 */
export function cloneMount(target: TreeTarget, recursive = false): OwnedFd {
  const [directory, path, flags] = located(target);
  const all = OPEN_TREE_CLONE | OpenFlag.cloexec | flags | (recursive ? AT_RECURSIVE : 0);
  return new OwnedFd(
    orThrow(native().openTree(SYS_open_tree, directory, path, all), 'open_tree', shown(target)),
  );
}

/**
 * move_mount(2): puts the mount that a descriptor of `cloneMount` holds over `target`, a directory for a directory.
 * The descriptor stays a descriptor of that mount, which from now on lives without it. Throws EPERM, ENOENT, ENOTDIR,
 * EINVAL (not the root of a mount; the target is in a detached mount, or in a shared one that the tree contains).
 */
export function attachMount(treeFd: number, target: string | Uint8Array): void {
  const result = native().moveMount(
    SYS_move_mount,
    treeFd,
    cString(''),
    AT_FDCWD,
    cString(target),
    MOVE_MOUNT_F_EMPTY_PATH,
  );
  orThrow(result, 'move_mount', shown(target));
}

export interface MountChange {
  /** `MountAttribute` bits. */
  readonly set?: number;
  readonly clear?: number;
  /** Which events of mounting travel between this mount and its copies. */
  readonly propagation?: 'private' | 'slave' | 'shared' | 'unbindable';
  /** All mounts below, too. */
  readonly recursive?: boolean;
}

/**
 * mount_setattr(2) on the mount that `target` is the root of. Throws EPERM, EINVAL (not the root of a mount), EBUSY
 * (`rdonly` while files are open for writing).
 */
export function changeMount(target: TreeTarget, change: MountChange): void {
  const [directory, path, flags] = located(target);
  const set = change.set ?? 0;
  const atime = (set & MOUNT_ATTR__ATIME) === 0 ? 0 : MOUNT_ATTR__ATIME;
  // struct mount_attr { u64 attr_set; u64 attr_clr; u64 propagation; u64 userns_fd; }
  const attributes = BigUint64Array.of(
    BigInt(set),
    BigInt((change.clear ?? 0) | atime),
    BigInt(change.propagation === undefined ? 0 : MountFlag[change.propagation]),
    0n,
  );
  const result = native().setattr(
    SYS_mount_setattr,
    directory,
    path,
    flags | (change.recursive === true ? AT_RECURSIVE : 0),
    attributes,
    attributes.byteLength,
  );
  orThrow(result, 'mount_setattr', shown(target));
}
