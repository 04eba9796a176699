/**
 * The recall engine: `ensure` says which bytes have to be here; the engine brings them by chunks, once, for all
 * who wait. This file holds the life of waiters and the consequences of how flights end; planning is in
 * planner.ts, starting requests in dispatcher.ts, receiving in transfer.ts.
 *
 * All state lives in one thread. Calls never block: everything is decided synchronously when a call comes in or
 * a flight reports. Time comes from the clock; the only timer calls `tick`.
 */
import { systemClock } from '../base/clock.ts';
import type { Clock } from '../base/clock.ts';
import { EbbError, ebbError } from '../base/errors.ts';
import type { ContentFile } from '../tree/content.ts';
import { Accounts } from './accounts.ts';
import type { RequesterAccount } from './accounts.ts';
import { Alarm } from './alarm.ts';
import { ContentRecall, endsWithoutWaiters } from './content-recall.ts';
import { Dispatcher } from './dispatcher.ts';
import type { Flight } from './flights.ts';
import { Hungry } from './hungry.ts';
import { defaultRecallLimits, intentRank, isAhead } from './limits.ts';
import type { RecallLimits } from './limits.ts';
import type { RecallEngineOptions, RecallEvent } from './options.ts';
import { Planner } from './planner.ts';
import { closedError, forReader, interrupted, overdue, tooMany } from './refusals.ts';
import type { EnsureOptions, FlightView, Recall, RecallTotals, Requester } from './recall.ts';
import { Streams } from './streams.ts';
import { Waiter } from './waiter.ts';

const nobody: Requester = Object.freeze({ pid: 0, uid: 0, gid: 0 });

export class RecallEngine implements Recall {
  readonly #options: RecallEngineOptions;
  readonly #limits: RecallLimits;
  readonly #clock: Clock;
  readonly #dispatcher: Dispatcher;
  readonly #planner: Planner;
  readonly #streams: Streams;
  readonly #alarm: Alarm;
  readonly #accounts: Accounts;
  readonly #contents: Map<number, ContentRecall> = new Map();
  readonly #hungry: Hungry;
  #waiting = 0;
  #requests = 0;
  #recalledBytes = 0;
  #failures = 0;
  #retries = 0;
  #closed = false;

