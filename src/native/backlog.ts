/**
 * How far main is behind what the event thread tells it. A program that writes tells of each of its calls, and main
 * may be busy: the thread goes on when main has taken some in. Until then events stay in the kernel's queue, where
 * those of one file become one. Questions have a maximum of their own, since who asks can be denied.
 */
import type { ToMain } from './messages.ts';
import { sharedWord } from './shared-words.ts';

/** Messages on their way to main; some two kilobytes each, until main has done with them. */
export const messagesMax = 16_384;
/** The thread that waits goes on when there are no more than this. */
const goOnAt = messagesMax / 2;

/** A main thread that hangs is replaced; one that waits for what this thread has not read yet is not waited for. */
const waitsMax = 10;
const waitMsDefault = 1_000;

export class Backlog {
  readonly #told: Int32Array;
  readonly #waitMs: number;

  /** The same memory in both threads. `waitMs`: for tests. */
  constructor(shared: SharedArrayBuffer, waitMs = waitMsDefault) {
    this.#told = sharedWord(shared, 'told');
    this.#waitMs = waitMs;
  }

  /** For the event thread, before it tells. Blocks while main is too far behind, for ten seconds at most. */
  add(message: ToMain): void {
    if (!counts(message)) return;
    if (Atomics.load(this.#told, 0) >= messagesMax) this.#wait();
    Atomics.add(this.#told, 0, 1);
  }

  /** For main, which has taken it in. */
  taken(message: ToMain): void {
    if (!counts(message)) return;
    if (Atomics.sub(this.#told, 0, 1) - 1 === goOnAt) Atomics.notify(this.#told, 0);
  }

  #wait(): void {
    for (let waits = 0; waits < waitsMax; waits += 1) {
      const told = Atomics.load(this.#told, 0);
      if (told <= goOnAt) return;
      Atomics.wait(this.#told, 0, told, this.#waitMs);
    }
  }
}

function counts({ kind }: ToMain): boolean {
  return kind !== 'question' && kind !== 'synced';
}
