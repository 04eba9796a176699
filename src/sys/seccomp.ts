/**
 * seccomp(2) filters and their user notifications: a process gives up system calls for good, and another one decides
 * about some of them. Linux 5.5; structures of linux/seccomp.h, linux/filter.h.
 */
import { Errno } from '../base/errno.ts';
import { OwnedFd } from './fd.ts';
import { addressOf, bind, lazily, orErrno, orThrow } from './ffi.ts';
import { ioctlBytes } from './ioctl.ts';

/** By name, per architecture (asm/unistd_64.h; asm-generic/unistd.h). */
/** Of the filter, behind `struct sock_fprog`. */
const programAt = 16;
const SYS_seccomp = process.arch === 'arm64' ? 277 : 317;
const SECCOMP_SET_MODE_FILTER = 1;
const SECCOMP_FILTER_FLAG_NEW_LISTENER = 8;
const PR_SET_NO_NEW_PRIVS = 38;

const SECCOMP_IOCTL_NOTIF_RECV = 0xc050_2100;
const SECCOMP_IOCTL_NOTIF_SEND = 0xc018_2101;
const SECCOMP_IOCTL_NOTIF_SET_FLAGS = 0x4008_2104;
const SECCOMP_USER_NOTIF_FLAG_CONTINUE = 1;
const SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP = 1;
const notificationBytes = 80;
const answerBytes = 24;

const native = lazily(() => ({
  seccomp: bind<(number: number, operation: number, flags: number, program: Uint8Array) => number>(
    'long syscall(long number, unsigned int operation, unsigned int flags, const void *args)',
  ),
  prctl: bind<(option: number, a: number, b: number, c: number, d: number) => number>(
    'int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)',
  ),
  ioctl: bind<(fd: number, request: number, argument: number) => number>(
    'int ioctl(int fd, unsigned long request, unsigned long argument)',
  ),
}));

/** PR_SET_NO_NEW_PRIVS of the calling thread, for good: no exec gives more rights. Inherited. */
export function forbidNewPrivileges(): void {
  orThrow(native().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 'prctl(PR_SET_NO_NEW_PRIVS)');
}

/**
 * Installs a filter (struct sock_filter[], 8 bytes each) for the calling thread and all that it will start. Returns the
 * listener that answers its SECCOMP_RET_USER_NOTIF calls; when nobody holds that any more they fail with ENOSYS. Needs
 * `forbidNewPrivileges`. Throws EINVAL, ENOSYS.
 */
export function installFilter(program: Uint8Array): OwnedFd {
  // struct sock_fprog { unsigned short len; struct sock_filter *filter; }, and behind it what that leads to.
  const bytes = new Uint8Array(programAt + program.length);
  const words = new BigUint64Array(bytes.buffer, 0, 2);
  words.set([BigInt(program.length / 8), addressOf(bytes) + BigInt(programAt)]);
  bytes.set(program, programAt);
  const result = native().seccomp(
    SYS_seccomp,
    SECCOMP_SET_MODE_FILTER,
    SECCOMP_FILTER_FLAG_NEW_LISTENER,
    bytes,
  );
  return new OwnedFd(orThrow(result, 'seccomp'));
}

/**
 * Tells the scheduler that whoever asks a listener sleeps until it is answered, and the other way round: both run on
 * one processor then, and none has to be woken. Linux 6.6; false before.
 */
export function takeTurns(listenerFd: number): boolean {
  const flags = SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP;
  return native().ioctl(listenerFd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, flags) === 0;
}

const notification = new Uint8Array(notificationBytes);
const notificationView = new DataView(notification.buffer);
const answer = new Uint8Array(answerBytes);
const answerView = new DataView(answer.buffer);

/**
 * Takes one waiting call and lets the kernel carry it out. Blocks unless poll(2) said that one is there. Returns its
 * number, or -errno: -ENOENT when the caller has gone. Whoever asks may change what its pointers point to meanwhile:
 * this decides about times, not about paths.
 */
export function continueOne(listenerFd: number): number {
  notification.fill(0);
  const received = orErrno(ioctlBytes(listenerFd, SECCOMP_IOCTL_NOTIF_RECV, notification));
  if (received < 0) return received;
  // struct seccomp_notif_resp { u64 id; s64 val; s32 error; u32 flags; }
  answer.fill(0);
  answerView.setBigUint64(0, notificationView.getBigUint64(0, true), true);
  answerView.setUint32(20, SECCOMP_USER_NOTIF_FLAG_CONTINUE, true);
  const sent = orErrno(ioctlBytes(listenerFd, SECCOMP_IOCTL_NOTIF_SEND, answer));
  return sent < 0 && sent !== -Errno.ENOENT ? sent : notificationView.getInt32(16, true);
}
