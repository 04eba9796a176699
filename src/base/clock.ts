/** Time as an argument: logic asks a `Clock`, so that tests and the simulator own it. */

export interface Clock {
  /** Milliseconds since 1970; may jump when somebody sets the time. For what is stored or shown. */
  nowMs(): number;
  /** Milliseconds since an arbitrary start; never goes back. For deadlines, rates and ages. */
  monotonicMs(): number;
}

export const systemClock: Clock = Object.freeze({
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
});

/** A clock that moves only when told. For tests. */
export class ManualClock implements Clock {
  #nowMs: number;
  #monotonicMs = 0;

  /** Starts at `nowMs` since 1970 and 0 on the monotonic scale. */
  constructor(nowMs = 1_700_000_000_000) {
    this.#nowMs = nowMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#monotonicMs;
  }

  /** Lets time pass: both scales. 0 <= durationMs. */
  advance(durationMs: number): void {
    if (!(durationMs >= 0)) throw new RangeError(`time cannot go back by ${durationMs} ms`);
    this.#nowMs += durationMs;
    this.#monotonicMs += durationMs;
  }

  /** Somebody sets the wall clock; the monotonic scale is not affected. */
  setWallClock(nowMs: number): void {
    this.#nowMs = nowMs;
  }
}
