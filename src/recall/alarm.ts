/** One timer for everything that becomes due: armed for the earliest, in terms of the injected clock. */
import type { Clock } from '../base/clock.ts';

/** Longest delay that setTimeout takes. */
const delayMaxMs = 0x7fffffff;

export class Alarm {
  readonly #clock: Clock;
  readonly #ring: () => void;
  #timer: NodeJS.Timeout | undefined;
  #atMs = Infinity;

  /** `ring` is called once per arming, at the armed time or (with a clock that was held) later. */
  constructor(clock: Clock, ring: () => void) {
    this.#clock = clock;
    this.#ring = ring;
  }

  /** Rings at `atMs` (monotonic) or earlier if it is armed for earlier. Infinity: never. */
  arm(atMs: number): void {
    if (atMs >= this.#atMs) return;
    this.disarm();
    this.#atMs = atMs;
    const delayMs = Math.min(delayMaxMs, Math.max(1, atMs - this.#clock.monotonicMs()));
    this.#timer = setTimeout(() => {
      this.#atMs = Infinity;
      this.#ring();
    }, delayMs);
  }

  disarm(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#atMs = Infinity;
  }
}