  /** Throws RangeError for limits that make no sense. */
  constructor(options: RecallEngineOptions) {
    const limits = { ...defaultRecallLimits, ...options.limits };
    for (const [name, value] of Object.entries(limits)) {
      if (!(value >= 0)) throw new RangeError(`${name} cannot be ${value}`);
    }
    this.#options = options;
    this.#limits = limits;
    this.#clock = options.clock ?? systemClock;
    this.#accounts = new Accounts(limits.requestersMax);
    this.#dispatcher = new Dispatcher({
      remote: options.remote,
      clock: this.#clock,
      limits,
      reserve: options.reserve ?? (() => {}),
      isWanted: (flight, first, end) => this.#contentOf(flight)?.isWanted(first, end) ?? false,
      onStarted: (flight) => this.#flightStarted(flight),
      onWritten: (flight, first, count) => this.#chunksWritten(flight, first, count),
      neededTo: (flight) => this.#contentOf(flight)?.neededTo(flight.first),
      onBytes: (flight, toBytes) => this.#bytesWritten(flight, toBytes),
      onEnded: (flight, error) => this.#flightEnded(flight, error),
    });
    this.#planner = new Planner({
      dispatcher: this.#dispatcher,
      clock: this.#clock,
      limits,
      supportsRanges: () => options.remote.supportsRanges,
      giveUp: (content, flight) => this.#giveUp(content, flight),
      contentOf: (flight) => this.#contentOf(flight),
    });
    this.#hungry = new Hungry(this.#planner);
    this.#streams = new Streams({
      limits,
      planner: this.#planner,
      giveUp: (content, flight) => this.#giveUp(content, flight),
    });
    this.#alarm = new Alarm(this.#clock, () => this.tick());
  }

  /**
   * See `Recall.ensure`. Further errors: EAGAIN when `waitersMax` callers wait already, and what the verdict
   * says. Only `demand` has a deadline by default; the other intents wait as long as bytes arrive.
   */
  ensure(
    file: ContentFile,
    offsetBytes: number,
    lengthBytes: number,
    options: EnsureOptions,
  ): Promise<void> {
    if (this.#closed) return Promise.reject(closedError());
    if (options.signal?.aborted === true) return Promise.reject(interrupted(file));
    if (file.residency.has(offsetBytes, lengthBytes)) {
      if (options.streamId !== undefined) {
        this.advance(file, offsetBytes, lengthBytes, options.streamId, options.requester);
      }
      return Promise.resolve();
    }
    const verdict = this.#options.verdict?.(file, offsetBytes, lengthBytes, options) ?? 'allow';
    if (verdict instanceof EbbError) return Promise.reject(verdict);
    const exact = verdict === 'exact' || options.exact === true;
    if (this.#waiting >= this.#limits.waitersMax) return Promise.reject(tooMany(this.#waiting));
    this.#accounts.recall(options.requester, file.id, file.key);
    const content = this.#contentFor(file);
    const done = new Promise<void>((resolve, reject) => {
      this.#admit(content, offsetBytes, lengthBytes, exact, {
        options,
        resolve,
        reject,
      });
    });
    if (!exact && options.streamId !== undefined) {
      const { streamId, requester } = options;
      this.#streams.read(content, { streamId, offsetBytes, lengthBytes, requester });
    }
    this.#goOn();
    return done;
  }

  /** See `Recall.front`. */
  front(file: ContentFile, offsetBytes: number, lengthBytes: number): boolean | Promise<void> {
    const isFree = !this.#closed && !this.#options.verdict && !this.#contents.has(file.id);
    return isFree && this.#dispatcher.front.bring(file, offsetBytes, lengthBytes);
  }

  /**
   * The front end served `[offsetBytes, offsetBytes + lengthBytes)` of a stream from resident chunks. Keeps the
   * read-ahead in front of a reader who never misses; calling it once per megabyte or so is enough.
   */
  advance(
    file: ContentFile,
    offsetBytes: number,
    lengthBytes: number,
    streamId: number,
    requester: Requester = nobody,
  ): void {
    if (this.#closed || file.residency.complete) return;
    const content = this.#contentFor(file);
    this.#streams.read(content, { streamId, offsetBytes, lengthBytes, requester });
    this.#goOn();
    this.#forgetIfIdle(content);
  }

  endStream(streamId: number): void {
    const contentId = this.#streams.forget(streamId);
    const content = contentId === undefined ? undefined : this.#contents.get(contentId);
    if (content === undefined) return;
    this.#streams.stop(content, streamId);
    this.#forgetIfIdle(content);
    this.#goOn();
  }

  async cancel(contentId: number): Promise<void> {
    const content = this.#contents.get(contentId);
    if (content === undefined) return;
    const error = ebbError('ESTALE', `The recall of ${content.file.key} was cancelled.`);
    this.#abandon(content, error);
    const { leaving } = content;
    this.#goOn();
    await this.#settled([...leaving]);
  }

  isBusy(contentId: number): boolean {
    return this.#contents.has(contentId);
  }

  flights(): FlightView[] {
    const views: FlightView[] = [];
    for (const content of this.#contents.values()) {
      for (const flight of content.flights.list()) views.push(flight.view());
    }
    return views;
  }

  /** `requests`: flights started at the remote. `retries`: ours and those of the remote's wrapper. */
  totals(): RecallTotals {
    return {
      requests: this.#requests,
      recalledBytes: this.#recalledBytes,
      failures: this.#failures,
      retries: this.#retries + (this.#options.remoteRetries?.() ?? 0),
      waiting: this.#waiting,
      inFlight: this.#dispatcher.active.size,
    };
  }

  /** Bytes that somebody brought past the engine (a whole-file fetch) are put to the requester's account. */
  credit(requester: Requester, contentId: number, key: string, countBytes: number): void {
    this.#accounts.recall(requester, contentId, key);
    this.#accounts.arrived(requester, countBytes);
  }

  /** Who caused what since the start, most bytes first; at most `requestersMax`. */
  requesters(): RequesterAccount[] {
    return this.#accounts.list();
  }

  /** Rejects all waiters with EINTR, stops all requests, resolves when nothing touches a file any more. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#dispatcher.close();
    const active = [...this.#dispatcher.active];
    for (const content of this.#contents.values()) this.#abandon(content, closedError());
    this.#streams.clear();
    await this.#settled(active);
    this.#alarm.disarm();
  }

  /** Ends what is overdue. Called by the engine's own timer; tests that own the clock call it themselves. */
  tick(): void {
    const nowMs = this.#clock.monotonicMs();
    let nextMs = this.#dispatcher.stopStalled(nowMs);
    for (const content of this.#contents.values()) {
      const late: Waiter[] = [];
      for (const waiter of content.waiters) {
        const { deadlineAtMs } = waiter.options;
        if (deadlineAtMs > nowMs) nextMs = Math.min(nextMs, deadlineAtMs);
        else late.push(waiter);
      }
      for (const waiter of late) waiter.reject(overdue(content.file, waiter.options.deadlineMs));
      this.#leave(content, late);
    }
    this.#goOn();
    this.#alarm.disarm();
    this.#alarm.arm(nextMs);
  }

  #admit(
    content: ContentRecall,
    offsetBytes: number,
    lengthBytes: number,
    exact: boolean,
    call: { options: EnsureOptions; resolve: () => void; reject: (error: EbbError) => void },
  ): void {
    const { file } = content;
    const { residency } = file;
    const { intent, requester, signal, streamId, onBytes } = call.options;
    const wanted = residency.chunksOf(offsetBytes, lengthBytes);
    const neededToBytes = Math.min(file.sizeBytes, offsetBytes + lengthBytes);
    const small = !exact && file.sizeBytes <= this.#limits.smallFileMaxBytes;
    const deadlineMs =
      call.options.deadlineMs ?? (intent === 'demand' ? this.#limits.deadlineMs : Infinity);
    const waiter = new Waiter(
      {
        file,
        wanted,
        planned: small ? { first: 0, count: residency.chunkCount } : wanted,
        intent,
        requester,
        streamId,
        deadlineMs,
        deadlineAtMs: this.#clock.monotonicMs() + deadlineMs,
        signal,
        bytes: onBytes && wanted.count === 1 ? { neededToBytes, onBytes } : undefined,
        resolve: call.resolve,
        reject: call.reject,
      },
      (aborted) => {
        aborted.reject(interrupted(file));
        this.#leave(content, [aborted]);
        this.#goOn();
      },
    );
    waiter.advance();
    content.waiters.add(waiter);
    this.#waiting += 1;
    this.#alarm.arm(waiter.options.deadlineAtMs);
    this.#hungry.planOn(content, waiter);
  }

  #goOn(): void {
    this.#hungry.feed();
    this.#dispatcher.pump();
  }

  #flightStarted(flight: Flight): void {
    this.#requests += 1;
    this.#hungry.moved();
    this.#alarm.arm(flight.progressAtMs + this.#limits.stallMaxMs);
    this.#report('started', flight, undefined);
  }

  #chunksWritten(flight: Flight, firstChunk: number, chunkCount: number): void {
    const { file } = flight;
    const { lengthBytes } = file.residency.bytesOf({ first: firstChunk, count: chunkCount });
    flight.doneBytes += lengthBytes;
    this.#recalledBytes += lengthBytes;
    this.#accounts.arrived(flight.requester, lengthBytes);
    const content = this.#contentOf(flight);
    if (content === undefined) return;
    const endChunk = firstChunk + chunkCount;
    for (const waiter of content.waiters) {
      if (!waiter.waitsFor(firstChunk, endChunk) || !waiter.advance()) continue;
      this.#remove(content, waiter);
      waiter.resolve();
    }
  }

  /** The front of the flight's first chunk is in the file, and not all of that chunk. */
  #bytesWritten(flight: Flight, toBytes: number): void {
    const content = this.#contentFor(flight.file);
    for (const waiter of content.waiters) {
      if (!waiter.needsOnly(flight.first, toBytes)) continue;
      this.#remove(content, waiter);
      waiter.resolveByBytes();
    }
  }

  #flightEnded(flight: Flight, error: EbbError | undefined): void {
    const content = this.#contentOf(flight);
    content?.flights.remove(flight);
    content?.leaving.delete(flight);
    if (content !== undefined && error !== undefined && !flight.cancelled) {
      this.#flightFailed(content, flight, error);
    } else {
      this.#report(error === undefined ? 'finished' : 'cancelled', flight, undefined);
    }
    this.#hungry.moved();
    this.#hungry.feed();
    if (content !== undefined) this.#forgetIfIdle(content);
  }

  #flightFailed(content: ContentRecall, flight: Flight, error: EbbError): void {
    // Nobody's failure, however many of them somebody counted on: he asks for room himself.
    const isForgone = isAhead(flight.origin) && error.code === 'EAGAIN';
    this.#report(isForgone ? 'cancelled' : 'failed', flight, isForgone ? undefined : error);
    if (isForgone) this.#streams.forgone(flight);
    content.unplan(flight);
    if (error.code === 'EOPNOTSUPP' && !flight.whole) {
      content.wholeOnly = true;
      this.#retries += 1;
      for (const waiter of content.waiters) this.#hungry.planOn(content, waiter);
      return;
    }
    this.#failures += isForgone ? 0 : 1;
    if (error.code === 'ESTALE') this.#abandon(content, error);
    const leaving: Waiter[] = [];
    for (const waiter of content.waitersOf(flight)) {
      const { intent } = waiter.options;
      const isUrgent = intentRank[flight.origin] > intentRank[intent];
      if (isForgone ? isUrgent || !isAhead(intent) : isUrgent && !waiter.retried) {
        waiter.retried ||= !isForgone;
        this.#retries += 1;
        this.#hungry.planOn(content, waiter);
      } else {
        waiter.reject(forReader(error));
        leaving.push(waiter);
      }
    }
    this.#leave(content, leaving);
    for (const waiter of content.waiters) {
      if (waiter.cursor < waiter.cursorEnd) this.#hungry.planOn(content, waiter);
    }
    if (error.code === 'ESTALE' || error.code === 'ENOENT')
      this.#options.onStale?.(content.file, error);
  }

  /** Rejects everybody and stops everything for a content. */
  #abandon(content: ContentRecall, error: EbbError): void {
    for (const waiter of content.waiters) {
      this.#remove(content, waiter);
      waiter.reject(error);
    }
    for (const flight of content.flights.list()) this.#giveUp(content, flight);
    this.#forgetIfIdle(content);
  }

  /** Waiters, maybe thousands, go before their chunks came: stops what was only for them. */
  #leave(content: ContentRecall, waiters: readonly Waiter[]): void {
    for (const waiter of waiters) this.#remove(content, waiter);
    for (const flight of content.flightsFor(waiters)) {
      if (endsWithoutWaiters(flight) && !content.hasUse(flight)) this.#giveUp(content, flight);
    }
    this.#forgetIfIdle(content);
  }

  #remove(content: ContentRecall, waiter: Waiter): void {
    if (!content.waiters.delete(waiter)) return;
    this.#hungry.delete(waiter);
    this.#waiting -= 1;
  }

  /** Takes a flight out of the table at once, so that nobody joins it any more. */
  #giveUp(content: ContentRecall, flight: Flight): void {
    if (!content.flights.remove(flight)) return;
    flight.cancelled = true;
    this.#hungry.moved();
    if (flight.transfer !== undefined) {
      content.leaving.add(flight);
      flight.transfer.stop(ebbError('EINTR', `The recall of ${flight.file.key} was given up.`));
    } else {
      this.#dispatcher.withdraw(flight);
      this.#report('cancelled', flight, undefined);
    }
    for (const waiter of content.waiters) {
      waiter.unplan(flight.first, flight.end);
      if (waiter.cursor < waiter.cursorEnd) this.#hungry.add(content, waiter);
    }
  }

  #contentFor(file: ContentFile): ContentRecall {
    const known = this.#contents.get(file.id);
    if (known !== undefined) return known;
    const content = new ContentRecall(file);
    this.#contents.set(file.id, content);
    return content;
  }

  #contentOf(flight: Flight): ContentRecall | undefined {
    return this.#contents.get(flight.file.id);
  }

  #forgetIfIdle(content: ContentRecall): void {
    if (content.idle && this.#contents.get(content.file.id) === content) {
      this.#contents.delete(content.file.id);
    }
    if (this.#contents.size === 0) this.#alarm.disarm();
  }

  async #settled(flights: readonly Flight[]): Promise<void> {
    await Promise.all(flights.map((flight) => flight.finished));
  }

  #report(kind: RecallEvent['kind'], flight: Flight, error: EbbError | undefined): void {
    const { onEvent } = this.#options;
    if (onEvent === undefined) return;
    const started = flight.transfer !== undefined;
    const durationMs = started ? this.#clock.monotonicMs() - flight.activeSinceMs : 0;
    onEvent({ kind, flight: flight.view(), durationMs, error });
  }
}
