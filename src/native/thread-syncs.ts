/** Waiting until the event thread has sent all that it had to tell when it was asked. */
import { ebbError } from '../base/errors.ts';
import type { ToThread } from './messages.ts';

export class ThreadSyncs {
  readonly #post: (message: ToThread) => void;
  readonly #waiting = new Map<number, () => void>();
  #next = 1;
  #closed = false;

  constructor(post: (message: ToThread) => void) {
    this.#post = post;
  }

  /** Rejects with EINTR when closed. */
  ask(): Promise<void> {
    if (this.#closed) return Promise.reject(ebbError('EINTR', 'Ebb is stopping.'));
    const { promise, resolve } = Promise.withResolvers<void>();
    const id = this.#next++;
    this.#waiting.set(id, resolve);
    this.#post({ kind: 'sync', id });
    return promise;
  }

  /** The thread says so. */
  done(id: number): void {
    this.#waiting.get(id)?.();
    this.#waiting.delete(id);
  }

  /** Who waits must not wait for a thread that may be gone. */
  close(): void {
    this.#closed = true;
    for (const resolve of this.#waiting.values()) resolve();
    this.#waiting.clear();
  }
}
