/**
 * Gives back memory that V8 keeps after much work: a thread whose heap has grown and that does nothing now collects its
 * garbage. V8 does that by itself, some time later, only where the event loop runs (its memory reducer is a delayed
 * task): a thread that blocks in poll(2) stays as large as it ever was.
 * See docs/decisions/0034-memory-is-given-back.md.
 */
import { v8, vm } from './late-modules.ts';

const MiB = 1024 * 1024;
/** Between two looks a thread that does nothing allocates less than this. */
const quietBytes = 1 * MiB;
/** What is worth a full collection, which takes some 20 ms, in which the thread answers nobody. */
const grownBytes = 12 * MiB;

/** A thread with an event loop looks this often. */
const lookEveryMs = 2_000;

/**
 * V8 lets a heap grow to four times of what lives in it: from now on to twice, in all threads. V8's switches are set in
 * a process that runs, because one that is started with any that V8 counts (--expose-gc is another) loads none of the
 * compiled code that Node brings along: 20 ms of each start (docs/decisions/0049-switches-are-set-later.md).
 */
export function boundHeapGrowth(): void {
  v8().setFlagsFromString('--heap-growing-percent=100');
}

type Collect = (kind: { type: 'major'; execution: 'sync'; flavor: 'last-resort' }) => void;

/** V8 gives it to contexts that are made after the switch was set. */
function collector(): Collect {
  v8().setFlagsFromString('--expose-gc');
  return vm().runInNewContext('gc') as Collect;
}

export class HeapKeeper {
  #allocatedBytes = 0;
  #keptBytes = v8().getHeapStatistics().total_heap_size;
  #collect: Collect | undefined;

  /** To be called every few seconds by the thread whose heap it is. Returns whether it collected. */
  look(): boolean {
    const heap = v8().getHeapStatistics();
    const newBytes = heap.total_allocated_bytes - this.#allocatedBytes;
    this.#allocatedBytes = heap.total_allocated_bytes;
    this.#keptBytes = Math.min(this.#keptBytes, heap.total_heap_size);
    const isGrown = heap.total_heap_size - this.#keptBytes >= grownBytes;
    if (newBytes >= quietBytes || !isGrown) return false;
    this.#collect ??= collector();
    // Any other kind keeps the pages that it has emptied.
    this.#collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
    this.#keptBytes = v8().getHeapStatistics().total_heap_size;
    return true;
  }
}

/** Looks after the heap of the calling thread, as long as it has an event loop that runs. */
export function keepHeapSmall(): void {
  const keeper = new HeapKeeper();
  setInterval(() => keeper.look(), lookEveryMs).unref();
}
