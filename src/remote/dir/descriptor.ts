/** Open files of the origin: calls that may wait for a disk or a network run in the thread pool. */
import { closeSync, fstat, fstatSync, open } from 'node:fs';
import type { BigIntStats } from 'node:fs';
import { refreshAttributes } from '../../sys/stat.ts';

/** An owned file descriptor. */
export class Descriptor implements Disposable {
  readonly fd: number;
  #open = true;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** open(2) in the thread pool. */
  static open(path: Uint8Array, flags: number): Promise<Descriptor> {
    return new Promise((resolve, reject) => {
      open(Buffer.from(path), flags, (error, fd) => {
        if (error === null) resolve(new Descriptor(fd));
        else reject(error);
      });
    });
  }

  /** Takes over a descriptor that nobody else closes. */
  static own(fd: number): Descriptor {
    return new Descriptor(fd);
  }

  /** fstat(2) at once: for local file systems. */
  statNow(): BigIntStats {
    return fstatSync(this.fd, { bigint: true });
  }

  /** fstat(2) in the thread pool. */
  stat(): Promise<BigIntStats> {
    return new Promise((resolve, reject) => {
      fstat(this.fd, { bigint: true }, (error, stats) => {
        if (error === null) resolve(stats);
        else reject(error);
      });
    });
  }

  /** The same, and not what the kernel remembers of a network file system: no older than the call. */
  async statAnew(): Promise<BigIntStats> {
    await refreshAttributes(this.fd);
    return await this.stat();
  }

  /** `/proc/self/fd/N`: the open file itself, whatever became of its name. */
  get path(): string {
    return `/proc/self/fd/${this.fd}`;
  }

  /** The path of `name` in this directory. */
  entry(name: Uint8Array): Buffer {
    return Buffer.concat([Buffer.from(`${this.path}/`), name]);
  }

  /** At once: nothing was written through it, so there is nothing that close(2) could wait for. */
  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.fd);
  }
}
