/** mmap(2), for those who want to know whether a file can be mapped: the mapping is gone when the call returns. */
import { ebbError } from '../base/errors.ts';
import { bind, checkOffset, lastErrno, lazily, systemError } from './ffi.ts';

const PROT_READ = 1;
const MAP_PRIVATE = 2;
/** MAP_FAILED as an unsigned number. */
const failed = 2n ** 64n - 1n;

const native = lazily(() => ({
  mmap: bind<
    (
      at: bigint,
      lengthBytes: number,
      protection: number,
      flags: number,
      fd: number,
      offset: number,
    ) => number | bigint
  >('uint64_t mmap(uint64_t addr, size_t length, int prot, int flags, int fd, int64_t offset)'),
  munmap: bind<(at: number | bigint, lengthBytes: number) => number>(
    'int munmap(uint64_t addr, size_t length)',
  ),
}));

/**
 * Maps a range of an open file for reading, privately, and unmaps it. Touches no page. `offset`: a multiple of the page
 * size. Waits for whoever answers a fanotify event for it. Throws EINVAL, EACCES, EPERM, ENODEV, or the errno of a
 * denial.
 */
export function tryMap(fd: number, offset: number, lengthBytes: number): void {
  checkOffset(offset, 'An offset');
  if (!(lengthBytes > 0)) throw ebbError('EINVAL', 'A mapping has at least one byte.');
  const at = native().mmap(0n, lengthBytes, PROT_READ, MAP_PRIVATE, fd, offset);
  if (at === failed) throw systemError(lastErrno(), 'mmap', `descriptor ${fd}`);
  native().munmap(at, lengthBytes);
}
