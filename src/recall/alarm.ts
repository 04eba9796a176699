/** One timer for everything that becomes due: armed for the earliest, in terms of the injected clock. */
import { AttendedTimer } from '../base/attended-timer.ts';
import type { Clock } from '../base/clock.ts';

export class Alarm {
  readonly #clock: Clock;
  readonly #ring: () => void;
  #timer: AttendedTimer | undefined;

  /** `ring` is called once per arming, at the armed time or (with a clock or a process that was held) later. */
  constructor(clock: Clock, ring: () => void) {
    this.#clock = clock;
    this.#ring = ring;
  }

  /** Rings at `atMs` (monotonic) or earlier if it is armed for earlier. Infinity: never. */
  arm(atMs: number): void {
    if (atMs === Infinity) return;
    const delayMs = Math.max(1, atMs - this.#clock.monotonicMs());
    if (this.#timer !== undefined && delayMs >= this.#timer.leftMs) return;
    this.disarm();
    this.#timer = new AttendedTimer(delayMs, () => {
      this.#timer = undefined;
      this.#ring();
    });
  }

  disarm(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
  }
}
