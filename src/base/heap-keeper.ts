/**
 * Gives back memory that V8 keeps after much work: a thread whose heap has grown and that does nothing now collects its
 * garbage. V8 does that by itself, some time later, only where the event loop runs (its memory reducer is a delayed
 * task): a thread that blocks in poll(2) stays as large as it ever was.
 * See docs/decisions/0034-memory-is-given-back.md.
 */
import { getHeapStatistics } from 'node:v8';

const MiB = 1024 * 1024;
/** Between two looks a thread that does nothing allocates less than this. */
const quietBytes = 1 * MiB;
/** What is worth a full collection, which takes some 20 ms, in which the thread answers nobody. */
const grownBytes = 12 * MiB;

/** A thread with an event loop looks this often. */
const lookEveryMs = 2_000;

export class HeapKeeper {
  #allocatedBytes = 0;
  #keptBytes = getHeapStatistics().total_heap_size;

  /**
   * To be called every few seconds by the thread whose heap it is. Returns whether it collected. Without V8's switch
   * `expose-gc` it never does.
   */
  look(): boolean {
    const heap = getHeapStatistics();
    const newBytes = heap.total_allocated_bytes - this.#allocatedBytes;
    this.#allocatedBytes = heap.total_allocated_bytes;
    this.#keptBytes = Math.min(this.#keptBytes, heap.total_heap_size);
    const isGrown = heap.total_heap_size - this.#keptBytes >= grownBytes;
    if (newBytes >= quietBytes || !isGrown || globalThis.gc === undefined) return false;
    // Any other kind keeps the pages that it has emptied.
    globalThis.gc({ type: 'major', execution: 'sync', flavor: 'last-resort' });
    this.#keptBytes = getHeapStatistics().total_heap_size;
    return true;
  }
}

/** Looks after the heap of the calling thread, as long as it has an event loop that runs. */
export function keepHeapSmall(): void {
  const keeper = new HeapKeeper();
  setInterval(() => keeper.look(), lookEveryMs).unref();
}
