/**
 * A timer for giving up. What was waited for may have come while this process was stopped, or had no processor, or was
 * busy for long: it has not been looked at then, and timers run before that is done. So time counts in steps, each no
 * longer than it was to be, and after one that was late there is a long one, some times over.
 */

/** Long enough to take in what has come. */
const stepMaxMs = 5_000;
/** Later than a timer is on a machine that is only busy. */
const lateMs = 500;
/** So often the end is put off: who answers thousands may be late for minutes, and is not to wait for ever. */
const postponedMax = 12;

export class AttendedTimer implements Disposable {
  readonly #delayMs: number;
  readonly #unref: boolean;
  readonly #run: () => void;
  /** After the step that is under way. */
  #restMs = 0;
  #dueMs = 0;
  #postponed = 0;
  #timer: NodeJS.Timeout | undefined;

  /** Runs `run` once, in `delayMs` or later, unless it is disposed. Keeps no process alive when `unref` is true. */
  constructor(delayMs: number, run: () => void, { unref = false } = {}) {
    this.#delayMs = delayMs;
    this.#unref = unref;
    this.#run = run;
    this.#wait(delayMs);
  }

  /** All of the delay begins anew, unless it is disposed. */
  renew(): void {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#postponed = 0;
    this.#wait(this.#delayMs);
  }

  /** How long it will be at least; 0 or less: it is due. */
  get leftMs(): number {
    return this.#restMs + this.#dueMs - performance.now();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #wait(delayMs: number): void {
    const stepMs = Math.min(delayMs, stepMaxMs);
    this.#restMs = delayMs - stepMs;
    this.#dueMs = performance.now() + stepMs;
    this.#timer = setTimeout(() => {
      const isLate = performance.now() - this.#dueMs > lateMs;
      if (isLate && this.#restMs < stepMaxMs && this.#postponed < postponedMax) {
        this.#postponed += 1;
        this.#wait(stepMaxMs);
      } else if (this.#restMs > 0) this.#wait(this.#restMs);
      else this.#run();
    }, stepMs);
    if (this.#unref) this.#timer.unref();
  }
}
