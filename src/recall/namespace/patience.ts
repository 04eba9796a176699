/** A time limit that begins anew with each step forward. */
import { AttendedTimer } from '../../base/attended-timer.ts';
import { ebbError } from '../../base/errors.ts';

export class Patience implements Disposable {
  readonly #controller = new AbortController();
  readonly #timer: AttendedTimer;
  /** Fires with ETIMEDOUT when nothing was renewed for `timeoutMs`, or with the parent's reason. */
  readonly signal: AbortSignal;

  constructor(timeoutMs: number, parent: AbortSignal) {
    this.#timer = new AttendedTimer(timeoutMs, () => {
      this.#controller.abort(ebbError('ETIMEDOUT', `Nothing came for ${timeoutMs} ms.`));
    });
    this.signal = AbortSignal.any([parent, this.#controller.signal]);
  }

  /** Fires at once. */
  end(reason: Error): void {
    this.#controller.abort(reason);
  }

  renew(): void {
    this.#timer.renew();
  }

  [Symbol.dispose](): void {
    this.#timer[Symbol.dispose]();
  }
}
