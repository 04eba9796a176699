/** Bounded concurrency: so many at once, the urgent first, a bounded number waiting. */
import { assert } from './assert.ts';
import { abortError, ebbError } from './errors.ts';

export interface SemaphoreOptions {
  /** How many may hold a permit at the same time. 1 <= permits. */
  readonly permits: number;
  /** How many may wait for one; one more is refused with EBUSY. 0 <= waitersMax. */
  readonly waitersMax: number;
}

export interface AcquireOptions {
  /** Smaller is more urgent; equal ones are served in the order of their calls. Default 0. */
  readonly priority?: number;
  /** Gives up waiting: rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** Disposing (any number of times) gives the permit back. */
export type Permit = Disposable;

interface Waiter {
  readonly priority: number;
  readonly grant: () => void;
}

export class Semaphore {
  readonly #waitersMax: number;
  #free: number;
  /** Most urgent last, so that the next one is popped. */
  readonly #waiters: Waiter[] = [];

  constructor({ permits, waitersMax }: SemaphoreOptions) {
    assert(Number.isSafeInteger(permits) && permits >= 1, 'a semaphore has at least one permit');
    assert(Number.isSafeInteger(waitersMax) && waitersMax >= 0, 'waitersMax is a count');
    this.#free = permits;
    this.#waitersMax = waitersMax;
  }

  /** Permits that nobody holds. */
  get free(): number {
    return this.#free;
  }

  /** Calls of `acquire` that wait. */
  get waiting(): number {
    return this.#waiters.length;
  }

  /** A permit if one is free now and nobody waits. */
  tryAcquire(): Permit | undefined {
    if (this.#free === 0) return undefined;
    this.#free -= 1;
    return this.#permit();
  }

  /**
   * Waits for a permit. Rejects with EBUSY (retryable) when too many wait already, or with the
   * reason of `signal`; a permit is never lost when the signal fires at the same time.
   */
  acquire({ priority = 0, signal }: AcquireOptions = {}): Promise<Permit> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(abortError(signal));
        return;
      }
      const permit = this.tryAcquire();
      if (permit !== undefined) {
        resolve(permit);
        return;
      }
      if (this.#waiters.length >= this.#waitersMax) {
        reject(ebbError('EBUSY', `More than ${this.#waitersMax} requests wait already.`));
        return;
      }
      const onAbort = (): void => {
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
        reject(abortError(signal));
      };
      const grant = (): void => {
        signal?.removeEventListener('abort', onAbort);
        resolve(this.#permit());
      };
      const waiter: Waiter = { priority, grant };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiters.splice(this.#position(priority), 0, waiter);
    });
  }

  /** Behind (that is, before in the array) all that are as urgent or more. */
  #position(priority: number): number {
    let low = 0;
    let high = this.#waiters.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#waiters[middle] as Waiter).priority > priority) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #permit(): Permit {
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        // Passed on directly, so that nobody who comes later overtakes.
        const next = this.#waiters.pop();
        if (next === undefined) this.#free += 1;
        else next.grant();
      },
    };
  }
}
