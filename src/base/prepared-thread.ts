/** A thread that loads its code and waits. Loading takes longer than all the rest of a start: begin with this. */
import type { Worker } from 'node:worker_threads';

export class PreparedThread {
  readonly worker: Worker;
  #failure: Error | undefined;

  /** `died`: what it means that the thread has ended, by its exit code. */
  constructor(worker: Worker, died: (exitCode: number) => Error) {
    this.worker = worker;
    worker.once('error', (error: Error) => (this.#failure ??= error));
    worker.once('exit', (exitCode) => (this.#failure ??= died(exitCode)));
  }

  /** Why it cannot serve (any more). */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Ends a thread that serves nothing now. */
  async end(): Promise<void> {
    await this.worker.terminate();
  }
}
