/** When stubs were used last: gathered, and written to the catalog in one transaction now and then. */
import type { StubCatalog } from '../../catalog/stub-catalog.ts';

const writeIntervalMs = 2_000;
/** With so many waiting they are written at once. */
const waitingMax = 10_000;

export class AccessTimes implements Disposable {
  readonly #catalog: StubCatalog;
  readonly #onProblem: (error: unknown) => void;
  readonly #timer: NodeJS.Timeout;
  #waiting = new Map<number, number>();

  constructor(catalog: StubCatalog, onProblem: (error: unknown) => void) {
    this.#catalog = catalog;
    this.#onProblem = onProblem;
    this.#timer = setInterval(() => this.#write(), writeIntervalMs).unref();
  }

  add(accesses: readonly (readonly [id: number, atMs: number])[]): void {
    for (const [id, atMs] of accesses) this.#waiting.set(id, atMs);
    if (this.#waiting.size >= waitingMax) this.#write();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#write();
  }

  /** What is lost when that fails only makes the choice of what to release worse. */
  #write(): void {
    if (this.#waiting.size === 0) return;
    const accesses = this.#waiting;
    this.#waiting = new Map();
    try {
      this.#catalog.touch(accesses);
    } catch (error) {
      this.#onProblem(error);
    }
  }
}
