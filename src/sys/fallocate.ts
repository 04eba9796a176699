/** fallocate(2): reserving blocks and punching holes. */
import { ebbError } from '../base/errors.ts';
import { bind, checkOffset, lazily, orThrow } from './ffi.ts';

export const FallocateMode = {
  /** Do not change the file size. */
  keepSize: 0x01,
  /** Free the blocks, read zeros; must come with keepSize. */
  punchHole: 0x02,
} as const;

const native = lazily(() => ({
  fallocate: bind<(fd: number, mode: number, offset: number, lengthBytes: number) => number>(
    'int fallocate(int fd, int mode, int64_t offset, int64_t len)',
  ),
}));

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

/** Frees the blocks that lie wholly inside the range and zeroes the rest of it. The size stays. */
export function punchHole(fd: number, offset: number, lengthBytes: number): void {
  fallocate(fd, FallocateMode.punchHole | FallocateMode.keepSize, offset, lengthBytes);
}
