/** How long to wait so that a rate is kept on average. Pure: the time is an argument. */
import { assert } from '../base/assert.ts';

/** Unused time up to this length may be made up for. */
const burstMs = 100;

export class TokenBucket {
  readonly #bytesPerMs: number;
  /** When all that was taken so far is paid for, on the caller's monotonic scale. */
  #paidAtMs = -Infinity;

  /** 0 < bytesPerSecond. */
  constructor(bytesPerSecond: number) {
    assert(bytesPerSecond > 0, 'a rate is positive');
    this.#bytesPerMs = bytesPerSecond / 1000;
  }

  /**
   * Takes `countBytes`, even more than there are, and says for how many ms to stop taking. Callers
   * queue up fairly.
   */
  take(countBytes: number, monotonicMs: number): number {
    this.#paidAtMs =
      Math.max(this.#paidAtMs, monotonicMs - burstMs) + countBytes / this.#bytesPerMs;
    return Math.max(0, this.#paidAtMs - monotonicMs);
  }
}
