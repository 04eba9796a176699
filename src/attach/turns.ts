/**
 * Shares the main thread: long work is cut into slices, and between two of them the event loop runs once, so that
 * events of the kernel are answered meanwhile. However many tasks work here, they share the slice of that turn of
 * the loop; the one that has waited longest begins it. (One step each in a turn would cost more in turns than in
 * steps, and keep the thread that makes stubs waiting for the next ones.)
 */
import { performance } from 'node:perf_hooks';

const sliceMsDefault = 4;

export class Turns {
  readonly #sliceMs: number;
  readonly #waiting: (() => void)[] = [];
  #begunMs = -Infinity;
  #planned = false;

  constructor(sliceMs = sliceMsDefault) {
    this.#sliceMs = sliceMs;
  }

  /** To be called before each step of work, which is short. Undefined: go on; else wait for it first. */
  pause(): Promise<void> | undefined {
    if (performance.now() - this.#begunMs < this.#sliceMs) return undefined;
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#plan();
    });
  }

  #plan(): void {
    if (this.#planned) return;
    this.#planned = true;
    setImmediate(() => {
      this.#planned = false;
      this.#begunMs = performance.now();
      this.#waiting.shift()?.();
      if (this.#waiting.length > 0) this.#plan();
    });
  }
}
