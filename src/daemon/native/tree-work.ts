/**
 * What the control API has under way with the files of a tree. `ebb detach --recall` ends all of it before it takes the
 * marks off, and lets nothing begin: a stub that is placed then, or a file that is released, would become a file of
 * zeros.
 */
import { ebbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import { runAction } from '../control/action-runner.ts';
import type { ActionItem, ActionOptions } from '../control/action-runner.ts';
import type { Action } from '../control/handlers.ts';

export class TreeWork {
  #stop = new AbortController();
  readonly #running = new Set<Promise<unknown>>();

  /** As `runAction`. Throws EBUSY when the tree is being detached, or is to be while this runs. */
  act<Item extends ActionItem>(files: readonly Item[], options: ActionOptions<Item>): Action {
    return runAction(files, {
      ...options,
      signal: AbortSignal.any([options.signal, this.#stop.signal]),
      work: async (file, signal) => {
        const work = options.work(file, signal);
        this.#running.add(work);
        try {
          return await work;
        } finally {
          this.#running.delete(work);
        }
      },
    });
  }

  /** Throws EBUSY when the tree is being detached. */
  requireOpen(): void {
    if (this.#stop.signal.aborted) throw detaching();
  }

  /** Resolves when nothing is under way; until it is disposed nothing begins. Rejects with EBUSY when it is closed. */
  async close(): Promise<Disposable> {
    this.requireOpen();
    this.#stop.abort(detaching());
    await Promise.allSettled(this.#running);
    return {
      [Symbol.dispose]: () => {
        this.#stop = new AbortController();
      },
    };
  }
}

function detaching(): EbbError {
  return ebbError('EBUSY', 'the tree is being detached');
}
