/**
 * fanotify_init(2) and fanotify_mark(2). What the numbers mean is src/fanotify/constants.ts; reading events and
 * answering them is read(2) and write(2) on the group's descriptor.
 */
import { OwnedFd } from './fd.ts';
import { bind, cString, lazily, orErrno, orThrow } from './ffi.ts';

const native = lazily(() => ({
  init: bind<(flags: number, eventFlags: number) => number>(
    'int fanotify_init(unsigned int flags, unsigned int event_f_flags)',
  ),
  mark: bind<
    (group: number, flags: number, mask: number, dir: number, path: Uint8Array | null) => number
  >(
    'int fanotify_mark(int fanotify_fd, unsigned int flags, uint64_t mask, int dirfd, const void *pathname)',
  ),
}));

/**
 * fanotify_init(2): a new group. `flags`: FAN_CLASS_* and others; `eventFlags`: O_* of the descriptors that come with
 * events. Throws EPERM (no CAP_SYS_ADMIN), EINVAL (a flag or combination that this kernel does not know), EMFILE (also
 * for more than 128 groups of one user), ENOSYS.
 */
export function fanotifyInit(flags: number, eventFlags: number): OwnedFd {
  return new OwnedFd(orThrow(native().init(flags, eventFlags), 'fanotify_init'));
}

/**
 * fanotify_mark(2). `path` undefined: the object is `directoryFd` itself, else `path` starts from there (`AT_FDCWD`:
 * working directory). `mask` below 2^53. Returns 0 or -errno: -EOPNOTSUPP (this file system does not do that),
 * -EINVAL (kind of file, or unknown bits), -EEXIST (the marks that are there forbid it), -ENOENT (nothing to
 * remove), -ENOSPC (max_user_marks), -EXDEV (btrfs subvolumes in groups with FID records), -ENODEV. Hot.
 */
export function fanotifyMark(
  groupFd: number,
  flags: number,
  mask: number,
  directoryFd: number,
  path?: string | Uint8Array,
): number {
  const name = path === undefined ? null : cString(path);
  return orErrno(native().mark(groupFd, flags, mask, directoryFd, name));
}
