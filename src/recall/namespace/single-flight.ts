/** One piece of work per key at a time; everybody who asks meanwhile waits for the same result. */
import { ebbError } from '../../base/errors.ts';

/** Rejects with EINTR when the signal fires first; the work itself goes on for the others. */
export function interruptible<Value>(work: Promise<Value>, signal?: AbortSignal): Promise<Value> {
  if (signal === undefined) return work;
  return new Promise<Value>((resolve, reject) => {
    const interrupted = (): void => reject(ebbError('EINTR', 'the requester gave up'));
    if (signal.aborted) {
      interrupted();
      work.catch(() => undefined);
      return;
    }
    signal.addEventListener('abort', interrupted, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', interrupted));
  });
}

export class SingleFlight<Key, Value> {
  readonly #flights = new Map<Key, Promise<Value>>();

  get size(): number {
    return this.#flights.size;
  }

  has(key: Key): boolean {
    return this.#flights.has(key);
  }

  /** Joins the flight of `key` or starts one. `signal` only ends this caller's waiting. */
  run(key: Key, start: () => Promise<Value>, signal?: AbortSignal): Promise<Value> {
    let flight = this.#flights.get(key);
    if (flight === undefined) {
      const started = start().finally(() => {
        if (this.#flights.get(key) === started) this.#flights.delete(key);
      });
      flight = started;
      this.#flights.set(key, flight);
    }
    return interruptible(flight, signal);
  }

  /** Resolves when what is under way for `key` now has ended, whatever came of it; rejects with EINTR as `run`. */
  async passed(key: Key, signal?: AbortSignal): Promise<void> {
    const flight = this.#flights.get(key);
    if (flight === undefined) return;
    const ended = flight.then(
      () => undefined,
      () => undefined,
    );
    await interruptible(ended, signal);
  }

  /** Resolves when nothing is under way. */
  async settled(): Promise<void> {
    while (this.#flights.size > 0) await Promise.allSettled(this.#flights.values());
  }
}
