/** Synchronous work that comes in one turn of the event loop, done together at its end. */

/** So much is done together; the rest in the next turn. */
const batchMax = 256;

interface Item {
  readonly work: () => unknown;
  readonly resolve: (value: unknown) => void;
  readonly reject: (reason: unknown) => void;
}

export class TurnBatch {
  readonly #together: (runAll: () => void) => void;
  #waiting: Item[] = [];

  /** `together` runs its argument once; when it throws, everything in it has failed. */
  constructor(together: (runAll: () => void) => void) {
    this.#together = together;
  }

  /** Resolves with what `work` returned when all that is done with it is done; rejects with what it threw. */
  run<Result>(work: () => Result): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      this.#waiting.push({ work, resolve: resolve as (value: unknown) => void, reject });
      if (this.#waiting.length === 1) setImmediate(() => this.#runAll());
    });
  }

  #runAll(): void {
    const items = this.#waiting.slice(0, batchMax);
    this.#waiting = this.#waiting.slice(batchMax);
    if (this.#waiting.length > 0) setImmediate(() => this.#runAll());
    const settles: (() => void)[] = [];
    try {
      this.#together(() => {
        for (const { work, resolve, reject } of items) {
          try {
            const value = work();
            settles.push(() => resolve(value));
          } catch (error) {
            settles.push(() => reject(error));
          }
        }
      });
    } catch (error) {
      for (const { reject } of items) reject(error);
      return;
    }
    for (const settle of settles) settle();
  }
}
