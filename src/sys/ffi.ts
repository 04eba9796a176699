/**
 * The way to libc. This folder is the only importer of the FFI library (koffi) and knows its
 * habits:
 *
 * - Every thread binds its own functions, on first use (`lazily`); nothing of it can be sent to
 *   another thread. A thread must not be terminated while it loads this module: wait for its first
 *   message.
 * - koffi keeps errno per thread and call; it is read in the very next statement after the call.
 * - A typed array passed as `void *` is used in place (its own offset counts), shared memory
 *   included.
 * - A 64-bit result that a Number cannot hold exactly comes as a BigInt.
 * - A thread blocked in a call cannot be stopped: never wait without a stop descriptor (poll.ts).
 *
 * Two kinds of functions in this folder. *Hot* ones say so: they allocate nothing, never throw for
 * what the kernel says, and return `-errno` (a negative number) as the kernel itself does. All
 * others throw `EbbError`.
 */
import { errnoCodeOf, errnoMessage } from '../base/errno.ts';
import { ebbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import { encodeName } from '../base/name.ts';
import { koffi } from './library.ts';

/** Makes something once, when it is first asked for. */
export function lazily<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => (made ??= make());
}

/** The C library that Node itself is linked to. */
const libc = lazily(() => koffi.load(null));

/** Binds a C function; `Signature` is what the prototype means in TypeScript. */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- only the caller knows the C type
export function bind<Signature>(prototype: string): Signature {
  return libc().func(prototype) as Signature;
}

/**
 * Binds a C function to run in libuv's thread pool (shared with node:fs; 4 threads unless
 * UV_THREADPOOL_SIZE). Resolves to the result, or to -errno when that is negative. Memory passed in
 * must stay untouched until then.
 */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- only the caller knows the C type
export function bindAsync<Arguments extends readonly unknown[]>(
  prototype: string,
): (...args: Arguments) => Promise<number> {
  const native = libc().func(prototype);
  return (...args) =>
    new Promise((resolve, reject) => {
      native.async(...args, (error: unknown, result: number) => {
        // Read first: koffi has put the call's errno here for the callback.
        const errno = koffi.errno();
        if (error) reject(error instanceof Error ? error : new Error(`${prototype} failed`));
        else resolve(result < 0 ? -errno : result);
      });
    });
}

/** errno of this thread's last native call. Only in the statement after the call. */
export function lastErrno(): number {
  return koffi.errno();
}

/**
 * `result`, or -errno when it is negative. Must wrap the call directly:
 * `orErrno(native().read(...))`.
 */
export function orErrno(result: number): number {
  return result < 0 ? -koffi.errno() : result;
}

/** `result`, or throws what errno says. Must wrap the call directly. */
export function orThrow(result: number, call: string, subject?: string | number): number {
  if (result < 0) throw systemError(koffi.errno(), call, subject);
  return result;
}

/** An `EbbError` for a failed system call: `mount of /mnt failed: Device or resource busy.` */
export function systemError(errno: number, call: string, subject?: string | number): EbbError {
  const of = subject === undefined ? '' : ` of ${subject}`;
  return ebbError(errnoCodeOf(errno) ?? 'EIO', `${call}${of} failed: ${errnoMessage(errno)}.`);
}

/**
 * Address of memory, for structures that hold pointers. Valid while the array's buffer is referenced, which it is not
 * any more after the last line that names it: keep it (`keeping`), or have it in one array with the structure.
 */
export function addressOf(bytes: Uint8Array): bigint {
  return koffi.address(bytes);
}

const kept = new Set<object>();

/** Makes a call that addresses are passed to: `owner`, and what it holds, is not collected before it has returned. */
export function keeping<Result>(owner: object, call: () => Result): Result {
  kept.add(owner);
  try {
    return call();
  } finally {
    kept.delete(owner);
  }
}

/**
 * A path or name as C wants it. Strings are in the form of base/name.ts. A NUL inside is EINVAL.
 */
export function cString(text: string | Uint8Array): Uint8Array {
  const bytes = withoutNul(text);
  const terminated = new Uint8Array(bytes.length + 1);
  terminated.set(bytes);
  return terminated;
}

/** PATH_MAX: the kernel takes no longer path. */
const pathMaxBytes = 4096;
const onlyPath = new Uint8Array(pathMaxBytes + 1);

/**
 * `cString` in memory that the next call of this function in this thread uses again: for a system call that is made at
 * once and takes no second path from here. Memory outside of the heap for each name would cost more than the call.
 */
export function onlyCString(text: string | Uint8Array): Uint8Array {
  const bytes = withoutNul(text);
  if (bytes.length > pathMaxBytes) return cString(bytes);
  onlyPath.set(bytes);
  onlyPath[bytes.length] = 0;
  return onlyPath;
}

function withoutNul(text: string | Uint8Array): Uint8Array {
  const bytes = typeof text === 'string' ? encodeName(text) : text;
  if (bytes.includes(0)) throw ebbError('EINVAL', 'A name or path contains a NUL byte.');
  return bytes;
}

/** Whether the kernel can be given this offset or length: a whole number 0 .. 2^53-1. */
export function isOffset(value: number): boolean {
  return value >= 0 && Number.isSafeInteger(value);
}

/**
 * Throws EINVAL, or EOVERFLOW above 2^53-1, unless `value` is an offset or length that can be
 * passed exactly.
 */
export function checkOffset(value: number, what: string): void {
  if (isOffset(value)) return;
  throw ebbError(
    value > Number.MAX_SAFE_INTEGER ? 'EOVERFLOW' : 'EINVAL',
    `${what} must be a whole number from 0 to 2^53-1, not ${value}.`,
  );
}
