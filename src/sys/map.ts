/** mmap(2): of a file that other processes share, and to find out whether a file can be mapped. */
import { ebbError } from '../base/errors.ts';
import { bind, checkOffset, lastErrno, lazily, systemError } from './ffi.ts';
import { koffi } from './library.ts';

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
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
  ftruncate: bind<(fd: number, lengthBytes: number) => number>(
    'int ftruncate(int fd, int64_t length)',
  ),
}));

/**
 * Maps a range of an open file for reading, privately, and unmaps it. Touches no page. `offset`: a multiple of the page
 * size. Waits for whoever answers a fanotify event for it. Throws EINVAL, EACCES, EPERM, ENODEV, or the errno of a
 * denial.
 */
export function tryMap(fd: number, offset: number, lengthBytes: number): void {
  checkOffset(offset, 'An offset');
  checkLength(lengthBytes);
  native().munmap(mmap(lengthBytes, PROT_READ, MAP_PRIVATE, fd, offset), lengthBytes);
}

/**
 * The first `lengthBytes` of the file, which is given that size, shared: what is stored there outlives this process
 * without a system call. Stays mapped as long as the process lives, whatever becomes of `fd`. Throws EACCES, EINVAL,
 * ENOMEM.
 */
export function mapSharedFile(fd: number, lengthBytes: number): ArrayBuffer {
  checkLength(lengthBytes);
  const sized = native().ftruncate(fd, lengthBytes);
  if (sized < 0) throw systemError(lastErrno(), 'ftruncate', `descriptor ${fd}`);
  return koffi.view(
    BigInt(mmap(lengthBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)),
    lengthBytes,
  );
}

function mmap(
  lengthBytes: number,
  protection: number,
  flags: number,
  fd: number,
  offset: number,
): number | bigint {
  const at = native().mmap(0n, lengthBytes, protection, flags, fd, offset);
  if (at === failed) throw systemError(lastErrno(), 'mmap', `descriptor ${fd}`);
  return at;
}

function checkLength(lengthBytes: number): void {
  if (!(lengthBytes > 0)) throw ebbError('EINVAL', 'A mapping has at least one byte.');
}
