/**
 * A timer for giving up. What was waited for may have come while this process was stopped, or had no processor, or was
 * busy for long: it has not been looked at then, and timers run before that is done. So time counts in steps, each no
 * longer than it was to be, and when the last one was late there is one more.
 */

/** Long enough to take in what has come. */
const stepMaxMs = 5_000;
/** Later than a timer is on a machine that is only busy. */
const lateMs = 500;

export class AttendedTimer implements Disposable {
  readonly #delayMs: number;
  readonly #unref: boolean;
  readonly #run: () => void;
  /** After the step that is under way. */
  #restMs = 0;
  #dueMs = 0;
  #timer: NodeJS.Timeout | undefined;

  /** Runs `run` once, in `delayMs` or later, unless it is disposed. Keeps no process alive when `unref` is true. */
  constructor(delayMs: number, run: () => void, { unref = false } = {}) {
    this.#delayMs = delayMs;
    this.#unref = unref;
    this.#run = run;
    this.#wait(delayMs, false);
  }

  /** All of the delay begins anew. */
  renew(): void {
    clearTimeout(this.#timer);
    this.#wait(this.#delayMs, false);
  }

  /** How long it will be at least; 0 or less: it is due. */
  get leftMs(): number {
    return this.#restMs + this.#dueMs - performance.now();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #wait(delayMs: number, isLast: boolean): void {
    const stepMs = Math.min(delayMs, stepMaxMs);
    this.#restMs = delayMs - stepMs;
    this.#dueMs = performance.now() + stepMs;
    this.#timer = setTimeout(() => {
      if (this.#restMs > 0) this.#wait(this.#restMs, false);
      else if (!isLast && performance.now() - this.#dueMs > lateMs) this.#wait(stepMaxMs, true);
      else this.#run();
    }, stepMs);
    if (this.#unref) this.#timer.unref();
  }
}
