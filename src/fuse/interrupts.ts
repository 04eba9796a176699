/**
 * The INTERRUPT messages of a connection, in the order they came: a bounded log that all its
 * threads share.
 *
 * With several threads INTERRUPT may be read by another thread than the request it is about, and
 * before that request was even looked at. So whoever reads one appends it here and wakes the
 * others; each thread passes new entries to its own file system, and looks back into the log
 * whenever it defers a call.
 */

/** Older entries are overwritten; a request is long in its file system's hands by then. */
const interruptLogEntriesMax = 256;
/** Per entry: sequence number + 1, low word, high word of `unique`. */
const wordsPerEntry = 3;
const headerWords = 1;
const memoryBytes = (headerWords + interruptLogEntriesMax * wordsPerEntry) * 4;
const twoTo32 = 4_294_967_296;

export class InterruptLog {
  readonly memory: ArrayBuffer | SharedArrayBuffer;
  readonly #words: Int32Array;
  #seen: number;

  /** Without `memory` a log for one thread. Entries that are there already count as seen. */
  constructor(memory: ArrayBuffer | SharedArrayBuffer = new ArrayBuffer(memoryBytes)) {
    this.memory = memory;
    this.#words = new Int32Array(memory);
    this.#seen = Atomics.load(this.#words, 0);
  }

  /** The memory for a log that several threads open. */
  static sharedMemory(): SharedArrayBuffer {
    return new SharedArrayBuffer(memoryBytes);
  }

  add(unique: number): void {
    const sequence = Atomics.add(this.#words, 0, 1);
    const at = slotOf(sequence);
    Atomics.store(this.#words, at, 0);
    Atomics.store(this.#words, at + 1, unique | 0);
    Atomics.store(this.#words, at + 2, Math.floor(unique / twoTo32) | 0);
    Atomics.store(this.#words, at, (sequence + 1) | 0);
  }

  /**
   * The next entry that this reader has not taken yet, by any thread; undefined when there is none.
   */
  take(): number | undefined {
    const total = Atomics.load(this.#words, 0);
    if (this.#seen === total) return undefined;
    if (((total - this.#seen) | 0) > interruptLogEntriesMax) {
      this.#seen = (total - interruptLogEntriesMax) | 0;
    }
    const at = slotOf(this.#seen);
    // Being written: its writer wakes us when it is done.
    if (Atomics.load(this.#words, at) !== ((this.#seen + 1) | 0)) return undefined;
    this.#seen = (this.#seen + 1) | 0;
    return this.#unique(at);
  }

  /** Whether `unique` is among the last entries. */
  has(unique: number): boolean {
    const total = Atomics.load(this.#words, 0);
    if (total === 0) return false;
    const low = unique | 0;
    const high = Math.floor(unique / twoTo32) | 0;
    for (let entry = 0; entry < interruptLogEntriesMax; entry += 1) {
      const at = headerWords + entry * wordsPerEntry;
      if (
        Atomics.load(this.#words, at + 1) === low &&
        Atomics.load(this.#words, at + 2) === high &&
        Atomics.load(this.#words, at) !== 0
      ) {
        return true;
      }
    }
    return false;
  }

  #unique(at: number): number {
    const low = Atomics.load(this.#words, at + 1) >>> 0;
    return (Atomics.load(this.#words, at + 2) >>> 0) * twoTo32 + low;
  }
}

function slotOf(sequence: number): number {
  return headerWords + ((sequence >>> 0) % interruptLogEntriesMax) * wordsPerEntry;
}
