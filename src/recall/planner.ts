/**
 * Turns what waiters and streams want into flights: joins those that exist, makes those that are missing, moves
 * urgent parts forward. The arithmetic is in plan.ts; here it meets the tables and the queue.
 */
import type { Clock } from '../base/clock.ts';
import type { ContentRecall } from './content-recall.ts';
import type { Dispatcher } from './dispatcher.ts';
import { Flight } from './flights.ts';
import { intentRank } from './limits.ts';
import type { RecallLimits } from './limits.ts';
import { demandPieceBytes, planPieces } from './plan.ts';
import type { Intent, Requester } from './recall.ts';
import type { Waiter } from './waiter.ts';

export interface PlannerOptions {
  readonly dispatcher: Dispatcher;
  readonly clock: Clock;
  readonly limits: RecallLimits;
  readonly supportsRanges: () => boolean;
  /** Gives a flight up for good. */
  readonly giveUp: (content: ContentRecall, flight: Flight) => void;
  readonly contentOf: (flight: Flight) => ContentRecall | undefined;
}

/** On whose behalf a flight is made. */
interface Cause {
  readonly intent: Intent;
  readonly requester: Requester;
  readonly streamId: number | undefined;
}

export interface AheadRequest extends Cause {
  readonly fromBytes: number;
  readonly toBytes: number;
  /** The window of the stream: several requests share it. */
  readonly windowBytes: number;
}

/** Chunks looked at in one step: keeps a step short for files with millions of chunks. */
const scanChunksMax = 1024;
/** A window is read ahead in about so many requests, to keep several under way. */
const piecesPerWindow = 8;

export class Planner {
  readonly #options: PlannerOptions;

  constructor(options: PlannerOptions) {
    this.#options = options;
  }

  /** Whether a flight of this intent could be made; if not, none that is less urgent could. */
  hasRoom(intent: Intent): boolean {
    return (
      this.#options.dispatcher.room(intent) > 0 ||
      (intent === 'demand' && this.#unused() !== undefined)
    );
  }

  /** Plans on for a waiter. True when all it wants is resident or has a flight. */
  planWaiter(content: ContentRecall, waiter: Waiter): boolean {
    if (this.#isWhole(content)) return this.#planWhole(content, waiter);
    const { limits } = this.#options;
    const cause = waiter.options;
    while (waiter.cursor < waiter.cursorEnd) {
      const first = waiter.cursor;
      const end = Math.min(waiter.cursorEnd, first + scanChunksMax);
      this.#urge(content, first, end, cause);
      const ownFlights = content.flights.overlapping(waiter.front, waiter.cursorEnd).length;
      const piecesMax = Math.min(limits.flightsPerWaiterMax - ownFlights, this.#room(cause.intent));
      const pieceChunksMax = this.#pieceChunks(content, waiter.cursorEnd - first);
      waiter.cursor = this.#plan(content, first, end, pieceChunksMax, piecesMax, cause);
      if (waiter.cursor < end) return false;
    }
    return true;
  }

  /** Plans read-ahead. Returns up to which chunk it is planned. */
  planAhead(content: ContentRecall, request: AheadRequest): number {
    const { residency } = content.file;
    const { fromBytes, toBytes } = request;
    const run = residency.chunksOf(fromBytes, toBytes - fromBytes);
    const end = run.first + run.count;
    if (this.#isWhole(content)) return end;
    for (const flight of content.flights.overlapping(run.first, end)) {
      if (request.streamId !== undefined) flight.streamIds.add(request.streamId);
    }
    const { dispatcher, limits } = this.#options;
    const shareBytes = Math.max(limits.rangeMinBytes, request.windowBytes / piecesPerWindow);
    const pieceBytes = Math.min(dispatcher.pace.pieceBytes(), shareBytes);
    const pieceChunksMax = Math.max(1, Math.floor(pieceBytes / residency.chunkBytes));
    const piecesMax = Math.min(2 * piecesPerWindow, dispatcher.room('readahead'));
    return this.#plan(content, run.first, end, pieceChunksMax, piecesMax, request);
  }

  #isWhole(content: ContentRecall): boolean {
    return content.wholeOnly || !this.#options.supportsRanges();
  }

  #pieceChunks(content: ContentRecall, wantedChunks: number): number {
    const { dispatcher, limits } = this.#options;
    const { chunkBytes } = content.file.residency;
    const pieceBytes = demandPieceBytes(
      wantedChunks * chunkBytes,
      limits.parallelRequestsMax,
      Math.max(limits.rangeMinBytes, chunkBytes),
      Math.max(dispatcher.pace.pieceBytes(), chunkBytes),
    );
    return Math.max(1, Math.floor(pieceBytes / chunkBytes));
  }

  /** Makes flights for what is missing in `[first, end)`; returns up to where it is planned. */
  #plan(
    content: ContentRecall,
    first: number,
    end: number,
    pieceChunksMax: number,
    piecesMax: number,
    cause: Cause,
  ): number {
    const { residency } = content.file;
    const { offsetBytes, lengthBytes } = residency.bytesOf({ first, count: end - first });
    const covered = content.flights.overlapping(first, end).map((flight) => flight.chunks);
    const plan = planPieces({
      missing: residency.missing(offsetBytes, lengthBytes),
      covered,
      plannedEnd: end,
      pieceChunksMax,
      piecesMax: Math.max(0, piecesMax),
    });
    for (const chunks of plan.pieces) {
      this.#make(content, chunks.first, chunks.first + chunks.count, cause, false);
    }
    return plan.plannedToChunk;
  }

  #make(content: ContentRecall, first: number, end: number, cause: Cause, whole: boolean): Flight {
    const flight = new Flight({
      file: content.file,
      chunks: { first, count: end - first },
      intent: cause.intent,
      requester: cause.requester,
      streamId: cause.intent === 'readahead' || whole ? cause.streamId : undefined,
      whole,
      startedAtMs: this.#options.clock.nowMs(),
    });
    content.flights.add(flight);
    this.#options.dispatcher.enqueue(flight);
    return flight;
  }

