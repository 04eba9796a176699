/** mmap(2) of a file that other processes share: what is stored there outlives this one without a system call. */
import koffi from 'koffi';
import { ebbError } from '../base/errors.ts';
import { bind, lastErrno, lazily, systemError } from './ffi.ts';

const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
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
  ftruncate: bind<(fd: number, lengthBytes: number) => number>(
    'int ftruncate(int fd, int64_t length)',
  ),
}));

/**
 * The first `lengthBytes` of the file, which is grown to that when it is shorter. Stays mapped as long as the process
 * lives, whatever becomes of `fd`. Throws EACCES, EINVAL, ENOMEM.
 */
export function mapSharedFile(fd: number, lengthBytes: number): ArrayBuffer {
  if (!(lengthBytes > 0)) throw ebbError('EINVAL', 'A mapping has at least one byte.');
  const grown = native().ftruncate(fd, lengthBytes);
  if (grown < 0) throw systemError(lastErrno(), 'ftruncate', `descriptor ${fd}`);
  const at = native().mmap(0n, lengthBytes, PROT_READ_WRITE, MAP_SHARED, fd, 0);
  if (at === failed) throw systemError(lastErrno(), 'mmap', `descriptor ${fd}`);
  return koffi.view(BigInt(at), lengthBytes);
}
