/** Whole messages over a blocking socket between two processes of an image: read(2) and write(2) may do less. */
import { readSync, writeSync } from '../base/node-fs.ts';

/** Throws EPIPE when the other end has gone. */
export function writeAll(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done, bytes.length - done);
}

/** Fills `bytes`; false: the other end has gone before. */
export function readExactly(fd: number, bytes: Uint8Array): boolean {
  for (let done = 0; done < bytes.length;) {
    const more = readSync(fd, bytes, done, bytes.length - done, null);
    if (more === 0) return false;
    done += more;
  }
  return true;
}
