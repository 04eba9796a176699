/**
 * /dev/fuse with node:fs alone: the server has no foreign function library. One thread that blocks in read(2); the end
 * of the mount, or its own death, ends it.
 */
import { readSync, writeSync } from 'node:fs';
import { Errno } from '../../base/errno.ts';
import { toEbbError } from '../../base/errors.ts';
import type { Session } from '../../fuse/session.ts';
import type { Transport } from '../../fuse/transport.ts';

class PlainTransport implements Transport {
  readonly #deviceFd: number;

  constructor(deviceFd: number) {
    this.#deviceFd = deviceFd;
  }

  send(bytes: Uint8Array, lengthBytes: number): number {
    for (;;) {
      try {
        return writeSync(this.#deviceFd, bytes, 0, lengthBytes) === lengthBytes ? 0 : Errno.EIO;
      } catch (error) {
        const { errno } = toEbbError(error);
        if (errno !== Errno.EINTR) return errno;
      }
    }
  }

  readFile(fileDescriptor: number, bytes: Uint8Array, lengthBytes: number, offset: number): number {
    let done = 0;
    while (done < lengthBytes) {
      try {
        const count = readSync(fileDescriptor, bytes, done, lengthBytes - done, offset + done);
        if (count === 0) break;
        done += count;
      } catch (error) {
        const { errno } = toEbbError(error);
        if (errno !== Errno.EINTR) return -errno;
      }
    }
    return done;
  }
}

export function plainTransport(deviceFd: number): Transport {
  return new PlainTransport(deviceFd);
}

/**
 * Serves until the mount is gone or the connection was cut. The descriptor blocks. `onServing`: once, when INIT has
 * been answered.
 */
export function serveDevice(
  deviceFd: number,
  session: Session,
  onServing: () => void,
): 'unmounted' | 'aborted' {
  const { bytes } = session.request;
  let isServing = false;
  for (;;) {
    let count: number;
    try {
      count = readSync(deviceFd, bytes, 0, bytes.length, null);
    } catch (error) {
      const { errno } = toEbbError(error);
      // The request was withdrawn before it was read.
      if (errno === Errno.ENOENT || errno === Errno.EINTR || errno === Errno.EAGAIN) continue;
      session.end();
      return errno === Errno.ENODEV ? 'unmounted' : 'aborted';
    }
    session.receive(count);
    if (isServing || session.connection === undefined) continue;
    isServing = true;
    onServing();
  }
}
