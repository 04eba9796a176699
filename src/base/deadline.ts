/** Time limits as AbortSignals, without timers or listeners that stay behind. */
import { abortError, ebbError } from './errors.ts';

/** setTimeout's limit; Node fires at once above it. About 24.8 days. */
const timerMaxMs = 2 ** 31 - 1;

/** An AbortSignal that owns a timer; dispose it (`using`) when the work is done. */
export interface Deadline extends Disposable {
  readonly signal: AbortSignal;
}

/**
 * A signal that fires when `parent` fires (with the parent's reason) or after `timeoutMs` (with an
 * `EbbError` ETIMEDOUT that says `message`), whichever is first. Undefined or infinite: no time
 * limit. Not while disposed: afterwards the signal never fires.
 */
export function deadline(
  timeoutMs: number | undefined,
  parent?: AbortSignal,
  message = 'The time limit is over.',
): Deadline {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const stop = (): void => {
    clearTimeout(timer);
    parent?.removeEventListener('abort', onParent);
  };
  const onParent = (): void => {
    stop();
    controller.abort(parent?.reason);
  };
  if (parent?.aborted === true) {
    controller.abort(parent.reason);
    return { signal: controller.signal, [Symbol.dispose]: stop };
  }
  parent?.addEventListener('abort', onParent, { once: true });
  if (timeoutMs !== undefined && timeoutMs !== Infinity) {
    const onTimeout = (): void => {
      stop();
      controller.abort(ebbError('ETIMEDOUT', message));
    };
    timer = setTimeout(onTimeout, Math.min(Math.max(timeoutMs, 0), timerMaxMs));
  }
  return { signal: controller.signal, [Symbol.dispose]: stop };
}

/**
 * Resolves after `durationMs` (at most 24.8 days), or rejects with the signal's reason as soon as
 * it fires. Leaves neither timer nor listener behind.
 */
export function sleep(durationMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(abortError(signal));
      return;
    }
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(abortError(signal));
    };
    const onTimer = (): void => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    };
    const timer = setTimeout(onTimer, Math.min(Math.max(durationMs, 0), timerMaxMs));
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/**
 * Resolves when `work` has, or after `maxMs` (at most 24.8 days), whichever is first; rejects as `work` does until
 * then, and what it rejects with afterwards is nobody's. Leaves no timer behind.
 */
export async function endedWithin(work: Promise<unknown>, maxMs: number): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, Math.min(Math.max(maxMs, 0), timerMaxMs));
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
