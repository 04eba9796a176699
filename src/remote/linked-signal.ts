/**
 * One signal for several sources, released when the call is over. `AbortSignal.any` does the same, but leaves an entry
 * in every long-lived source until the garbage collector comes round: too dear for each of a million requests.
 */

export interface LinkedSignal extends Disposable {
  /** Fires with the reason of the first source that fires; never after disposal. */
  readonly signal: AbortSignal;
}

export function linkSignals(...sources: readonly AbortSignal[]): LinkedSignal {
  const controller = new AbortController();
  const release = (): void => {
    for (const source of sources) source.removeEventListener('abort', onAbort);
  };
  const onAbort = (): void => {
    release();
    controller.abort(sources.find((source) => source.aborted)?.reason);
  };
  for (const source of sources) source.addEventListener('abort', onAbort, { once: true });
  if (sources.some((source) => source.aborted)) onAbort();
  return { signal: controller.signal, [Symbol.dispose]: release };
}
