/**
 * Flights: which chunks of a file are being brought, by whom and why. The table of one file never holds two
 * flights for one chunk.
 */
import { assert } from '../base/assert.ts';
import type { ContentFile } from '../tree/content.ts';
import type { ChunkRun } from '../tree/residency.ts';
import type { FlightView, Intent, Requester } from './recall.ts';
import type { Transfer } from './transfer.ts';

export interface FlightOptions {
  readonly file: ContentFile;
  readonly chunks: ChunkRun;
  readonly intent: Intent;
  readonly requester: Requester;
  readonly streamId: number | undefined;
  /** The remote gives whole files only: read from 0 to the end. */
  readonly whole: boolean;
  readonly startedAtMs: number;
}

const settled = Promise.resolve();

export class Flight {
  readonly file: ContentFile;
  readonly first: number;
  readonly end: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly whole: boolean;
  readonly requester: Requester;
  /** Why it was made. */
  readonly origin: Intent;
  /** The most urgent intent of those who joined. Changed through Admission.promote while queued. */
  intent: Intent;
  /** Open files whose read-ahead it serves. */
  readonly streamIds: Set<number> = new Set();
  readonly startedAtMs: number;
  /** Monotonic: when it was started at the remote, and when a byte arrived last. */
  activeSinceMs = 0;
  firstByteAtMs = 0;
  progressAtMs = 0;
  receivedBytes = 0;
  doneBytes = 0;
  /** Set while the remote works on it. */
  transfer: Transfer | undefined;
  /** It was said that there is room for it. */
  hasRoom = false;
  /** Resolves when nothing of it touches the file any more. Never rejects. */
  finished: Promise<void> = settled;
  /** Given up by the engine: its end is nobody's failure. */
  cancelled = false;

  constructor(options: FlightOptions) {
    const { file, chunks } = options;
    assert(chunks.count > 0, 'a flight brings chunks');
    this.file = file;
    this.first = chunks.first;
    this.end = chunks.first + chunks.count;
    const range = file.residency.bytesOf(chunks);
    this.offsetBytes = range.offsetBytes;
    this.lengthBytes = range.lengthBytes;
    this.whole = options.whole;
    this.requester = options.requester;
    this.origin = options.intent;
    this.intent = options.intent;
    if (options.streamId !== undefined) this.streamIds.add(options.streamId);
    this.startedAtMs = options.startedAtMs;
  }

  get chunks(): ChunkRun {
    return { first: this.first, count: this.end - this.first };
  }

  overlaps(first: number, end: number): boolean {
    return this.first < end && first < this.end;
  }

  view(): FlightView {
    return {
      contentId: this.file.id,
      key: this.file.key,
      offsetBytes: this.offsetBytes,
      lengthBytes: this.lengthBytes,
      doneBytes: this.doneBytes,
      intent: this.intent,
      requester: this.requester,
      startedAtMs: this.startedAtMs,
    };
  }
}

/** The flights of one file, ascending, without overlaps. */
export class FlightTable {
  readonly #flights: Flight[] = [];

  get size(): number {
    return this.#flights.length;
  }

  /** A copy: the table may change while it is gone through. */
  list(): Flight[] {
    return [...this.#flights];
  }

  add(flight: Flight): void {
    const index = this.#indexFrom(flight.first);
    const next = this.#flights[index];
    assert(next === undefined || next.first >= flight.end, 'a chunk has one flight');
    this.#flights.splice(index, 0, flight);
  }

  /** False when it is not in the table (any more). */
  remove(flight: Flight): boolean {
    const index = this.#indexFrom(flight.first);
    if (this.#flights[index] !== flight) return false;
    this.#flights.splice(index, 1);
    return true;
  }

  /** The flights that bring chunks of `[first, end)`, ascending. */
  overlapping(first: number, end: number): Flight[] {
    const found: Flight[] = [];
    for (let index = this.#indexFrom(first); index < this.#flights.length; index += 1) {
      const flight = this.#flights[index] as Flight;
      if (flight.first >= end) break;
      found.push(flight);
    }
    return found;
  }

  /** Index of the first flight that ends behind `chunk`. */
  #indexFrom(chunk: number): number {
    let low = 0;
    let high = this.#flights.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#flights[middle] as Flight).end <= chunk) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
