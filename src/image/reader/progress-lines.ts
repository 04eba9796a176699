/** How far a check or a copy is, said now and then. */
import type { ReaderOutput } from './lines.ts';

const intervalMs = 200;

export class ProgressLines {
  readonly #output: ReaderOutput;
  #lastMs = 0;

  constructor(output: ReaderOutput) {
    this.#output = output;
  }

  /** `path`: what is being done. */
  tell(path: string, files: number, bytes: number): void {
    const nowMs = performance.now();
    if (nowMs - this.#lastMs < intervalMs) return;
    this.#lastMs = nowMs;
    this.#output.line({ progress: { path, files, bytes } });
  }
}
