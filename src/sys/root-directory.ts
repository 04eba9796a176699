/** The root directory of a mount namespace. */
import { bind, cString, lazily, orThrow } from './ffi.ts';
import { UnmountFlag, unmount } from './mount.ts';

/** asm/unistd_64.h; asm-generic/unistd.h. */
const SYS_pivot_root = process.arch === 'arm64' ? 41 : 155;

const native = lazily(() => ({
  pivotRoot: bind<(number: number, newRoot: Uint8Array, putOld: Uint8Array) => number>(
    'long syscall(long number, const void *newRoot, const void *putOld)',
  ),
}));

/**
 * Makes the mount at `directory` the root of this mount namespace and of all processes in it, and takes every other
 * mount out of the namespace; the working directory is the new root. Throws EPERM (CAP_SYS_ADMIN), EINVAL (`directory`
 * is no mount point, or its parent is shared). pivot_root(2), NOTES: `pivot_root(".", ".")`.
 */
export function replaceRoot(directory: string): void {
  process.chdir(directory);
  const here = cString('.');
  orThrow(native().pivotRoot(SYS_pivot_root, here, here), 'pivot_root', directory);
  // The old root lies over the new one now.
  unmount('.', UnmountFlag.detach);
  process.chdir('/');
}
