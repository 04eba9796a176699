/** How fast a daemon that dies is started again, for trees and mounts. Pure. */

/** After lives in vain. The first time at once: readers wait for it. After the last pause, that pause for ever. */
const pausesMs = [0, 250, 1_000, 4_000, 15_000, 60_000] as const;
/** Deaths of daemons that had served, in a row, that are made good at once: who kills from outside may go on. */
const atOnceMax = 20;
/** So often one more of them is. Should something kill each daemon, then a start in this time is what that costs. */
const oneMoreEveryMs = 1_000;

/**
 * What became of a daemon: it could not start; it took requests and died of itself before it was ready, which the next
 * one may do, too; or it served, or was killed by somebody, who may go on.
 */
export type DaemonLife = 'failed' | 'crashed' | 'served';

export class RestartPauses {
  #failures = 0;
  /** Failed or crashed, in a row. */
  #vain = 0;
  #atOnce = atOnceMax;
  #countedAtMs = 0;

  /** How long to wait before the next start, ms. `nowMs`: a clock that never goes back. */
  next(life: DaemonLife, nowMs: number): number {
    if (life !== 'served') {
      const pauseMs = pausesMs[Math.min(this.#vain, pausesMs.length - 1)] ?? 0;
      this.#vain += 1;
      this.#failures = life === 'failed' ? this.#failures + 1 : 0;
      return pauseMs;
    }
    // One that served can start: what failed before it, and who was killed before he could say so, count no longer.
    this.#failures = 0;
    this.#vain = 0;
    const earned = (nowMs - this.#countedAtMs) / oneMoreEveryMs;
    this.#countedAtMs = nowMs;
    // Below zero: what is earned during the pause has been spent on the start after it.
    this.#atOnce = Math.min(atOnceMax, this.#atOnce + earned) - 1;
    return this.#atOnce < 0 ? oneMoreEveryMs : 0;
  }

  /** Starts in a row that failed. */
  get failures(): number {
    return this.#failures;
  }

  /** Somebody asked for it: at once again. */
  reset(): void {
    this.#failures = 0;
    this.#vain = 0;
    this.#atOnce = atOnceMax;
  }
}
