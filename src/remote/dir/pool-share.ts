/**
 * What a directory remote may have of libuv's thread pool. A call on a file system that has stopped to answer (a dead
 * NFS server, a FUSE program that hangs) keeps its thread until that file system goes on or is given up. All of this
 * process would wait for it (other files, the state's own syncs, names of hosts), were there no threads left.
 */
import { Semaphore } from '../../base/semaphore.ts';
import type { Permit } from '../../base/semaphore.ts';

/** libuv's own number of threads, and the most that it makes. */
const poolThreadsDefault = 4;
const poolThreadsMax = 1024;
/** Requests that may wait for their turn; one more is refused with EBUSY (retryable). */
const waitingMax = 65_536;

/** Three quarters of the pool, at least one. `poolSize`: UV_THREADPOOL_SIZE; libuv takes what is no number for 1. */
export function threadsOfRemote(poolSize: string | undefined): number {
  const asked = poolSize === undefined ? poolThreadsDefault : Number.parseInt(poolSize, 10) || 0;
  const threads = Math.min(poolThreadsMax, Math.max(1, asked));
  return Math.max(1, Math.floor((threads * 3) / 4));
}

export class PoolShare {
  readonly #threads = new Semaphore({
    permits: threadsOfRemote(process.env['UV_THREADPOOL_SIZE']),
    waitersMax: waitingMax,
  });

  /**
   * Runs work that uses one thread at a time, when there is one for it, and keeps that until the work has settled,
   * whoever still waits for it. Rejects with the reason of `signal` when it fires before.
   */
  async run<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    using _thread = await this.#threads.acquire({ signal });
    return await work();
  }

  /**
   * Within such work: does one thing for each item, with as many threads as are free now besides its own. In the order
   * of the items. After a failure the rest is not begun.
   */
  async each<Item, Result>(
    items: readonly Item[],
    work: (item: Item) => Promise<Result>,
  ): Promise<Result[]> {
    const results: Result[] = [];
    let next = 0;
    const worker = async (thread: Permit | undefined): Promise<void> => {
      using _thread = thread;
      try {
        for (let index = next++; index < items.length; index = next++) {
          results[index] = await work(items[index] as Item);
        }
      } finally {
        next = items.length;
      }
    };
    const workers = [worker(undefined)];
    while (workers.length < items.length) {
      const thread = this.#threads.tryAcquire();
      if (thread === undefined) break;
      workers.push(worker(thread));
    }
    await settleAll(workers);
    return results;
  }
}

/** Rejects with the first failure, after all have ended: nothing is under way any more. */
async function settleAll(all: readonly Promise<void>[]): Promise<void> {
  for (const one of await Promise.allSettled(all)) if (one.status === 'rejected') throw one.reason;
}
