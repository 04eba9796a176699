/**
 * poll(2) over a fixed set of descriptors. The pollfd array lives as long as the object: waiting
 * allocates nothing. Put a stop eventfd into every set that waits without a time limit.
 */
import { assert } from '../base/assert.ts';
import { bind, lazily, orErrno } from './ffi.ts';

export const PollEvent = {
  in: 0x001,
  pri: 0x002,
  out: 0x004,
  /** The three below are always reported, asked for or not. */
  err: 0x008,
  hup: 0x010,
  nval: 0x020,
} as const;

const native = lazily(() => ({
  poll: bind<(fds: Uint8Array, count: number, timeoutMs: number) => number>(
    'int poll(void *fds, unsigned long nfds, int timeout)',
  ),
}));

export interface PollEntry {
  /** Negative: skipped. */
  readonly fd: number;
  /** `PollEvent` bits to wait for. */
  readonly events: number;
}

/** struct pollfd { int fd; short events; short revents; }, 8 bytes. One thread at a time. */
export class PollSet {
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #halves: Int16Array;
  readonly #count: number;

  constructor(entries: readonly PollEntry[]) {
    this.#count = entries.length;
    const memory = new ArrayBuffer(Math.max(1, entries.length) * 8);
    this.#bytes = new Uint8Array(memory);
    this.#words = new Int32Array(memory);
    this.#halves = new Int16Array(memory);
    for (const [index, { fd, events }] of entries.entries()) this.set(index, fd, events);
  }

  /** Changes an entry; a negative `fd` switches it off. */
  set(index: number, fd: number, events: number): void {
    assert(index >= 0 && index < this.#count, 'the poll entry exists');
    this.#words[index * 2] = fd;
    this.#halves[index * 4 + 2] = events;
    this.#halves[index * 4 + 3] = 0;
  }

  /**
   * Waits until an entry is ready or `timeoutMs` is over (-1: no limit; 0: just looks; at most
   * 2^31-1). Returns how many entries are ready (0: time over), or -errno: -EINTR after a signal.
   * Blocks the thread. Hot.
   */
  wait(timeoutMs: number): number {
    return orErrno(native().poll(this.#bytes, this.#count, timeoutMs));
  }

  /**
   * `PollEvent` bits that the last `wait` found; 0: not ready. A closed descriptor shows `nval`.
   */
  ready(index: number): number {
    return this.#halves[index * 4 + 3] ?? 0;
  }
}
