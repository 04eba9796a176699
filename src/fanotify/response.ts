/**
 * What a requester can be told. The kernel takes seven errnos; with any other the answer is refused (EINVAL) and the
 * requester waits for ever, so `denialFor` maps all errnos to these.
 */
import { Errno, errnoCodeOf } from '../base/errno.ts';
import type { ErrnoCode } from '../base/errno.ts';
import { responseAllow, responseBytes, responseDeny, responseErrnoShift } from './constants.ts';

/** fanotify_user.c, process_access_response(), Linux 6.14 .. 6.18. */
const denials = ['EPERM', 'EIO', 'EBUSY', 'ETXTBSY', 'EAGAIN', 'ENOSPC', 'EDQUOT'] as const;

/** An errno that a requester can get. */
export type Denial = (typeof denials)[number];

const own: ReadonlySet<ErrnoCode> = new Set(denials);

/** Those that are neither themselves nor EIO. */
const others: ReadonlyMap<ErrnoCode, Denial> = new Map([
  // May not.
  ['EACCES', 'EPERM'],
  ['EROFS', 'EPERM'],
  ['EKEYREJECTED', 'EPERM'],
  // Something of this machine is short for a moment.
  ['EINTR', 'EAGAIN'],
  ['ENOMEM', 'EAGAIN'],
  ['ENOBUFS', 'EAGAIN'],
  ['EMFILE', 'EAGAIN'],
  ['ENFILE', 'EAGAIN'],
  // Somebody else has it.
  ['EDEADLK', 'EBUSY'],
  ['ENOLCK', 'EBUSY'],
  ['EALREADY', 'EBUSY'],
  ['EINPROGRESS', 'EBUSY'],
]);

/**
 * The nearest errno that the kernel takes; total. EPERM, EIO, EBUSY, ETXTBSY, EAGAIN, ENOSPC and EDQUOT are themselves;
 * EACCES, EROFS, EKEYREJECTED become EPERM; EINTR, ENOMEM, ENOBUFS, EMFILE, ENFILE become EAGAIN; EDEADLK, ENOLCK,
 * EALREADY, EINPROGRESS become EBUSY; everything else EIO: what is gone (ENOENT, ESTALE) as well as what could not be
 * reached in time (ETIMEDOUT, EHOSTUNREACH, ...), because programs that get EAGAIN from a file ask again in a loop.
 */
export function denialFor(errno: number): Denial {
  const code = errnoCodeOf(errno);
  if (code === undefined) return 'EIO';
  return own.has(code) ? (code as Denial) : (others.get(code) ?? 'EIO');
}

export function isDenial(code: string): code is Denial {
  return (own as ReadonlySet<string>).has(code);
}

/** The word that allows, or denies with this errno (EPERM when the group's class is not pre-content). */
export function responseWord(answer: 'allow' | Denial, withErrno: boolean): number {
  if (answer === 'allow') return responseAllow;
  return withErrno ? responseDeny | (Errno[answer] << responseErrnoShift) : responseDeny;
}

/** Writes a struct fanotify_response for an event's descriptor at the start of `into` (8 bytes). */
export function encodeResponse(into: DataView, eventFd: number, word: number): number {
  into.setInt32(0, eventFd, true);
  into.setUint32(4, word, true);
  return responseBytes;
}
