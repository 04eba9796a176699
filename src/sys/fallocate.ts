/**
 * fallocate(2): reserving blocks and punching holes. Asynchronous twins run in libuv's thread pool.
 */
import { ebbError } from '../base/errors.ts';
import { Semaphore } from '../base/semaphore.ts';
import { bind, bindAsync, checkOffset, lazily, orThrow, systemError } from './ffi.ts';

export const FallocateMode = {
  /** Do not change the file size. */
  keepSize: 0x01,
  /** Free the blocks, read zeros; must come with keepSize. */
  punchHole: 0x02,
  /** Read zeros, keep the blocks where the file system can. */
  zeroRange: 0x10,
} as const;

const prototype = 'int fallocate(int fd, int mode, int64_t offset, int64_t len)';
type Arguments = [fd: number, mode: number, offset: number, lengthBytes: number];

const native = lazily(() => ({
  fallocate: bind<(...args: Arguments) => number>(prototype),
  fallocateAsync: bindAsync<Arguments>(prototype),
}));

/** One at a time keeps the pool's other threads for data; koffi itself refuses above 256 calls. */
const asyncCalls = new Semaphore({ permits: 1, waitersMax: 4096 });

function check(offset: number, lengthBytes: number): void {
  checkOffset(offset, 'An offset');
  checkOffset(lengthBytes, 'A length');
  checkOffset(offset + lengthBytes, 'The end of a range');
  if (lengthBytes === 0) throw ebbError('EINVAL', 'A range of no bytes cannot be allocated.');
}

/** fallocate(2). Throws ENOSPC, EDQUOT, EFBIG, EOPNOTSUPP, EBADF, ... Blocks. */
export function fallocate(fd: number, mode: number, offset: number, lengthBytes: number): void {
  check(offset, lengthBytes);
  orThrow(native().fallocate(fd, mode, offset, lengthBytes), 'fallocate', `descriptor ${fd}`);
}

/** The same without blocking the thread. Rejects also with EBUSY when thousands wait. */
export async function fallocateAsync(
  fd: number,
  mode: number,
  offset: number,
  lengthBytes: number,
): Promise<void> {
  check(offset, lengthBytes);
  using _permit = await asyncCalls.acquire();
  const result = await native().fallocateAsync(fd, mode, offset, lengthBytes);
  if (result < 0) throw systemError(-result, 'fallocate', `descriptor ${fd}`);
}

/** Frees the blocks that lie wholly inside the range and zeroes the rest of it. The size stays. */
export function punchHole(fd: number, offset: number, lengthBytes: number): void {
  fallocate(fd, FallocateMode.punchHole | FallocateMode.keepSize, offset, lengthBytes);
}

/** `punchHole` without blocking the thread. */
export function punchHoleAsync(fd: number, offset: number, lengthBytes: number): Promise<void> {
  return fallocateAsync(fd, FallocateMode.punchHole | FallocateMode.keepSize, offset, lengthBytes);
}
