/** What was started, to be ended in the reverse order: every step is taken, whatever became of the others. */
import { toEbbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';

interface Step {
  readonly what: string;
  readonly end: () => unknown;
}

export class Teardown {
  readonly #steps: Step[] = [];
  #running: Promise<void> | undefined;
  #isOver = false;

  /** `end` may be asynchronous; `what` names it when it fails. What comes when all has ended is ended at once. */
  add(what: string, end: () => unknown): void {
    this.#steps.push({ what, end });
    if (this.#isOver) void this.#run(() => undefined);
  }

  /** Ends everything, the last that was added first; at most once. Never rejects: `onProblem` hears of failures. */
  run(onProblem: (what: string, error: EbbError) => void): Promise<void> {
    this.#running ??= this.#run(onProblem);
    return this.#running;
  }

  async #run(onProblem: (what: string, error: EbbError) => void): Promise<void> {
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step.end();
      } catch (error) {
        onProblem(step.what, toEbbError(error));
      }
    }
    this.#isOver = true;
  }
}