  /**
   * Somebody joins the flights of `[first, end)`. Queued ones that are less urgent give up the wanted part,
   * which then goes first; active ones write out what they have already received.
   */
  #urge(content: ContentRecall, first: number, end: number, cause: Cause): void {
    const { dispatcher } = this.#options;
    for (const flight of content.flights.overlapping(first, end)) {
      if (flight.transfer !== undefined) {
        dispatcher.promote(flight, cause.intent);
        flight.transfer.flushWanted();
      } else if (intentRank[flight.intent] > intentRank[cause.intent]) {
        this.#carve(content, flight, first, end, cause);
      }
    }
  }

  #carve(content: ContentRecall, flight: Flight, first: number, end: number, cause: Cause): void {
    const { dispatcher } = this.#options;
    const from = Math.max(first, flight.first);
    const to = Math.min(end, flight.end);
    const parts = 1 + Number(flight.first < from) + Number(to < flight.end);
    if (flight.whole || dispatcher.room(cause.intent) + 1 < parts) {
      dispatcher.promote(flight, cause.intent);
      return;
    }
    dispatcher.withdraw(flight);
    content.flights.remove(flight);
    const rest = { intent: flight.intent, requester: flight.requester, streamId: undefined };
    this.#make(content, from, to, cause, false);
    const left = flight.first < from && this.#make(content, flight.first, from, rest, false);
    const right = to < flight.end && this.#make(content, to, flight.end, rest, false);
    for (const part of [left, right]) {
      if (part !== false) for (const streamId of flight.streamIds) part.streamIds.add(streamId);
    }
  }

  /** Room in the queue; demand pushes out what nobody waits for. */
  #room(intent: Intent): number {
    const { dispatcher, contentOf, giveUp } = this.#options;
    const room = dispatcher.room(intent);
    if (room > 0 || intent !== 'demand') return room;
    const worst = this.#unused();
    const content = worst === undefined ? undefined : contentOf(worst);
    if (worst === undefined || content === undefined) return 0;
    giveUp(content, worst);
    return dispatcher.room(intent);
  }

  /** The queued flight that nobody waits for which demand pushes out first. */
  #unused(): Flight | undefined {
    const { dispatcher, contentOf } = this.#options;
    return dispatcher.worstQueued((flight) => contentOf(flight)?.hasUse(flight) === false);
  }

  /** The remote gives whole files only: one flight from 0, everybody waits for its front. */
  #planWhole(content: ContentRecall, waiter: Waiter): boolean {
    const { dispatcher, giveUp } = this.#options;
    const cause = waiter.options;
    let whole = content.flights.list().find((flight) => flight.whole);
    if (whole === undefined) {
      if (this.#room(cause.intent) === 0) return false;
      for (const flight of content.flights.list()) giveUp(content, flight);
      whole = this.#make(content, 0, content.file.residency.chunkCount, cause, true);
    }
    if (cause.streamId !== undefined) whole.streamIds.add(cause.streamId);
    dispatcher.promote(whole, cause.intent);
    whole.transfer?.flushWanted();
    waiter.cursor = waiter.cursorEnd;
    return true;
  }
}
