/**
 * Waiters that could not be planned to their end yet: the queue was full, or they have as many flights as they may.
 * Thousands may wait for one file, so they are planned on for only when that can have changed, and of those who wait
 * for the same, one is tried for all.
 */
import type { ContentRecall } from './content-recall.ts';
import { intentsByRank } from './limits.ts';
import type { Planner } from './planner.ts';
import type { Waiter } from './waiter.ts';

export class Hungry {
  readonly #planner: Planner;
  readonly #waiters: Map<Waiter, ContentRecall> = new Map();
  #mayGoOn = false;

  constructor(planner: Planner) {
    this.#planner = planner;
  }

  /** Plans on for somebody, who is kept here unless that was all. */
  planOn(content: ContentRecall, waiter: Waiter): void {
    if (this.#planner.planWaiter(content, waiter)) this.#waiters.delete(waiter);
    else this.#waiters.set(waiter, content);
  }

  /** What was planned for him will not come. */
  add(content: ContentRecall, waiter: Waiter): void {
    this.#waiters.set(waiter, content);
  }

  delete(waiter: Waiter): void {
    this.#waiters.delete(waiter);
  }

  /** A flight has started, ended, or was given up: nothing else makes room. */
  moved(): void {
    this.#mayGoOn = true;
  }

  /** Plans on for all where something has moved since the last time, the most urgent first. */
  feed(): void {
    if (!this.#mayGoOn) return;
    this.#mayGoOn = false;
    for (const intent of intentsByRank) {
      let inVain: { readonly waiter: Waiter; readonly content: ContentRecall } | undefined;
      for (const [waiter, content] of this.#waiters) {
        if (!this.#planner.hasRoom(intent)) return;
        if (waiter.options.intent !== intent || waiter.settled) continue;
        if (content === inVain?.content && waiter.wantsAs(inVain.waiter)) continue;
        this.planOn(content, waiter);
        inVain = this.#waiters.has(waiter) ? { waiter, content } : undefined;
      }
    }
  }
}
