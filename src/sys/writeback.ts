/** sync_file_range(2): starts writing a file's dirty pages without waiting for them. syncfs(2): waits for all. */
import { Semaphore } from '../base/semaphore.ts';
import { bindAsync, lazily, systemError } from './ffi.ts';

/** SYNC_FILE_RANGE_WRITE */
const startWriting = 2;

const native = lazily(() => ({
  syncfs: bindAsync<[fd: number]>('int syncfs(int fd)'),
  syncFileRange: bindAsync<[fd: number, offset: number, lengthBytes: number, flags: number]>(
    'int sync_file_range(int fd, int64_t offset, int64_t nbytes, unsigned int flags)',
  ),
}));

/** koffi refuses above 256 asynchronous calls; two keep the pool's other threads for data. */
const calls = new Semaphore({ permits: 2, waitersMax: 65_536 });

/**
 * Begins the writeback of a whole file. It promises nothing about durability (no metadata, no disk cache flush):
 * its use is before the fdatasync of many files, which then find their blocks allocated and written, so that one
 * journal commit serves them all (measured: docs/decisions/0003-flat-tree.md). Rejects with EBADF, EIO, ENOSPC.
 */
export async function startWriteback(fd: number): Promise<void> {
  using _permit = await calls.acquire();
  const result = await native().syncFileRange(fd, 0, 0, startWriting);
  if (result < 0) throw systemError(-result, 'sync_file_range', `descriptor ${fd}`);
}

/**
 * syncfs(2): all that was written to the file system of an open file (not O_PATH) is durable when it settles, which
 * takes seconds on a slow disk. Rejects with EIO, ENOSPC, EDQUOT when earlier writes failed (each open file is told
 * once).
 */
export async function syncFilesystemAsync(fd: number): Promise<void> {
  using _permit = await calls.acquire();
  const result = await native().syncfs(fd);
  if (result < 0) throw systemError(-result, 'syncfs', `descriptor ${fd}`);
}
