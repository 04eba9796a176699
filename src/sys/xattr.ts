/**
 * Extended attributes, xattr(7): of open files (`fd`) and of paths without following a final
 * symlink. Names and paths are strings in the form of base/name.ts.
 */
import { Errno } from '../base/errno.ts';
import { decodeName } from '../base/name.ts';
import { bind, cString, lastErrno, lazily, onlyCString, orThrow, systemError } from './ffi.ts';

/** XATTR_SIZE_MAX and XATTR_LIST_MAX of the kernel: no value and no list is larger. */
export const xattrSizeMaxBytes = 65536;

/** An open file, or a path whose final symlink is not followed. */
export type XattrTarget = number | string;

type Where = number | Uint8Array;
type GetCall = (where: Where, name: Uint8Array, value: Uint8Array, sizeBytes: number) => number;
type SetCall = (
  where: Where,
  name: Uint8Array,
  value: Uint8Array,
  sizeBytes: number,
  flags: number,
) => number;
type ListCall = (where: Where, list: Uint8Array, sizeBytes: number) => number;
type RemoveCall = (where: Where, name: Uint8Array) => number;

const byFd = lazily(() => ({
  get: bind<GetCall>('int64_t fgetxattr(int fd, const void *name, void *value, size_t size)'),
  set: bind<SetCall>(
    'int fsetxattr(int fd, const void *name, const void *value, size_t size, int flags)',
  ),
  list: bind<ListCall>('int64_t flistxattr(int fd, void *list, size_t size)'),
  remove: bind<RemoveCall>('int fremovexattr(int fd, const void *name)'),
}));

const byPath = lazily(() => ({
  get: bind<GetCall>(
    'int64_t lgetxattr(const void *path, const void *name, void *value, size_t size)',
  ),
  set: bind<SetCall>(
    'int lsetxattr(const void *path, const void *name, const void *value, size_t size, int flags)',
  ),
  list: bind<ListCall>('int64_t llistxattr(const void *path, void *list, size_t size)'),
  remove: bind<RemoveCall>('int lremovexattr(const void *path, const void *name)'),
}));

/** Names of attributes as C wants them; there are a few, and they are asked for all the time. */
const namesMax = 64;
const knownNames = new Map<string, Uint8Array>();

function nameOf(name: string): Uint8Array {
  const known = knownNames.get(name);
  if (known !== undefined) return known;
  const made = cString(name);
  if (knownNames.size < namesMax) knownNames.set(name, made);
  return made;
}

const scratch = lazily(() => new Uint8Array(xattrSizeMaxBytes));

function locate(target: XattrTarget): [native: ReturnType<typeof byFd>, where: Where] {
  return typeof target === 'number' ? [byFd(), target] : [byPath(), onlyCString(target)];
}

/** The value, or undefined when there is none (ENODATA). Throws EOPNOTSUPP, EPERM, ... */
export function getXattr(target: XattrTarget, name: string): Uint8Array<ArrayBuffer> | undefined {
  const [native, where] = locate(target);
  const size = native.get(where, nameOf(name), scratch(), xattrSizeMaxBytes);
  if (size >= 0) return new Uint8Array(scratch().subarray(0, size));
  const errno = lastErrno();
  if (errno === Errno.ENODATA) return undefined;
  throw systemError(errno, `getxattr ${name}`, describe(target));
}

/**
 * Sets a value of at most `xattrSizeMaxBytes`. Throws ENOSPC, EDQUOT, E2BIG, ERANGE, EOPNOTSUPP,
 * EPERM, ...
 */
export function setXattr(target: XattrTarget, name: string, value: Uint8Array): void {
  const [native, where] = locate(target);
  const result = native.set(where, nameOf(name), value, value.byteLength, 0);
  if (result < 0) throw systemError(lastErrno(), `setxattr ${name}`, describe(target));
}

/** The names, in the kernel's order. Throws EOPNOTSUPP, EACCES, ... */
export function listXattrs(target: XattrTarget): string[] {
  const [native, where] = locate(target);
  const result = native.list(where, scratch(), xattrSizeMaxBytes);
  const size = orThrow(result, 'listxattr', describe(target));
  const list = decodeName(scratch().subarray(0, size));
  return list === '' ? [] : list.slice(0, -1).split('\0');
}

/** Removes an attribute; false when there was none. */
export function removeXattr(target: XattrTarget, name: string): boolean {
  const [native, where] = locate(target);
  if (native.remove(where, nameOf(name)) >= 0) return true;
  const errno = lastErrno();
  if (errno === Errno.ENODATA) return false;
  throw systemError(errno, `removexattr ${name}`, describe(target));
}

function describe(target: XattrTarget): string {
  return typeof target === 'number' ? `descriptor ${target}` : target;
}
