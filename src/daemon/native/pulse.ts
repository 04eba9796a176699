/**
 * Says to the watchdog (src/supervisor/watchdog.ts) that both threads of a tree's daemon get on.
 *
 * Neither has to come to an end for that. The kernel wakes all who wait with each answer, so thousands who wait for one
 * file are answered in minutes: in one turn of main's event loop, or between two looks of the event thread at what main
 * has sent. So main also looks as it goes along (`step`), and what it looks at is whether the thread has done anything
 * since it looked last.
 */

export interface PulseOptions {
  readonly everyMs: number;
  /** Another number than last time: the event thread has done something. */
  readonly threadSteps: () => number;
  /** Has the thread do something, if only to find that there is nothing to do. */
  readonly wakeThread: () => void;
  readonly alive: () => void;
}

export class Pulse {
  readonly #options: PulseOptions;
  #timer: NodeJS.Timeout | undefined;
  #lookedAtMs = 0;
  #stepsSeen = 0;

  constructor(options: PulseOptions) {
    this.#options = options;
  }

  /** It is watched from now on. Returns what ends it. */
  start(nowMs = performance.now()): () => void {
    const { everyMs, alive, threadSteps, wakeThread } = this.#options;
    this.#lookedAtMs = nowMs;
    this.#stepsSeen = threadSteps();
    alive();
    wakeThread();
    const timer = setInterval(() => this.#look(performance.now()), everyMs);
    this.#timer = timer;
    return () => {
      clearInterval(timer);
      this.#timer = undefined;
    };
  }

  /** Main has done something: its timer may be a long way off. Hot. */
  step(nowMs = performance.now()): void {
    if (this.#timer === undefined || nowMs - this.#lookedAtMs < this.#options.everyMs) return;
    this.#look(nowMs);
  }

  #look(nowMs: number): void {
    const { alive, threadSteps, wakeThread } = this.#options;
    const steps = threadSteps();
    if (steps !== this.#stepsSeen) alive();
    this.#stepsSeen = steps;
    this.#lookedAtMs = nowMs;
    wakeThread();
  }
}
