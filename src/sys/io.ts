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
type TransferVector = (fd: number, vector: Uint8Array, count: number) => number;

const native = lazily(() => ({
  read: bind<Transfer>('int64_t read(int fd, void *buf, size_t count)'),
  write: bind<Transfer>('int64_t write(int fd, const void *buf, size_t count)'),
  pread: bind<TransferAt>('int64_t pread(int fd, void *buf, size_t count, int64_t offset)'),
  pwrite: bind<TransferAt>('int64_t pwrite(int fd, const void *buf, size_t count, int64_t offset)'),
  readv: bind<TransferVector>('int64_t readv(int fd, const void *iov, int count)'),
  preadv2: bind<
    (fd: number, vector: Uint8Array, count: number, offset: number, flags: number) => number
  >('int64_t preadv2(int fd, const void *iov, int count, int64_t offset, int flags)'),
  writev: bind<TransferVector>('int64_t writev(int fd, const void *iov, int count)'),
  lseek: bind<(fd: number, offset: number, whence: number) => number | bigint>(
    'int64_t lseek(int fd, int64_t offset, int whence)',
  ),
  pipe2: bind<(fds: Int32Array, flags: number) => number>('int pipe2(void *fds, int flags)'),
  splice: bind<
    (
      fromFd: number,
      fromOffset: BigInt64Array | null,
      toFd: number,
      toOffset: BigInt64Array | null,
      lengthBytes: number,
      flags: number,
    ) => number
  >('int64_t splice(int in, void *off_in, int out, void *off_out, size_t len, unsigned int flags)'),
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

/** IOV_MAX. */
export const ioVectorEntriesMax = 1024;

/**
 * struct iovec[], kept between calls. It keeps the arrays alive whose addresses it holds. Setting
 * an entry to the array it already holds is cheap.
 */
export class IoVector {
  readonly bytes: Uint8Array;
  readonly #words: BigUint64Array;
  readonly #held: (Uint8Array | undefined)[];

  /** 1 <= capacity <= ioVectorEntriesMax. */
  constructor(capacity: number) {
    assert(capacity >= 1 && capacity <= ioVectorEntriesMax, 'an io vector has 1 .. 1024 entries');
    this.#words = new BigUint64Array(capacity * 2);
    this.bytes = new Uint8Array(this.#words.buffer);
    this.#held = Array.from({ length: capacity });
  }

  get capacity(): number {
    return this.#held.length;
  }

  /** Entry `index` is the first `lengthBytes` of `bytes`. */
  set(index: number, bytes: Uint8Array, lengthBytes: number = bytes.byteLength): void {
    assert(index >= 0 && index < this.#held.length, 'the io vector entry exists');
    assert(lengthBytes >= 0 && lengthBytes <= bytes.byteLength, 'the entry is inside its memory');
    if (this.#held[index] !== bytes) {
      this.#held[index] = bytes;
      this.#words[index * 2] = addressOf(bytes);
    }
    this.#words[index * 2 + 1] = BigInt(lengthBytes);
  }
}

/** readv(2) into the first `count` entries. Returns the bytes read or -errno. Hot. */
export function readv(fd: number, vector: IoVector, count: number): number {
  assert(count >= 0 && count <= vector.capacity, 'the io vector has that many entries');
  return orErrno(native().readv(fd, vector.bytes, count));
}

/**
 * writev(2) of the first `count` entries, in one piece for pipes and devices. Bytes written or
 * -errno. Hot.
 */
export function writev(fd: number, vector: IoVector, count: number): number {
  assert(count >= 0 && count <= vector.capacity, 'the io vector has that many entries');
  return orErrno(native().writev(fd, vector.bytes, count));
}

const RWF_NOWAIT = 8;
const oneVector = lazily(() => new IoVector(1));

/**
 * pread(2) of what is in the page cache: waits for no disk. Returns the count, which ends where the cache does, or
 * -errno: -EAGAIN when nothing is there, -EOPNOTSUPP on file systems that cannot tell (tmpfs). Hot.
 */
export function preadCached(fd: number, bytes: Uint8Array, offset: number): number {
  if (!isOffset(offset)) return -Errno.EINVAL;
  oneVector().set(0, bytes);
  return orErrno(native().preadv2(fd, oneVector().bytes, 1, offset, RWF_NOWAIT));
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

export const SpliceFlag = { move: 1, nonblock: 2, more: 4 } as const;

const spliceFrom = new BigInt64Array(1);
const spliceTo = new BigInt64Array(1);

/**
 * splice(2): moves bytes inside the kernel; one side is a pipe. Offsets undefined: the file
 * position is used (and moves). Returns the count (0: end) or -errno. Hot.
 */
export function splice(
  fromFd: number,
  fromOffset: number | undefined,
  toFd: number,
  toOffset: number | undefined,
  lengthBytes: number,
  flags = 0,
): number {
  if (fromOffset !== undefined && !isOffset(fromOffset)) return -Errno.EINVAL;
  if (toOffset !== undefined && !isOffset(toOffset)) return -Errno.EINVAL;
  if (!isOffset(lengthBytes)) return -Errno.EINVAL;
  if (fromOffset !== undefined) spliceFrom[0] = BigInt(fromOffset);
  if (toOffset !== undefined) spliceTo[0] = BigInt(toOffset);
  return orErrno(
    native().splice(
      fromFd,
      fromOffset === undefined ? null : spliceFrom,
      toFd,
      toOffset === undefined ? null : spliceTo,
      lengthBytes,
      flags,
    ),
  );
}
