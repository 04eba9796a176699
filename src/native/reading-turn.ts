/**
 * The event thread reads no permission events while main holds write leases. The kernel opens the file of an event
 * while that is read; a lease in the way would have to be waited for, which event descriptors must not do (guard.ts),
 * so whoever opens a file that is just being released would get EPERM. As it is, he waits until it is released or not.
 */

import { sharedWord } from './shared-words.ts';

const free = 0;
const reading = 1;
const leasing = 2;
type Taker = typeof reading | typeof leasing;

/** Who is waited for is a thread that reads, or main on a slow disk. After that it is better to go on. */
const waitsMax = 10;
const waitMs = 1_000;

export class ReadingTurn {
  readonly #word: Int32Array;
  #leases = 0;

  /** The same memory in both threads. */
  constructor(shared: SharedArrayBuffer) {
    this.#word = sharedWord(shared, 'turn');
  }

  /** For the event thread: runs `read` when main holds no lease. Blocks until then. */
  read(read: () => number): number {
    this.#take(reading);
    try {
      return read();
    } finally {
      this.#give(reading);
    }
  }

  /** For main: until all of them are disposed nothing is read. Blocks while the thread reads, which takes no time. */
  lease(): Disposable {
    if (this.#leases === 0) this.#take(leasing);
    this.#leases += 1;
    return {
      [Symbol.dispose]: () => {
        this.#leases -= 1;
        if (this.#leases === 0) this.#give(leasing);
      },
    };
  }

  #take(taker: Taker): void {
    for (let waits = 0; waits < waitsMax; waits += 1) {
      const other = Atomics.compareExchange(this.#word, 0, free, taker);
      if (other === free) return;
      Atomics.wait(this.#word, 0, other, waitMs);
    }
  }

  #give(taker: Taker): void {
    if (Atomics.compareExchange(this.#word, 0, taker, free) === taker)
      Atomics.notify(this.#word, 0);
  }
}
