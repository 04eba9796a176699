/**
 * Asynchronous file I/O on raw descriptors: the main thread must not wait for a disk.
 *
 * Data goes through node:fs (libuv's thread pool): it is the same pool as koffi's asynchronous
 * calls, takes typed arrays with offsets in place, and 64-bit positions. fallocate(2) has no place
 * in node:fs, see fallocate.ts. None of these opens or closes, so node:fs never thinks that it owns
 * the descriptor (see fd.ts).
 */
import { fdatasync, fsync, write } from 'node:fs';
import { ebbError, toEbbError } from '../base/errors.ts';
import { Errno } from '../base/errno.ts';
import { checkOffset, systemError } from './ffi.ts';
import { pwrite } from './io.ts';

/**
 * Writes all of `bytes` at `offset`, in as many steps as the kernel wants. Rejects with ENOSPC,
 * EDQUOT, EIO, ...; then any part may have been written. `bytes` must not change until it settles.
 */
export async function writeAllAt(fd: number, bytes: Uint8Array, offset: number): Promise<void> {
  checkOffset(offset, 'A file offset');
  let done = 0;
  while (done < bytes.byteLength) {
    const count = await writeAt(fd, bytes, done, offset + done);
    if (count === 0) throw ebbError('EIO', 'write stored nothing and gave no reason.');
    done += count;
  }
}

/**
 * The same at once, for what the page cache takes in microseconds: handing such a piece to the pool and hearing of it
 * costs several times the copy. Throws what `writeAllAt` rejects with.
 */
export function writeSmallAt(fd: number, bytes: Uint8Array, offset: number): void {
  for (let done = 0; done < bytes.byteLength;) {
    const count = pwrite(fd, bytes, offset + done, done);
    if (count === 0) throw ebbError('EIO', 'write stored nothing and gave no reason.');
    if (count < 0 && count !== -Errno.EINTR)
      throw systemError(-count, 'pwrite', `descriptor ${fd}`);
    if (count > 0) done += count;
  }
}

/**
 * fdatasync(2): data and what is needed to find it are on stable storage. Rejects with EIO, ENOSPC,
 * ...
 */
export function syncData(fd: number): Promise<void> {
  return settle((done) => fdatasync(fd, done));
}

/** fsync(2): `syncData` and all attributes; for directories, their entries. */
export function syncFile(fd: number): Promise<void> {
  return settle((done) => fsync(fd, done));
}

function writeAt(fd: number, bytes: Uint8Array, start: number, offset: number): Promise<number> {
  return new Promise((resolve, reject) => {
    write(fd, bytes, start, bytes.byteLength - start, offset, (error, count) => {
      if (error === null) resolve(count);
      else reject(toEbbError(error));
    });
  });
}

function settle(start: (done: (error: Error | null) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    start((error) => {
      if (error === null) resolve();
      else reject(toEbbError(error));
    });
  });
}
