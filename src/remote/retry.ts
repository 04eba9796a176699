/**
 * Tries again what may help: errors that say `retryable`, after a pause with full jitter, never
 * sooner than Retry-After, until the attempts are used up or the caller's signal fires.
 *
 * - `read` goes on at the byte where it broke, with the same version; no byte is delivered twice.
 *   When the answer had no version, it can only begin anew while no byte was delivered; then its
 *   error is final. A remote that gives whole files only is read again from the start and what was
 *   delivered already is thrown away.
 * - `list` begins anew; names that were delivered are left out the second time, with the attributes
 *   they had first. So the caller sees every name once and never fewer than one complete listing
 *   showed. A remote that lists a name twice is told on (`skipped`), as far as nothing failed.
 * - What the sink throws is never retried.
 */
import { backoffMs } from '../base/backoff.ts';
import { sleep } from '../base/deadline.ts';
import { ebbError, toEbbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import { NameSet } from '../base/name-set.ts';
import { linkSignals } from './linked-signal.ts';
import { ResumingSink } from './resuming-sink.ts';
import type {
  CallOptions,
  ListingBatch,
  ObjectAttributes,
  RangeSink,
  ReadOptions,
  Remote,
} from './remote.ts';
import { WrappedRemote } from './wrapped.ts';

/** Names remembered of one listing; beyond that a broken listing is not begun anew. */
const listedNamesMax = 1_000_000;
/** A read that came this far since its last failure may use all attempts again. */
const progressBytes = 1024 * 1024;

export interface RetryOptions {
  /** Tries in all, the first included. 1 <= attemptsMax. Default 5. */
  readonly attemptsMax?: number;
  /** Upper bound of the first pause; doubles. Default 200. */
  readonly baseMs?: number;
  /** Upper bound of a pause. Default 10,000. */
  readonly maxMs?: number;
  /**
   * A remote that asks (Retry-After) for a longer pause than this is given up at once. Default
   * 60,000.
   */
  readonly retryAfterMaxMs?: number;
  /** Uniform in [0, 1). Default Math.random. */
  readonly random?: () => number;
  /** For tests. Default base/deadline.ts. */
  readonly sleep?: (durationMs: number, signal: AbortSignal) => Promise<void>;
  /** Called before each pause. */
  readonly onRetry?: (key: string, error: EbbError, attempt: number, pauseMs: number) => void;
}

export function retryingRemote(inner: Remote, options: RetryOptions = {}): Remote {
  return new RetryingRemote(inner, options);
}

/** The tries of one call. */
class Attempts {
  readonly #options: Required<Omit<RetryOptions, 'onRetry'>> & Pick<RetryOptions, 'onRetry'>;
  readonly #key: string;
  readonly #signals: readonly AbortSignal[];
  #failures = 0;

  constructor(options: RetryOptions, key: string, signals: readonly AbortSignal[]) {
    this.#options = {
      attemptsMax: 5,
      baseMs: 200,
      maxMs: 10_000,
      retryAfterMaxMs: 60_000,
      random: Math.random,
      sleep,
      ...options,
    };
    this.#key = key;
    this.#signals = signals;
  }

  /** Nothing has failed yet. */
  get isFirst(): boolean {
    return this.#failures === 0;
  }

  /** There was progress: failures before it no longer count. */
  reset(): void {
    this.#failures = 0;
  }

  /**
   * Returns when it is time for the next try; throws when there is none. `thrown` is passed on as
   * it is.
   */
  async pause(thrown: unknown): Promise<void> {
    using linked = linkSignals(...this.#signals);
    linked.signal.throwIfAborted();
    const error = toEbbError(thrown);
    const { attemptsMax, retryAfterMaxMs } = this.#options;
    this.#failures += 1;
    if (!error.retryable || this.#failures >= attemptsMax) throw thrown;
    if ((error.retryAfterMs ?? 0) > retryAfterMaxMs) throw thrown;
    const attempt = this.#failures - 1;
    const pauseMs = backoffMs({ ...this.#options, attempt, retryAfterMs: error.retryAfterMs });
    this.#options.onRetry?.(this.#key, error, this.#failures, pauseMs);
    await this.#options.sleep(pauseMs, linked.signal);
    linked.signal.throwIfAborted();
  }
}

class RetryingRemote extends WrappedRemote {
  readonly #options: RetryOptions;
  readonly #closed = new AbortController();

  constructor(inner: Remote, options: RetryOptions) {
    super(inner);
    this.#options = options;
  }

  override async *list(key: string, options: CallOptions): AsyncIterable<ListingBatch> {
    const attempts = this.#attempts(key, options.signal);
    const seen = new NameSet();
    for (;;) {
      try {
        for await (const batch of this.inner.list(key, options)) {
          const fresh = newNames(batch, seen, attempts.isFirst);
          if (fresh.objects.length + fresh.skipped.length > 0) yield fresh;
        }
        return;
      } catch (error) {
        if (seen.size > listedNamesMax) throw error;
        await attempts.pause(error);
      }
    }
  }

  override async stat(key: string, options: CallOptions): Promise<ObjectAttributes> {
    const attempts = this.#attempts(key, options.signal);
    for (;;) {
      try {
        return await this.inner.stat(key, options);
      } catch (error) {
        await attempts.pause(error);
      }
    }
  }

  override async read(key: string, sink: RangeSink, options: ReadOptions): Promise<void> {
    const attempts = this.#attempts(key, options.signal);
    const resuming = new ResumingSink(key, sink, options);
    let markBytes = 0;
    for (;;) {
      const next = resuming.next(this.inner.supportsRanges);
      if (next === 'done') return;
      try {
        await this.inner.read(key, resuming, next);
        return;
      } catch (error) {
        await resuming.idle();
        const sinkError = resuming.sinkFailure;
        if (sinkError !== undefined) throw sinkError.error;
        // It has just turned out that ranges are ignored: the next try reads the whole file.
        if (resuming.becameWholeOnly(error)) continue;
        if (!resuming.canResume) throw error;
        if (resuming.deliveredBytes - markBytes >= progressBytes) {
          attempts.reset();
          markBytes = resuming.deliveredBytes;
        }
        await attempts.pause(error);
      }
    }
  }

  override close(): Promise<void> {
    this.#closed.abort(ebbError('ESHUTDOWN', `The remote ${this.displayName} was closed.`));
    return this.inner.close();
  }

  #attempts(key: string, signal: AbortSignal): Attempts {
    return new Attempts(this.#options, key, [signal, this.#closed.signal]);
  }
}

/** `isFirst`: what comes again was not given by a try that failed, and is reported. */
function newNames(batch: ListingBatch, seen: NameSet, isFirst: boolean): ListingBatch {
  const objects = batch.objects.filter((object) => seen.add(object.name));
  // Skipped names may equal listed ones: a slash keeps them apart.
  const skipped = batch.skipped.filter(({ raw }) => seen.add(`/${raw}`));
  if (objects.length === batch.objects.length || !isFirst) return { objects, skipped };
  const given = new Set(objects);
  const repeated = batch.objects.filter((object) => !given.has(object));
  const why = 'the name is listed twice';
  return { objects, skipped: [...skipped, ...repeated.map(({ name }) => ({ raw: name, why }))] };
}
