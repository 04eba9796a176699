/** How fast a daemon that dies is started again, for trees and mounts. Pure. */

/** The first time at once: readers wait for it. After the last pause, that pause again and again. */
const pausesMs = [0, 250, 1_000, 4_000, 15_000, 60_000] as const;
/**
 * A daemon that served for so long did not die of its start. Should something that a reader does kill each one, then
 * one start in a second is what that costs.
 */
const servedMs = 1_000;
/** Longest pause after one that served at all: readers wait, and each gets his bytes or an errno within 10 s. */
const pauseAfterServingMaxMs = 1_000;
const cappedAt = pausesMs.indexOf(pauseAfterServingMaxMs);

export class RestartPauses {
  #failures = 0;

  /** How long to wait before the next start; `livedMs`: how long the one that died now had served, 0: it never did. */
  next(livedMs: number): number {
    if (livedMs >= servedMs) this.#failures = 0;
    // One that served can start: what failed before it, and who was killed before he could say so, count no longer.
    else if (livedMs > 0) this.#failures = Math.min(this.#failures, cappedAt);
    const pauseMs = pausesMs[Math.min(this.#failures, pausesMs.length - 1)] ?? 0;
    if (livedMs > 0 && pauseMs >= pauseAfterServingMaxMs) return pauseAfterServingMaxMs;
    this.#failures += 1;
    return pauseMs;
  }

  /** Starts in a row that failed, and deaths soon after a start. */
  get failures(): number {
    return this.#failures;
  }

  /** Somebody asked for it: at once again. */
  reset(): void {
    this.#failures = 0;
  }
}
