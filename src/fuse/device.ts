/** /dev/fuse as a `Transport`: one descriptor that any number of threads share. */
import { Errno } from '../base/errno.ts';
import { pread, write } from '../sys/io.ts';
import type { Transport } from './transport.ts';

class DeviceTransport implements Transport {
  readonly #fileDescriptor: number;

  constructor(fileDescriptor: number) {
    this.#fileDescriptor = fileDescriptor;
  }

  send(bytes: Uint8Array, lengthBytes: number): number {
    for (;;) {
      const result = write(this.#fileDescriptor, bytes, 0, lengthBytes);
      if (result === lengthBytes) return 0;
      if (result >= 0) return Errno.EIO;
      if (result !== -Errno.EINTR) return -result;
    }
  }

  readFile(fileDescriptor: number, bytes: Uint8Array, lengthBytes: number, offset: number): number {
    let done = 0;
    while (done < lengthBytes) {
      const result = pread(fileDescriptor, bytes, offset + done, done, lengthBytes - done);
      if (result === -Errno.EINTR) continue;
      if (result < 0) return result;
      if (result === 0) break;
      done += result;
    }
    return done;
  }
}

/** The transport of an open /dev/fuse descriptor. Does not own it; each thread makes its own. */
export function deviceTransport(fileDescriptor: number): Transport {
  return new DeviceTransport(fileDescriptor);
}
