/** Leaving work behind when the caller gave up. Only for work that writes into nobody's memory. */

/**
 * Settles like `work`, or rejects with the signal's reason as soon as it fires; `work` then ends on
 * its own and its result is dropped (it must own and free what it opened).
 */
export function abandonOnAbort<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    if (signal.aborted) {
      work.catch(() => {});
      onAbort();
      return;
    }
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
