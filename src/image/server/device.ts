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

/** Waits for the next request; its length. undefined: the mount is gone or the connection was cut. */
export function readRequest(deviceFd: number, into: Uint8Array): number | undefined {
  for (;;) {
    try {
      return readSync(deviceFd, into, 0, into.length, null);
    } catch (error) {
      if (!isPassing(error)) return undefined;
    }
  }
}

/** The request was withdrawn before it was read, or nothing was. */
export function isPassing(error: unknown): boolean {
  const { errno } = toEbbError(error);
  return errno === Errno.ENOENT || errno === Errno.EINTR || errno === Errno.EAGAIN;
}

/** To be called after each request. Calls `onServing` once, when INIT has been answered. */
export function servingNotice(session: Session, onServing: () => void): () => void {
  let isServing = false;
  return () => {
    if (isServing || session.connection === undefined) return;
    isServing = true;
    onServing();
  };
}

/**
 * Serves until the mount is gone or the connection was cut. The descriptor blocks. `onServing`: once, when INIT has
 * been answered.
 */
export function serveDevice(deviceFd: number, session: Session, onServing: () => void): void {
  const { bytes } = session.request;
  const handled = servingNotice(session, onServing);
  for (;;) {
    const count = readRequest(deviceFd, bytes);
    if (count === undefined) return session.end();
    session.receive(count);
    handled();
  }
}
