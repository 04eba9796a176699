/**
 * Holds a remote to a number of requests at a time and a number of bytes per second. The rate works
 * by backpressure: the sink's promise is kept back, so the remote stops taking from its connection.
 *
 * A listing holds its place only while it asks for the next batch, so a caller may use the remote
 * between batches even with one request at a time. A read holds its place also while its receiver
 * makes it wait, and what the receiver waits for (room in a full cache) may need a `stat` first:
 * one more request is let through for that.
 */
import { systemClock } from '../base/clock.ts';
import type { Clock } from '../base/clock.ts';
import { sleep } from '../base/deadline.ts';
import { Semaphore } from '../base/semaphore.ts';
import type { Permit } from '../base/semaphore.ts';
import { linkSignals } from './linked-signal.ts';
import type {
  CallOptions,
  ListingBatch,
  ObjectAttributes,
  RangeSink,
  ReadOptions,
  ReadyRange,
  Remote,
} from './remote.ts';
import { WrappedRemote } from './wrapped.ts';
import { TokenBucket } from './token-bucket.ts';

/** `stat`s beyond the limit while reads are under way: without them two might wait for each other. */
export const spareRequests = 1;
/** Requests that may wait for their turn; one more is refused with EBUSY (retryable). */
const waitingRequestsMax = 100_000;

export interface LimitOptions {
  /**
   * Requests at a time, of all kinds; `spareRequests` more while reads are under way. 1 <= requestsMax. Default: no
   * limit.
   */
  readonly requestsMax?: number;
  /** Content bytes per second, over all reads. 0 < bytesPerSecond. Default: no limit. */
  readonly bytesPerSecond?: number;
  readonly clock?: Clock;
}

export function limitedRemote(inner: Remote, options: LimitOptions): Remote {
  return new LimitedRemote(inner, options);
}

class LimitedRemote extends WrappedRemote {
  readonly #requests: Semaphore | undefined;
  readonly #spare = new Semaphore({ permits: spareRequests, waitersMax: waitingRequestsMax });
  /** Under way, or waiting for their turn. */
  #reads = 0;
  readonly #bucket: TokenBucket | undefined;
  readonly #clock: Clock;

  constructor(inner: Remote, options: LimitOptions) {
    super(inner);
    this.#clock = options.clock ?? systemClock;
    const { requestsMax: permits, bytesPerSecond } = options;
    if (permits !== undefined) {
      this.#requests = new Semaphore({ permits, waitersMax: waitingRequestsMax });
    }
    if (bytesPerSecond !== undefined) this.#bucket = new TokenBucket(bytesPerSecond);
  }

  override async *list(key: string, options: CallOptions): AsyncIterable<ListingBatch> {
    const batches = this.inner.list(key, options)[Symbol.asyncIterator]();
    try {
      for (;;) {
        const step = await this.#inTurn(options.signal, () => batches.next());
        if (step.done === true) return;
        yield step.value;
      }
    } finally {
      await batches.return?.();
    }
  }

  override async stat(key: string, options: CallOptions): Promise<ObjectAttributes> {
    using _permit = await this.#permitForStat(options.signal);
    return await this.inner.stat(key, options);
  }

  override async read(key: string, sink: RangeSink, options: ReadOptions): Promise<void> {
    const slowed = this.#slowed(sink, options.signal);
    this.#reads += 1;
    try {
      await this.#inTurn(options.signal, () => this.inner.read(key, slowed, options));
    } finally {
      this.#reads -= 1;
    }
  }

  /** Takes no place: it is over when it returns. What has a rate goes the way that keeps it. */
  override readReady(...range: ReadyRange): boolean | Promise<void> {
    return this.#bucket === undefined && super.readReady(...range);
  }

  /** Whichever comes first: a place among all requests, or the spare one where reads may hold those. */
  async #permitForStat(signal: AbortSignal): Promise<Permit | undefined> {
    const requests = this.#requests;
    if (requests === undefined || this.#reads === 0) return requests?.acquire({ signal });
    signal.throwIfAborted();
    const free = requests.tryAcquire() ?? this.#spare.tryAcquire();
    if (free !== undefined) return free;
    const decided = new AbortController();
    using linked = linkSignals(signal, decided.signal);
    const waits = [requests, this.#spare].map((one) => one.acquire({ signal: linked.signal }));
    let first: Permit | undefined;
    try {
      first = await Promise.race(waits);
      return first;
    } finally {
      decided.abort(new Error('another place was free'));
      for (const wait of waits) {
        wait.then(
          (permit) => {
            if (permit !== first) permit[Symbol.dispose]();
          },
          () => undefined,
        );
      }
    }
  }

  async #inTurn<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const permit = await this.#requests?.acquire({ signal });
    try {
      return await work();
    } finally {
      permit?.[Symbol.dispose]();
    }
  }

  #slowed(sink: RangeSink, signal: AbortSignal): RangeSink {
    const bucket = this.#bucket;
    if (bucket === undefined) return sink;
    return {
      head: (attributes) => sink.head(attributes),
      buffer: () => sink.buffer(),
      filled: async (countBytes) => {
        await sink.filled(countBytes);
        const waitMs = bucket.take(countBytes, this.#clock.monotonicMs());
        if (waitMs > 0) await sleep(waitMs, signal);
      },
    };
  }
}
