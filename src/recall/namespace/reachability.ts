/**
 * Whom it makes sense to ask now, by a clock that nobody sets.
 *
 * Where nobody answered, nobody is asked for a moment: everybody would only wait. Where the other side answered that
 * it cannot serve one object now (503, 429, a broken script), only that object rests, since one of them must not
 * make the names of all others stale; unless several objects in a row say so, which is a server in trouble.
 */
import { BoundedMap } from '../../base/bounded-map.ts';
import type { Clock } from '../../base/clock.ts';
import type { EbbError } from '../../base/errors.ts';

/** So long known facts are served without asking again. */
const restMs = 5_000;
/**
 * The longest rest, whatever Retry-After says: a server that comes back sooner than it said is noticed, and one
 * question in half a minute burdens nobody.
 */
export const restMaxMs = 30_000;
/** Failed answers about so many different objects, none of them served meanwhile, count as those of the server. */
const failedObjectsMax = 3;
const restingObjectsMax = 10_000;

/** True when the error says nothing about the object, only that nobody could be asked. */
export function isUnreachable(error: EbbError): boolean {
  return error.retryable || error.code === 'EHOSTUNREACH' || error.code === 'ETIMEDOUT';
}

export class Reachability {
  #unreachableUntilMs = 0;
  readonly #restingUntilMs = new BoundedMap<number, number>(restingObjectsMax);
  readonly #failedSinceAnswer = new Set<number>();
  readonly #clock: Pick<Clock, 'monotonicMs'>;

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock;
  }

  /** False while nobody is asked anything that is not asked by force. */
  isReachable(): boolean {
    return this.#clock.monotonicMs() >= this.#unreachableUntilMs;
  }

  mayAsk(nodeId: number): boolean {
    const restingUntilMs = this.#restingUntilMs.get(nodeId) ?? 0;
    return this.isReachable() && this.#clock.monotonicMs() >= restingUntilMs;
  }

  /** The remote answered about this node. */
  answered(nodeId: number): void {
    this.#unreachableUntilMs = 0;
    this.#restingUntilMs.delete(nodeId);
    this.#failedSinceAnswer.clear();
  }

  /** A failure that says nothing about the object itself. */
  failed(nodeId: number, error: EbbError): void {
    const restsMs = Math.min(restMaxMs, Math.max(restMs, error.retryAfterMs ?? 0));
    const untilMs = this.#clock.monotonicMs() + restsMs;
    if (error.answered) {
      this.#restingUntilMs.set(nodeId, untilMs);
      this.#failedSinceAnswer.add(nodeId);
      if (this.#failedSinceAnswer.size < failedObjectsMax) return;
      this.#failedSinceAnswer.clear();
    }
    this.#unreachableUntilMs = untilMs;
  }
}
