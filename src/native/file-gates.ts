/**
 * One at a time for each file: whoever changes what a file is (recording a writer, finding out what he did) does it
 * alone, and readers wait meanwhile. Work of one file is done in the order in which it came.
 */

interface Gate {
  /** Settles, never rejects, when the last one in the queue is through. */
  tail: Promise<void>;
  waiting: number;
}

export class FileGates {
  readonly #gates = new Map<number, Gate>();

  /** Runs `work` when nobody else works on the file. */
  async alone<Result>(fileId: number, work: () => Promise<Result>): Promise<Result> {
    const gate = this.#gates.get(fileId) ?? { tail: Promise.resolve(), waiting: 0 };
    this.#gates.set(fileId, gate);
    gate.waiting += 1;
    const before = gate.tail;
    const { promise, resolve } = Promise.withResolvers<void>();
    gate.tail = promise;
    await before;
    try {
      return await work();
    } finally {
      gate.waiting -= 1;
      if (gate.waiting === 0) this.#gates.delete(fileId);
      resolve();
    }
  }

  isShut(fileId: number): boolean {
    return this.#gates.has(fileId);
  }

  /** Resolves when nobody works on the file. */
  async opened(fileId: number): Promise<void> {
    for (;;) {
      const gate = this.#gates.get(fileId);
      if (gate === undefined) return;
      await gate.tail;
    }
  }
}
