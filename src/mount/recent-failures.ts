/**
 * READs that have just failed after a long wait. Pure: the time is an argument.
 *
 * When a READ fails, the kernel asks again for what the program wanted: read(2) for the page after the read-ahead, a
 * page fault even twice (filemap_fault: read-ahead, the page, the page once more). Each of them would wait for the
 * whole deadline anew, so for a moment they get the answer of the first. Failures that came quickly are not
 * remembered: asking again costs nothing, and the fault may be over.
 */
import { BoundedMap } from '../base/bounded-map.ts';
import type { EbbError } from '../base/errors.ts';

/** The kernel repeats itself within microseconds; this is for a machine that is busy. */
export const failureRestMs = 1_000;
/** Only what took at least this long is worth remembering. */
export const slowFailureMs = 1_000;
const failuresMax = 1_000;

interface Failure {
  readonly offsetBytes: number;
  readonly endBytes: number;
  readonly error: EbbError;
  readonly untilMs: number;
}

export class RecentFailures {
  /** The last one of each file. */
  readonly #failures = new BoundedMap<number, Failure>(failuresMax);

  /** A READ failed. Times are monotonic. */
  add(
    nodeId: number,
    range: { readonly offsetBytes: number; readonly sizeBytes: number },
    error: EbbError,
    { startedAtMs, nowMs }: { readonly startedAtMs: number; readonly nowMs: number },
  ): void {
    if (nowMs - startedAtMs < slowFailureMs) return;
    const { offsetBytes, sizeBytes } = range;
    const untilMs = nowMs + failureRestMs;
    this.#failures.set(nodeId, { offsetBytes, endBytes: offsetBytes + sizeBytes, error, untilMs });
  }

  /** Why this READ fails, when one that covered it just did. */
  find(
    nodeId: number,
    range: { readonly offsetBytes: number; readonly sizeBytes: number },
    nowMs: number,
  ): EbbError | undefined {
    const failure = this.#failures.get(nodeId);
    if (failure === undefined) return undefined;
    if (nowMs >= failure.untilMs) {
      this.#failures.delete(nodeId);
      return undefined;
    }
    const { offsetBytes, sizeBytes } = range;
    const covered =
      offsetBytes >= failure.offsetBytes && offsetBytes + sizeBytes <= failure.endBytes;
    return covered ? failure.error : undefined;
  }
}
