/** Capabilities of a thread, given up. capabilities(7). */
import { Errno } from '../base/errno.ts';
import { bind, lazily, orErrno, orThrow, systemError } from './ffi.ts';

/** asm/unistd_64.h; asm-generic/unistd.h. */
const SYS_capset = process.arch === 'arm64' ? 91 : 126;
const _LINUX_CAPABILITY_VERSION_3 = 0x2008_0522;
const PR_CAPBSET_DROP = 24;
const PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_CLEAR_ALL = 4;

const native = lazily(() => ({
  capset: bind<(number: number, header: Uint8Array, data: Uint8Array) => number>(
    'long syscall(long number, const void *header, const void *data)',
  ),
  prctl: bind<(option: number, a: number, b: number, c: number, d: number) => number>(
    'int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)',
  ),
}));

/**
 * Gives up all capabilities of the calling thread, for good: effective, permitted, inheritable, ambient and bounding
 * set. What it executes has none either. Without CAP_SETPCAP the bounding set stays.
 */
export function dropCapabilities(): void {
  for (let capability = 0; ; capability += 1) {
    const result = orErrno(native().prctl(PR_CAPBSET_DROP, capability, 0, 0, 0));
    // EINVAL: the kernel knows no more of them.
    if (result === -Errno.EINVAL || result === -Errno.EPERM) break;
    if (result < 0) throw systemError(-result, 'prctl(PR_CAPBSET_DROP)');
  }
  const cleared = native().prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  orThrow(cleared, 'prctl(PR_CAP_AMBIENT)');
  // struct __user_cap_header_struct { u32 version; int pid; }, then two structs of three u32.
  const header = new Uint8Array(Uint32Array.of(_LINUX_CAPABILITY_VERSION_3, 0).buffer);
  orThrow(native().capset(SYS_capset, header, new Uint8Array(24)), 'capset');
}
