/** The line on the terminal that is written over again and again. */
import { systemClock } from '../base/clock.ts';
import type { Terminal } from './terminal.ts';

const eraseLine = '\r\u001b[K';
/** For progress that is told more often than anybody can read it. */
export const drawIntervalMs = 100;

export class ProgressLine {
  readonly #terminal: Terminal | undefined;
  #drawnAtMs = -Infinity;

  /** Draws nothing without a terminal, or where nobody sees it. */
  constructor(terminal: Terminal | undefined) {
    this.#terminal = terminal?.drawsProgress === true ? terminal : undefined;
  }

  get isSeen(): boolean {
    return this.#terminal !== undefined;
  }

  /** `render`: at most so many columns. Not called when nothing is drawn: so soon (`everyMs`), or at all. */
  draw(render: (columns: number) => string, everyMs = 0): void {
    const nowMs = systemClock.monotonicMs();
    if (this.#terminal === undefined || nowMs - this.#drawnAtMs < everyMs) return;
    this.#drawnAtMs = nowMs;
    this.#terminal.draw(`${eraseLine}${render(this.#terminal.columns - 1)}`);
  }

  /** Before anything else is printed, and at the end. */
  erase(): void {
    if (this.#drawnAtMs === -Infinity) return;
    this.#drawnAtMs = -Infinity;
    this.#terminal?.draw(eraseLine);
  }
}
