/** Every maximum of the recall engine, by name and unit, with its default and the reason for it. */
import type { Intent } from './recall.ts';

export interface RecallLimits {
  /** Requests under way at the remote at once, all files together. 1 ..  */
  readonly parallelRequestsMax: number;
  /** Of these, kept free for demand: read-ahead and `get` never take the last ones. */
  readonly demandReservedRequests: number;
  /** Content asked for and not yet here, all requests under way together. */
  readonly bytesInFlightMax: number;
  /** Size of one ranged request: not smaller when more than this is wanted in a row ... */
  readonly rangeMinBytes: number;
  /** ... and never larger. Between the two, `Pace` chooses. */
  readonly rangeMaxBytes: number;
  /** Files up to this size are fetched whole, in one request, whatever part was asked for. */
  readonly smallFileMaxBytes: number;
  /** First read-ahead window of a sequential reader. */
  readonly readAheadInitialBytes: number;
  /** The window doubles up to this. 0 = no read-ahead. */
  readonly readAheadMaxBytes: number;
  /** Reading streams remembered; the oldest is forgotten (and has to prove itself again). */
  readonly streamsMax: number;
  /** Size of one receive buffer = of one write to the local file (rounded up to whole chunks). */
  readonly bufferBytes: number;
  /**
   * Who waits for the front of a chunk only is served when that is written, in a multiple of this. Not less: the local
   * file system would have to read a larger block before it could be written in parts.
   */
  readonly frontBytes: number;
  /**
   * Memory for all receive buffers; one for each parallel request and four more are always allowed. Not more than
   * that: what is used again at once is still in the processor's cache when it is written.
   */
  readonly bufferPoolMaxBytes: number;
  /** Buffers that one request may hold (one filling, the others being written). 2 .. */
  readonly buffersPerRequestMax: number;
  /** Flights waiting for admission, all classes. */
  readonly queuedFlightsMax: number;
  /** Flights, queued or active, that exist at once for one big `ensure`. */
  readonly flightsPerWaiterMax: number;
  /** Callers waiting in `ensure`; more are refused with EAGAIN. */
  readonly waitersMax: number;
  /** How long a `demand` waits unless it says otherwise. Other intents wait as long as there is progress. */
  readonly deadlineMs: number;
  /** A request that brought no byte for so long is given up with EIO. */
  readonly stallMaxMs: number;
  /** Requesters remembered for `requesters()`. */
  readonly requestersMax: number;
}

const MiB = 1024 * 1024;

export const defaultRecallLimits: RecallLimits = Object.freeze({
  parallelRequestsMax: 8,
  demandReservedRequests: 2,
  bytesInFlightMax: 128 * MiB,
  rangeMinBytes: 1 * MiB,
  rangeMaxBytes: 8 * MiB,
  smallFileMaxBytes: 1 * MiB,
  readAheadInitialBytes: 1 * MiB,
  readAheadMaxBytes: 64 * MiB,
  streamsMax: 4096,
  bufferBytes: 1 * MiB,
  frontBytes: MiB / 16,
  bufferPoolMaxBytes: 16 * MiB,
  buffersPerRequestMax: 4,
  queuedFlightsMax: 1024,
  flightsPerWaiterMax: 16,
  waitersMax: 16_384,
  deadlineMs: 60_000,
  stallMaxMs: 60_000,
  requestersMax: 1024,
});

/** Intents by priority: 0 is served first. */
export const intentRank: Readonly<Record<Intent, number>> = Object.freeze({
  demand: 0,
  readahead: 1,
  get: 2,
  prefetch: 3,
});

/** Intents in order of priority. */
export const intentsByRank: readonly Intent[] = Object.freeze([
  'demand',
  'readahead',
  'get',
  'prefetch',
]);

/** Nobody has asked for it yet. */
export function isAhead(intent: Intent): boolean {
  return intent === 'readahead' || intent === 'prefetch';
}
