/** mount(2) and umount2(2). */
import { bind, bindAsync, cString, lazily, orThrow, systemError } from './ffi.ts';

/** linux/mount.h MS_*. */
export const MountFlag = {
  rdonly: 0x1,
  nosuid: 0x2,
  nodev: 0x4,
  noexec: 0x8,
  synchronous: 0x10,
  remount: 0x20,
  dirsync: 0x80,
  noatime: 0x400,
  nodiratime: 0x800,
  bind: 0x1000,
  move: 0x2000,
  recursive: 0x4000,
  silent: 0x8000,
  unbindable: 0x20000,
  private: 0x40000,
  slave: 0x80000,
  shared: 0x100000,
  relatime: 0x200000,
} as const;

/** linux/fs.h MNT_* and UMOUNT_NOFOLLOW. */
export const UnmountFlag = { force: 1, detach: 2, expire: 4, nofollow: 8 } as const;

type Path = string | Uint8Array;

const umountPrototype = 'int umount2(const void *target, int flags)';

const native = lazily(() => ({
  mount: bind<
    (
      source: Uint8Array | null,
      target: Uint8Array,
      type: Uint8Array | null,
      flags: number,
      data: Uint8Array | null,
    ) => number
  >(
    'int mount(const void *source, const void *target, const void *type, ' +
      'unsigned long flags, const void *data)',
  ),
  umount: bind<(target: Uint8Array, flags: number) => number>(umountPrototype),
  umountAsync: bindAsync<[target: Uint8Array, flags: number]>(umountPrototype),
}));

export interface MountRequest {
  /** What mount(8) and /proc/self/mountinfo will show as the device. */
  readonly source?: Path;
  readonly target: Path;
  /** `fuse`, `tmpfs`, ...; absent for bind mounts and remounts. */
  readonly type?: string;
  /** `MountFlag` bits. */
  readonly flags?: number;
  /** Options of the file system, comma-separated, at most a page. */
  readonly data?: string;
}

/**
 * mount(2). Throws EPERM (needs CAP_SYS_ADMIN), EBUSY, EINVAL, ENODEV (type unknown), ENOENT,
 * ENOTDIR.
 */
export function mount({ source, target, type, flags = 0, data }: MountRequest): void {
  const result = native().mount(
    source === undefined ? null : cString(source),
    cString(target),
    type === undefined ? null : cString(type),
    flags,
    data === undefined ? null : cString(data),
  );
  orThrow(result, 'mount', shown(target));
}

/**
 * umount2(2). Blocks while dirty pages are written back. Throws EBUSY, EINVAL (no mount point),
 * EPERM.
 */
export function unmount(target: Path, flags = 0): void {
  orThrow(native().umount(cString(target), flags), 'umount', shown(target));
}

/**
 * umount2(2) in libuv's thread pool: the only safe one for a mount that this very process serves,
 * because unmounting may wait for answers of the server.
 */
export async function unmountAsync(target: Path, flags = 0): Promise<void> {
  const result = await native().umountAsync(cString(target), flags);
  if (result < 0) throw systemError(-result, 'umount', shown(target));
}

function shown(path: Path): string {
  return typeof path === 'string' ? path : Buffer.from(path).toString();
}
