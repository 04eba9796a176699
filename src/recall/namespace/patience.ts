/** A time limit that begins anew with each step forward. */
import { ebbError } from '../../base/errors.ts';

export class Patience implements Disposable {
  readonly #controller = new AbortController();
  readonly #timer: NodeJS.Timeout;
  /** Fires with ETIMEDOUT when nothing was renewed for `timeoutMs`, or with the parent's reason. */
  readonly signal: AbortSignal;

  constructor(timeoutMs: number, parent: AbortSignal) {
    this.#timer = setTimeout(() => {
      this.#controller.abort(ebbError('ETIMEDOUT', `Nothing came for ${timeoutMs} ms.`));
    }, timeoutMs);
    this.signal = AbortSignal.any([parent, this.#controller.signal]);
  }

  /** Fires at once. */
  end(reason: Error): void {
    this.#controller.abort(reason);
  }

  renew(): void {
    this.#timer.refresh();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
