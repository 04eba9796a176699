/** One listing that the remote was asked for: under way from the moment it is made, taken in when there is time. */
import type { ListingBatch, Remote } from '../../remote/remote.ts';
import { Patience } from './patience.ts';

export class ListingRequest implements AsyncIterableIterator<ListingBatch, void>, Disposable {
  /** When the remote was asked (ms since 1970): what it tells is no older. */
  readonly startedAtMs: number;
  readonly #patience: Patience;
  readonly #batches: AsyncIterator<ListingBatch, void>;
  #first: Promise<IteratorResult<ListingBatch, void>> | undefined;

  /** Fails when nothing comes for `patienceMs`, or with the reason of `closing`. */
  constructor(
    remote: Remote,
    key: string,
    { nowMs, patienceMs, closing }: { nowMs: number; patienceMs: number; closing: AbortSignal },
  ) {
    this.startedAtMs = nowMs;
    this.#patience = new Patience(patienceMs, closing);
    const { signal } = this;
    this.#batches = remote.list(key, { signal })[Symbol.asyncIterator]();
    this.#first = this.#batches.next();
    // Whoever takes it in hears of it.
    this.#first.catch(() => undefined);
  }

  /** Fires when it has failed for lack of time, was given up, or the namespace ends. */
  get signal(): AbortSignal {
    return this.#patience.signal;
  }

  /** What has come was taken in: time counts anew. */
  renew(): void {
    this.#patience.renew();
  }

  next(): Promise<IteratorResult<ListingBatch, void>> {
    const first = this.#first;
    this.#first = undefined;
    return first ?? this.#batches.next();
  }

  async return(): Promise<IteratorResult<ListingBatch, void>> {
    await this.#batches.return?.();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Nobody wants it any more. */
  giveUp(reason: Error): void {
    this.#patience.end(reason);
    this[Symbol.dispose]();
    this.return().catch(() => undefined);
  }

  [Symbol.dispose](): void {
    this.#patience[Symbol.dispose]();
  }
}
