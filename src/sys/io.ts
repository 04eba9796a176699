/**
 * Reading and writing. Everything here is hot: returns a count or -errno, never throws for what the
 * kernel says, and passes the memory of typed arrays in place. Asynchronous twins: file-io.ts.
 */
import { assert } from '../base/assert.ts';
import { Errno } from '../base/errno.ts';
import { OwnedFd } from './fd.ts';
import { addressOf, bind, isOffset, lazily, orErrno, orThrow } from './ffi.ts';

type Transfer = (fd: number, bytes: Uint8Array, lengthBytes: number) => number;
type TransferAt = (fd: number, bytes: Uint8Array, lengthBytes: number, offset: number) => number;

const native = lazily(() => ({
  read: bind<Transfer>('int64_t read(int fd, void *buf, size_t count)'),
  write: bind<Transfer>('int64_t write(int fd, const void *buf, size_t count)'),
  pread: bind<TransferAt>('int64_t pread(int fd, void *buf, size_t count, int64_t offset)'),
  pwrite: bind<TransferAt>('int64_t pwrite(int fd, const void *buf, size_t count, int64_t offset)'),
  preadv2: bind<
    (fd: number, vector: Uint8Array, count: number, offset: number, flags: number) => number
  >('int64_t preadv2(int fd, const void *iov, int count, int64_t offset, int flags)'),
  lseek: bind<(fd: number, offset: number, whence: number) => number | bigint>(
    'int64_t lseek(int fd, int64_t offset, int whence)',
  ),
  pipe2: bind<(fds: Int32Array, flags: number) => number>('int pipe2(void *fds, int flags)'),
}));

/**
 * The memory to pass: `bytes` from `start`, of which `lengthBytes` will be used. Never outside of
 * it.
 */
function memory(bytes: Uint8Array, start: number, lengthBytes: number): Uint8Array {
  assert(
    start >= 0 && lengthBytes >= 0 && start + lengthBytes <= bytes.byteLength,
    'the transfer stays inside its memory',
  );
  return start === 0 ? bytes : bytes.subarray(start);
}

/** read(2) into `bytes[start ..]`. Returns the count (0: end of file) or -errno. Hot. */
export function read(
  fd: number,
  bytes: Uint8Array,
  start = 0,
  lengthBytes: number = bytes.byteLength - start,
): number {
  return orErrno(native().read(fd, memory(bytes, start, lengthBytes), lengthBytes));
}

/** write(2) of `bytes[start ..]`. Returns the count, which may be less, or -errno. Hot. */
export function write(
  fd: number,
  bytes: Uint8Array,
  start = 0,
  lengthBytes: number = bytes.byteLength - start,
): number {
  return orErrno(native().write(fd, memory(bytes, start, lengthBytes), lengthBytes));
}

/**
 * pread(2). `offset`: place in the file, 0 .. 2^53-1, else -EINVAL. Returns the count or -errno.
 * Hot.
 */
export function pread(
  fd: number,
  bytes: Uint8Array,
  offset: number,
  start = 0,
  lengthBytes: number = bytes.byteLength - start,
): number {
  if (!isOffset(offset)) return -Errno.EINVAL;
  return orErrno(native().pread(fd, memory(bytes, start, lengthBytes), lengthBytes, offset));
}

/**
 * pwrite(2). `offset`: place in the file, 0 .. 2^53-1, else -EINVAL. Returns the count or -errno.
 * Hot.
 */
export function pwrite(
  fd: number,
  bytes: Uint8Array,
  offset: number,
  start = 0,
  lengthBytes: number = bytes.byteLength - start,
): number {
  if (!isOffset(offset)) return -Errno.EINVAL;
  return orErrno(native().pwrite(fd, memory(bytes, start, lengthBytes), lengthBytes, offset));
}

const RWF_NOWAIT = 8;
/** struct iovec[1]: address and length. */
const vector = new BigUint64Array(2);
const vectorBytes = new Uint8Array(vector.buffer);
/** Whose address it has: not collected while the kernel writes there. The same array comes again and again. */
let pointedAt: Uint8Array | undefined;

/**
 * pread(2) of what is in the page cache: waits for no disk. Returns the count, which ends where the cache does, or
 * -errno: -EAGAIN when nothing is there, -EOPNOTSUPP on file systems that cannot tell (tmpfs). Hot.
 */
export function preadCached(fd: number, bytes: Uint8Array, offset: number): number {
  if (!isOffset(offset)) return -Errno.EINVAL;
  if (pointedAt !== bytes) {
    pointedAt = bytes;
    vector[0] = addressOf(bytes);
  }
  vector[1] = BigInt(bytes.byteLength);
  return orErrno(native().preadv2(fd, vectorBytes, 1, offset, RWF_NOWAIT));
}

export const Seek = { set: 0, current: 1, end: 2, data: 3, hole: 4 } as const;
export type Seek = (typeof Seek)[keyof typeof Seek];

/**
 * lseek(2). Returns the new offset or -errno: -ENXIO for `data`/`hole` behind the end, -EOVERFLOW
 * when the result is above 2^53-1. Changes the file position shared by all users of the open file.
 * Hot.
 */
export function seek(fd: number, offset: number, whence: Seek): number {
  if (!Number.isSafeInteger(offset)) return -Errno.EINVAL;
  const result = native().lseek(fd, offset, whence);
  return typeof result === 'bigint' ? -Errno.EOVERFLOW : orErrno(result);
}

/** The read end and the write end of a new pipe, close-on-exec. Throws EMFILE, ENFILE. */
export function pipe(flags = 0): { readEnd: OwnedFd; writeEnd: OwnedFd } {
  const fds = new Int32Array(2);
  const cloexec = 0o2000000;
  orThrow(native().pipe2(fds, flags | cloexec), 'pipe2');
  return { readEnd: new OwnedFd(fds[0] as number), writeEnd: new OwnedFd(fds[1] as number) };
}
