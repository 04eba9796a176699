/**
 * Runs flights: queues them in `Admission`, starts what may start, keeps the budgets, and tells the engine what
 * arrived and how each ended. Knows nothing of waiters or read-ahead.
 */
import type { Clock } from '../base/clock.ts';
import { ebbError, toEbbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import type { Remote } from '../remote/remote.ts';
import { Admission } from './admission.ts';
import { BufferPool } from './buffer-pool.ts';
import type { Flight } from './flights.ts';
import { Front, frontOf } from './front.ts';
import { isAhead } from './limits.ts';
import type { RecallLimits } from './limits.ts';
import { Pace } from './pace.ts';
import type { Intent, Reserve, Traffic } from './recall.ts';
import { Transfer } from './transfer.ts';

export interface DispatcherOptions {
  readonly remote: Remote;
  readonly clock: Clock;
  readonly limits: RecallLimits;
  readonly reserve: Reserve;
  readonly isWanted: (flight: Flight, firstChunk: number, endChunk: number) => boolean;
  readonly onStarted: (flight: Flight) => void;
  readonly onWritten: (flight: Flight, firstChunk: number, chunkCount: number) => void;
  /** Up to where somebody waits for bytes of the flight's first chunk; undefined: nobody, or for all of it. */
  readonly neededTo: (flight: Flight) => number | undefined;
  /** The flight's first bytes are in the local file, up to `toBytes`, which is inside its first chunk. */
  readonly onBytes: (flight: Flight, toBytes: number) => void;
  /** Nothing of the flight touches the file any more. */
  readonly onEnded: (flight: Flight, error: EbbError | undefined) => void;
}

/** Each request under way fills a buffer of its own; beside these so many may be written, at least. */
const spareBuffers = 4;
/** Receive buffers that are kept although nobody needs them. */
const idleBuffersMin = 2;
/**
 * Buffers that nobody needed for so long are given back. Not sooner: a reader slower than the remote makes pauses, and
 * would ask for the memory again at once.
 */
const unusedMs = 1_000;

export class Dispatcher {
  readonly pace: Pace;
  readonly front: Front;
  readonly #options: DispatcherOptions;
  readonly #admission: Admission<Flight>;
  readonly #pool: BufferPool;
  readonly #active: Set<Flight> = new Set();
  #activeBytes = 0;
  #writtenBytes = 0;
  #trimTimer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: DispatcherOptions) {
    const { limits } = options;
    this.#options = options;
    this.pace = new Pace(limits);
    this.front = new Front(options);
    this.#admission = new Admission(limits);
    this.#pool = new BufferPool(
      limits.bufferBytes,
      limits.bufferPoolMaxBytes,
      limits.parallelRequestsMax + spareBuffers,
    );
  }

  /** Flights under way at the remote. */
  get active(): ReadonlySet<Flight> {
    return this.#active;
  }

  get queuedCount(): number {
    return this.#admission.size;
  }

  get bufferBytesHeld(): number {
    return this.#pool.heldBytes;
  }

  /** How many more flights of this intent may be queued. */
  room(intent: Intent): number {
    return this.#admission.room(intent);
  }

  /** Queues a flight; `pump` starts it. The caller has asked `room`. */
  enqueue(flight: Flight): void {
    this.#admission.add(flight);
  }

  /** Takes a queued flight back. False when it is not queued. */
  withdraw(flight: Flight): boolean {
    return this.#admission.remove(flight);
  }

  /** Makes a flight more urgent. */
  promote(flight: Flight, intent: Intent): void {
    this.#admission.promote(flight, intent);
  }

  /** The queued flight that demand may push out, if `mayGo` accepts one. */
  worstQueued(mayGo: (flight: Flight) => boolean): Flight | undefined {
    return this.#admission.worst(mayGo);
  }

  /** Starts what may start now. */
  pump(): void {
    while (!this.#closed) {
      const flight = this.#admission.next(this.#active.size, this.#activeBytes);
      if (flight === undefined) return;
      this.#active.add(flight);
      this.#activeBytes += flight.lengthBytes;
      this.#trimOften();
      flight.finished = this.#run(flight);
    }
  }

  /** Stops active flights that brought nothing for `stallMaxMs`. Returns when the next could be due, or Infinity. */
  stopStalled(nowMs: number): number {
    const { stallMaxMs } = this.#options.limits;
    let nextMs = Infinity;
    for (const flight of this.#active) {
      // Who has to wait for the local disk is not the remote's fault; he has a deadline of his own.
      if (flight.transfer?.isWriting === true) flight.progressAtMs = nowMs;
      const dueMs = flight.progressAtMs + stallMaxMs;
      if (dueMs > nowMs) {
        nextMs = Math.min(nextMs, dueMs);
        continue;
      }
      const message = `The remote sent nothing of ${flight.file.key} for ${stallMaxMs} ms.`;
      flight.transfer?.stop(ebbError('EIO', message, { retryable: true }));
    }
    return nextMs;
  }

  /** Starts nothing any more. */
  close(): void {
    this.#closed = true;
  }

  async #run(flight: Flight): Promise<void> {
    const { clock, remote } = this.#options;
    flight.activeSinceMs = clock.monotonicMs();
    flight.progressAtMs = flight.activeSinceMs;
    const transfer = this.#transferOf(flight);
    flight.transfer = transfer;
    this.#options.onStarted(flight);
    let failure: EbbError | undefined;
    try {
      const reserved = this.#reserve(flight);
      if (reserved !== undefined) await reserved;
      flight.hasRoom = true;
      flight.progressAtMs = clock.monotonicMs();
      await transfer.run(remote);
      this.#measure(flight);
    } catch (error) {
      failure = toEbbError(error);
      // Where there is no room that is known at once: without a turn of its own each would end within the one before.
      await Promise.resolve();
    }
    this.#active.delete(flight);
    this.#activeBytes -= flight.lengthBytes;
    this.#options.onEnded(flight, failure);
    this.pump();
  }

  /** While requests are under way, and until the last of their memory is given back. */
  #trimOften(): void {
    this.#trimTimer ??= setInterval(() => {
      this.#pool.trimUnused(idleBuffersMin);
      if (this.#active.size > 0 || this.#pool.idle > idleBuffersMin) return;
      clearInterval(this.#trimTimer);
      this.#trimTimer = undefined;
    }, unusedMs).unref();
  }

  /** Where the first write of a flight may end before its first chunk does. */
  #frontEnd(flight: Flight): number | undefined {
    const neededToBytes = this.#options.neededTo(flight);
    const { limits } = this.#options;
    const { offsetBytes, lengthBytes, file } = flight;
    const { chunkBytes } = file.residency;
    if (neededToBytes === undefined || flight.whole || chunkBytes > limits.bufferBytes)
      return undefined;
    const front = frontOf(neededToBytes - offsetBytes, lengthBytes, chunkBytes, limits);
    return front === undefined ? undefined : offsetBytes + front;
  }

  #transferOf(flight: Flight): Transfer {
    const { clock, limits } = this.#options;
    return new Transfer({
      file: flight.file,
      chunks: flight.chunks,
      whole: flight.whole,
      pool: this.#pool,
      buffersMax: limits.buffersPerRequestMax,
      frontEndBytes: this.#frontEnd(flight),
      onFront: (toBytes) => this.#options.onBytes(flight, toBytes),
      isWanted: (first, end) => this.#options.isWanted(flight, first, end),
      onWritten: (first, count) => {
        this.#writtenBytes += flight.file.residency.bytesOf({ first, count }).lengthBytes;
        this.#options.onWritten(flight, first, count);
      },
      onReceived: (countBytes) => {
        flight.progressAtMs = clock.monotonicMs();
        if (flight.receivedBytes === 0) flight.firstByteAtMs = flight.progressAtMs;
        flight.receivedBytes += countBytes;
      },
      makeRoom: (bytes) =>
        this.#options.reserve(bytes, flight.intent, { ...this.#traffic(flight), isRefused: true }),
    });
  }

  #reserve(flight: Flight): void | Promise<void> {
    const { lengthBytes, intent } = flight;
    try {
      const reserved = this.#options.reserve(lengthBytes, intent, this.#traffic(flight));
      return reserved?.catch((error: unknown) => this.#reserveAgain(flight, error));
    } catch (error) {
      return this.#reserveAgain(flight, error);
    }
  }

  /** What is read ahead gives its room to who is asked for. */
  async #reserveAgain(flight: Flight, error: unknown): Promise<void> {
    const ahead = [...this.#active].filter(({ intent, hasRoom }) => hasRoom && isAhead(intent));
    if (isAhead(flight.intent) || ahead.length === 0 || !isFull(error)) throw error;
    const reason = ebbError('EAGAIN', 'The room is needed for what somebody asks for.');
    for (const { transfer } of ahead) transfer?.stop(reason);
    await Promise.all(ahead.map(({ finished }) => finished));
    await this.#options.reserve(flight.lengthBytes, flight.intent, this.#traffic(flight));
  }

  #traffic(own: Flight): Traffic {
    const now = (): ReturnType<NonNullable<Traffic['now']>> => {
      let otherBytes = 0;
      for (const flight of this.#active) {
        if (flight === own || !flight.hasRoom) continue;
        otherBytes += flight.lengthBytes - flight.doneBytes;
      }
      return { otherBytes, writtenBytes: this.#writtenBytes };
    };
    return { now };
  }

  #measure(flight: Flight): void {
    this.pace.record({
      firstByteMs: flight.firstByteAtMs - flight.activeSinceMs,
      bodyMs: flight.progressAtMs - flight.firstByteAtMs,
      bodyBytes: flight.receivedBytes,
    });
  }
}

function isFull(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT'].includes(toEbbError(error).code);
}
