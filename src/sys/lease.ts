/**
 * Leases, fcntl(2): proof that nobody else has a file open. And flock(2), for the one daemon of a
 * cache.
 *
 * While a lease is held, an open(2) that conflicts waits (at most /proc/sys/fs/lease-break-time
 * seconds) and the holder gets a signal. Its default, SIGIO, would kill the process; SIGURG is
 * chosen instead, which is ignored unless handled. The holder asks `leaseKind`, which tells the
 * wanted kind as soon as somebody waits.
 */
import { Errno } from '../base/errno.ts';
import { bind, lastErrno, lazily, orThrow, systemError } from './ffi.ts';

const F_SETSIG = 10;
const F_SETLEASE = 1024;
const F_GETLEASE = 1025;
const SIGURG = 23;

const kinds = ['read', 'write', 'none'] as const;

/** `write`: nobody else has it open at all. `read`: nobody has it open for writing. */
export type LeaseKind = (typeof kinds)[number];

const native = lazily(() => ({
  fcntl: bind<(fd: number, command: number, argument: number) => number>(
    'int fcntl(int fd, int cmd, long arg)',
  ),
  flock: bind<(fd: number, operation: number) => number>('int flock(int fd, int operation)'),
}));

/**
 * Takes a lease; false when it is refused because the file is open elsewhere, mapped, or somebody
 * is opening it just now (EAGAIN, EBUSY). A read lease needs a descriptor open for reading only.
 * Throws EACCES for files of other users without CAP_LEASE, EINVAL where the file system has no
 * leases.
 */
export function tryLease(fd: number, kind: 'read' | 'write'): boolean {
  orThrow(native().fcntl(fd, F_SETSIG, SIGURG), 'fcntl(F_SETSIG)', `descriptor ${fd}`);
  return setLease(fd, kind);
}

/**
 * Takes a lease again that `tryLease` has taken through this descriptor. False: somebody is opening the file just now,
 * also if he has not come so far that `leaseKind` tells of him.
 */
export function renewLease(fd: number, kind: 'read' | 'write'): boolean {
  return setLease(fd, kind);
}

function setLease(fd: number, kind: 'read' | 'write'): boolean {
  if (native().fcntl(fd, F_SETLEASE, kinds.indexOf(kind)) >= 0) return true;
  const errno = lastErrno();
  if (errno === Errno.EAGAIN || errno === Errno.EBUSY) return false;
  throw systemError(errno, 'fcntl(F_SETLEASE)', `descriptor ${fd}`);
}

/**
 * What is held; while somebody waits for it to be broken, what it should become (`none`, or
 * `read`).
 */
export function leaseKind(fd: number): LeaseKind {
  const kind = native().fcntl(fd, F_GETLEASE, 0);
  return kinds[orThrow(kind, 'fcntl(F_GETLEASE)', `descriptor ${fd}`)] ?? 'none';
}

/**
 * Whether the file of this descriptor, which is open for writing, is open or mapped by anybody else just now. Who opens
 * it at that very moment may wait, or with O_NONBLOCK be refused. Throws as `tryLease`.
 */
export function isOpenElsewhere(fd: number): boolean {
  if (!tryLease(fd, 'write')) return true;
  dropLease(fd);
  return false;
}

/** Gives the lease up: who waits may go on. Does nothing when there is none. */
export function dropLease(fd: number): void {
  if (native().fcntl(fd, F_SETLEASE, kinds.indexOf('none')) >= 0) return;
  const errno = lastErrno();
  // EAGAIN: there was no lease (any more).
  if (errno !== Errno.EAGAIN) throw systemError(errno, 'fcntl(F_SETLEASE)', `descriptor ${fd}`);
}

const LOCK_EX = 2;
const LOCK_NB = 4;

/**
 * flock(2), exclusive: false when another open file holds it. It ends when the last descriptor of
 * this open file is closed, at the latest when the process dies.
 */
export function tryLock(fd: number): boolean {
  if (native().flock(fd, LOCK_EX | LOCK_NB) >= 0) return true;
  const errno = lastErrno();
  if (errno === Errno.EAGAIN) return false;
  throw systemError(errno, 'flock', `descriptor ${fd}`);
}
