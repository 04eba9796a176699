/** Tells a callback about every request to a remote, when it has ended. Changes nothing. */
import { systemClock } from '../base/clock.ts';
import type { Clock } from '../base/clock.ts';
import { toEbbError } from '../base/errors.ts';
import type { ErrnoCode } from '../base/errno.ts';
import type {
  CallOptions,
  ListingBatch,
  ObjectAttributes,
  RangeSink,
  ReadOptions,
  Remote,
} from './remote.ts';
import { WrappedRemote } from './wrapped.ts';

export interface RequestTrace {
  readonly call: 'list' | 'stat' | 'read';
  readonly key: string;
  /** Reads: what was asked for; lengthBytes undefined means to the end. */
  readonly offsetBytes?: number;
  readonly lengthBytes?: number | undefined;
  /** Bytes passed to the sink (read) or objects listed (list). */
  readonly bytes: number;
  readonly objects: number;
  readonly startedAtMs: number;
  readonly durationMs: number;
  /** Until the answer began (head, first batch); undefined if it never did. */
  readonly firstAnswerMs: number | undefined;
  /** `ok`, an errno name, `aborted`, or `left` (a listing that the caller did not finish). */
  readonly outcome: 'ok' | 'aborted' | 'left' | ErrnoCode;
  readonly message?: string;
}

export interface TraceOptions {
  /** Called once per request; must not throw. */
  readonly onRequest: (trace: RequestTrace) => void;
  readonly clock?: Clock;
}

export function tracedRemote(inner: Remote, options: TraceOptions): Remote {
  return new TracedRemote(inner, options.onRequest, options.clock ?? systemClock);
}

/** One request under way. */
class Span {
  readonly #start: Pick<RequestTrace, 'call' | 'key' | 'offsetBytes' | 'lengthBytes'>;
  readonly #signal: AbortSignal;
  readonly #clock: Clock;
  readonly #startedAtMs: number;
  readonly #startMs: number;
  #firstAnswerMs: number | undefined;
  bytes = 0;
  objects = 0;

  constructor(
    start: Pick<RequestTrace, 'call' | 'key' | 'offsetBytes' | 'lengthBytes'>,
    signal: AbortSignal,
    clock: Clock,
  ) {
    this.#start = start;
    this.#signal = signal;
    this.#clock = clock;
    this.#startedAtMs = clock.nowMs();
    this.#startMs = clock.monotonicMs();
  }

  answered(): void {
    this.#firstAnswerMs ??= this.#clock.monotonicMs() - this.#startMs;
  }

  ended(outcome: RequestTrace['outcome'], message?: string): RequestTrace {
    return {
      ...this.#start,
      bytes: this.bytes,
      objects: this.objects,
      startedAtMs: this.#startedAtMs,
      durationMs: this.#clock.monotonicMs() - this.#startMs,
      firstAnswerMs: this.#firstAnswerMs,
      outcome,
      ...(message === undefined ? {} : { message }),
    };
  }

  failed(error: unknown): RequestTrace {
    if (this.#signal.aborted) return this.ended('aborted');
    const { code, message } = toEbbError(error);
    return this.ended(code, message);
  }
}

class TracedRemote extends WrappedRemote {
  readonly #onRequest: (trace: RequestTrace) => void;
  readonly #clock: Clock;

  constructor(inner: Remote, onRequest: (trace: RequestTrace) => void, clock: Clock) {
    super(inner);
    this.#onRequest = onRequest;
    this.#clock = clock;
  }

  override async *list(key: string, options: CallOptions): AsyncIterable<ListingBatch> {
    const span = new Span({ call: 'list', key }, options.signal, this.#clock);
    let trace: RequestTrace | undefined;
    try {
      for await (const batch of this.inner.list(key, options)) {
        span.answered();
        span.objects += batch.objects.length;
        yield batch;
      }
      trace = span.ended('ok');
    } catch (error) {
      trace = span.failed(error);
      throw error;
    } finally {
      this.#onRequest(trace ?? span.ended('left'));
    }
  }

  override async stat(key: string, options: CallOptions): Promise<ObjectAttributes> {
    const span = new Span({ call: 'stat', key }, options.signal, this.#clock);
    return await this.#traced(span, () => this.inner.stat(key, options));
  }

  override async read(key: string, sink: RangeSink, options: ReadOptions): Promise<void> {
    const { offsetBytes, lengthBytes, signal } = options;
    const span = new Span({ call: 'read', key, offsetBytes, lengthBytes }, signal, this.#clock);
    const counting: RangeSink = {
      head: (attributes) => {
        span.answered();
        sink.head(attributes);
      },
      buffer: () => sink.buffer(),
      filled: (countBytes) => {
        span.bytes += countBytes;
        return sink.filled(countBytes);
      },
    };
    await this.#traced(span, () => this.inner.read(key, counting, options));
  }

  /** Each read is told of. */
  override readReady(): boolean {
    return false;
  }

  /** And each stat. */
  override hasNow(): boolean {
    return false;
  }

  async #traced<T>(span: Span, work: () => Promise<T>): Promise<T> {
    let result: T;
    try {
      result = await work();
    } catch (error) {
      this.#onRequest(span.failed(error));
      throw error;
    }
    this.#onRequest(span.ended('ok'));
    return result;
  }
}
