/** eventfd(2): wakes a thread that waits in poll(2), from any thread. */
import { Errno } from '../base/errno.ts';
import { OwnedFd } from './fd.ts';
import { bind, lazily, orThrow } from './ffi.ts';
import { read, write } from './io.ts';

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

const native = lazily(() => ({
  eventfd: bind<(initial: number, flags: number) => number>(
    'int eventfd(uint32_t initval, int flags)',
  ),
}));

const one = new Uint8Array(new BigUint64Array([1n]).buffer);
const counter = new Uint32Array(2);
const counterBytes = new Uint8Array(counter.buffer);

/** A counter that is readable while it is not 0. Non-blocking, close-on-exec. */
export class EventFd implements Disposable {
  readonly #owned: OwnedFd | undefined;
  readonly fd: number;

  private constructor(fd: number, owned: OwnedFd | undefined) {
    this.fd = fd;
    this.#owned = owned;
  }

  /** Throws EMFILE, ENFILE, ENOMEM. */
  static create(): EventFd {
    const fd = orThrow(native().eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), 'eventfd');
    return new EventFd(fd, new OwnedFd(fd));
  }

  /** For another thread that was told the number: uses it, never closes it. */
  static borrow(fd: number): EventFd {
    return new EventFd(fd, undefined);
  }

  /** Makes it readable. Any thread; never blocks. Returns 0 or -errno (hot). */
  signal(): number {
    // The number may mean another file by now.
    if (this.#owned?.isOpen === false) return -Errno.EBADF;
    const result = write(this.fd, one);
    // EAGAIN: the counter is at its maximum, so it is readable anyway.
    return result >= 0 || result === -Errno.EAGAIN ? 0 : result;
  }

  /**
   * Takes all signals: how many there were since the last time (0: none; exact below 2^32). -errno
   * on failure (hot).
   */
  drain(): number {
    const result = read(this.fd, counterBytes);
    if (result === -Errno.EAGAIN) return 0;
    return result < 0 ? result : (counter[0] as number);
  }

  [Symbol.dispose](): void {
    this.#owned?.close();
  }
}
