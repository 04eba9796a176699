/** What goes on for one content: its flights and those who wait. Exists only while there is something. */
import type { ContentFile } from '../tree/content.ts';
import { FlightTable } from './flights.ts';
import type { Flight } from './flights.ts';
import type { Waiter } from './waiter.ts';

export class ContentRecall {
  readonly file: ContentFile;
  readonly flights: FlightTable = new FlightTable();
  /** Stopped flights that may still write: out of the table, but the content is not idle. */
  readonly leaving: Set<Flight> = new Set();
  readonly waiters: Set<Waiter> = new Set();
  /** The remote refused a range of this file (EOPNOTSUPP). */
  wholeOnly = false;

  constructor(file: ContentFile) {
    this.file = file;
  }

  get idle(): boolean {
    return this.flights.size === 0 && this.leaving.size === 0 && this.waiters.size === 0;
  }

  isWanted(firstChunk: number, endChunk: number): boolean {
    for (const waiter of this.waiters) if (waiter.waitsFor(firstChunk, endChunk)) return true;
    return false;
  }

  /** The least that somebody waits for in this chunk who needs no more than bytes: up to there. */
  neededTo(chunk: number): number | undefined {
    let leastBytes: number | undefined;
    for (const waiter of this.waiters) {
      const { bytes } = waiter.options;
      if (bytes === undefined || !waiter.waitsFor(chunk, chunk + 1)) continue;
      leastBytes = Math.min(leastBytes ?? Infinity, bytes.neededToBytes);
    }
    return leastBytes;
  }

  /** Whether some waiter counts on this flight (also for what it planned beyond what it waits for). */
  hasUse(flight: Flight): boolean {
    for (const waiter of this.waiters) {
      if (flight.overlaps(waiter.options.planned.first, waiter.cursorEnd)) return true;
    }
    return false;
  }

  /** On which some of these counted, see `hasUse`. */
  flightsFor(waiters: readonly Waiter[]): Set<Flight> {
    const flights = new Set<Flight>();
    for (const { options, cursorEnd } of waiters) {
      for (const flight of this.flights.overlapping(options.planned.first, cursorEnd)) {
        flights.add(flight);
      }
    }
    return flights;
  }

  /** Those who wait for a chunk of the flight that has not arrived. */
  waitersOf(flight: Flight): Waiter[] {
    return [...this.waiters].filter((waiter) => {
      const first = Math.max(waiter.front, flight.first);
      const end = Math.min(waiter.end, flight.end);
      for (let chunk = first; chunk < end; chunk += 1) {
        if (!this.file.residency.hasChunk(chunk)) return true;
      }
      return false;
    });
  }

  /** A flight for these chunks will not bring them: whoever counts on it plans again. */
  unplan(flight: Flight): void {
    for (const waiter of this.waiters) waiter.unplan(flight.first, flight.end);
  }
}

/**
 * Whether a flight has lost its reason when nobody waits any more. Read-ahead and prefetch may finish; so may
 * a whole-file flight, because the next reader of a remote without ranges would have to begin at 0 again.
 */
export function endsWithoutWaiters(flight: Flight): boolean {
  if (flight.whole || flight.streamIds.size > 0) return false;
  return flight.origin === 'demand' || flight.origin === 'get';
}
