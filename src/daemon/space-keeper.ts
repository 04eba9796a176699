/**
 * Keeps the local bytes of a mount or a tree within their limits: releases least recently used content in strokes,
 * before recalls need the room and on a timer. What to release is decided in policy/, whether it may be is decided in
 * tree/.
 *
 * `--cache-size` bounds what nobody uses. A file that is open cannot be released, so while programs have more open
 * than the limit allows there is more, and it shrinks when they close: failing their reads instead would help nobody.
 * `--min-free` and the disk itself are hard: then a recall ends in ENOSPC.
 */
import { endedWithin, sleep } from '../base/deadline.ts';
import { ebbError, toEbbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import { formatSize } from '../base/format.ts';
import { bytesToRelease, chooseReleases } from '../policy/release-policy.ts';
import type { ReleaseRow, SpaceLimits, SpaceUse } from '../policy/release-policy.ts';
import { isAhead } from '../recall/limits.ts';
import type { Intent, Traffic } from '../recall/recall.ts';
import type { Logbook } from './logbook.ts';

const checkIntervalMs = 2_000;
/** A recall waits at most this long for room before it goes on (or fails, when there is really none). */
const roomWaitMaxMs = 20_000;
const parallelReleasesMax = 4;
/** Without limits of its own the cache takes this much for a reader without a look at the disk. */
const uncheckedMaxBytes = 1024 * 1024;
/** After a stroke that found nothing to release, the next one waits ... */
const fruitlessPauseMs = 2_000;
/** ... but not so long where somebody would be refused: a file may have been closed since. */
const urgentPauseMs = 100;
/** So often somebody waits so long, at the most, before he is refused. */
const waitsMax = 20;
/** So often it is tried anew when a shortage begins and files are in use, which may just have been closed. */
const patientStrokes = 10;
/** What was released is free for others when it was counted so often, at the latest. */
const patientCounts = 10;

/** Whose room is kept: the contents of a cache, or the stubs of a tree. */
export interface Reservoir {
  /** What the files take on disk, and what is free on their file system. Bytes; cheap, asked before each recall. */
  use(): Pick<SpaceUse, 'allocatedBytes' | 'freeBytes'>;
  /** Brings what was recalled just now into the records: it may be what has to go. */
  flush(): Promise<void>;
  /** Least recently used first. Read no further than needed. */
  leastRecentlyUsed(): Iterable<ReleaseRow>;
  /** What writes leave free whatever the limits say (tree/room.ts). */
  readonly reservedBytes: number;
  /**
   * Present where `use` does not know what was written or freed just now (btrfs, until its next transaction): when it
   * resolves `use` knows all that was before the call.
   */
  readonly count?: () => Promise<void>;
}

/** How one of them is released. */
export interface SpaceReleaser {
  /** Never rejects for what the outside world does. */
  releaseForSpace(id: number, signal: AbortSignal): Promise<ReleaseOutcome>;
}

export type ReleaseOutcome =
  | { readonly releasedBytes: number }
  /** `refused`: a sentence; `code`: the name of an errno. */
  | { readonly refused: string; readonly code: string };

export interface SpaceKeeperOptions {
  readonly limits: SpaceLimits;
  readonly reservoir: Reservoir;
  readonly logbook: Logbook;
  readonly isBusy: (id: number) => boolean;
  readonly monotonicMs: () => number;
}

/** One recall that asks for room. */
interface Ask {
  readonly bytes: number;
  /** Somebody asked for it; false: it is read ahead. */
  readonly isAsked: boolean;
  /** Now, with what else is under way. */
  readonly wantedBytes: () => number;
  /** The file system has refused a write already, whatever it says. */
  readonly isRefused: boolean;
}

const nothing: Ask = { bytes: 0, isAsked: false, wantedBytes: () => 0, isRefused: false };
const noTraffic: Traffic = Object.freeze({});

function noRoomAhead(): EbbError {
  return ebbError('EAGAIN', 'There is no room for what nobody has asked for.');
}

export class SpaceKeeper {
  readonly #options: SpaceKeeperOptions;
  readonly #closing = new AbortController();
  #releaser: SpaceReleaser | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** `--cache-size` and `--min-free`; with any of them what is kept free anyway is a limit, too. */
  readonly #sizeLimit: SpaceLimits;
  readonly #freeLimit: SpaceLimits;
  readonly #isLimited: boolean;
  /** Recalls leave so much free, or fail. */
  readonly #floorBytes: number;
  #stroke: Promise<number> | undefined;
  #pausedUntilMs = 0;
  #urgentAtMs = 0;
  #strokesLeft = 0;
  #countsLeft = 0;
  #holds = 0;
  #counting: Promise<void> | undefined;
  /** What recalls had written when it was asked last, and when it was counted last (`Reservoir.count`). */
  #writtenBytes = 0;
  #countedBytes = 0;

  constructor(options: SpaceKeeperOptions) {
    const { cacheSizeBytes, minFreeBytes } = options.limits;
    this.#options = options;
    this.#isLimited = cacheSizeBytes !== undefined || minFreeBytes !== undefined;
    this.#floorBytes = Math.max(minFreeBytes ?? 0, options.reservoir.reservedBytes);
    this.#sizeLimit = { cacheSizeBytes };
    this.#freeLimit = this.#isLimited ? { minFreeBytes: this.#floorBytes } : {};
  }

  start(releaser: SpaceReleaser): void {
    this.#releaser = releaser;
    this.#timer = setInterval(() => this.#checkInTime(), checkIntervalMs);
    this.#timer.unref();
  }

  /**
   * As `Reserve`: makes room for a recall. ENOSPC when it would leave the disk with less than `--min-free`, or than
   * is kept of it anyway. A promise only where something is being released or counted.
   */
  reserve(bytes: number, intent: Intent, traffic = noTraffic): void | Promise<void> {
    const isAsked = !isAhead(intent);
    const { isRefused = false } = traffic;
    // Nothing would be released; whether there is room at all is looked at before each write (tree/room.ts).
    const isSeen = this.#options.reservoir.count === undefined && !isRefused;
    if (isAsked && isSeen && bytes <= uncheckedMaxBytes && !this.#isLimited) return;
    // Who reads ahead leaves as much as he takes to those who are asked for.
    const ownBytes = isAsked ? bytes : 2 * bytes;
    const wantedBytes = (): number => this.#follow(traffic) + ownBytes;
    const ask: Ask = { bytes, isAsked, wantedBytes, isRefused };
    if (!this.#isOver(ask)) return;
    if (intent !== 'prefetch') return this.#makeRoom(ask);
    this.#count().catch(() => undefined);
    throw noRoomAhead();
  }

  /** Releases and counts until there is room, as long as that helps. */
  async #makeRoom(first: Ask): Promise<void> {
    const { monotonicMs } = this.#options;
    const untilMs = monotonicMs() + roomWaitMaxMs;
    let ask = first;
    let waits = 0;
    await this.#count();
    while (this.#isOver(ask) && monotonicMs() < untilMs) {
      let freedBytes = 0;
      const stroke = this.#check(this.#excessBytes(ask), ask.isAsked);
      if (stroke !== undefined) {
        const ended = stroke.then((bytes) => (freedBytes = bytes));
        await endedWithin(ended, untilMs - monotonicMs());
        ask = { ...ask, isRefused: false };
      }
      if (freedBytes === 0) {
        if (waits === waitsMax || !this.#isShort(ask) || !this.#mayPass(ask)) break;
        waits += 1;
        await sleep(urgentPauseMs);
      }
      await this.#count();
    }
    this.#requireFree(ask);
  }

  /** Whether a shortage may be over in a moment: a file was just closed, or what was freed is not given out yet. */
  #mayPass({ isAsked }: Ask): boolean {
    if (!isAsked || this.#closing.signal.aborted) return false;
    return this.#strokesLeft > 0 || this.#isGivingBack;
  }

  /** btrfs takes block groups that became empty apart, for a transaction or two. */
  get #isGivingBack(): boolean {
    const isCounted = this.#countsLeft === 0 && this.#writtenBytes === this.#countedBytes;
    return this.#options.reservoir.count !== undefined && !isCounted;
  }

  #requireFree(ask: Ask): void {
    const { isAsked } = ask;
    const wantedBytes = ask.wantedBytes();
    const { freeBytes } = this.#use(0);
    const missingBytes = this.#floorBytes + wantedBytes - freeBytes;
    if (missingBytes <= 0) return;
    if (!isAsked) throw noRoomAhead();
    throw ebbError(
      'ENOSPC',
      `The file system of the local copies has ${formatSize(Math.max(0, freeBytes))} free, of which ` +
        `${formatSize(this.#floorBytes)} stay free: for the ${formatSize(wantedBytes)} that are asked for ` +
        `${formatSize(missingBytes)} are missing, and nothing${this.#isLimited ? ' more' : ''} can be released.`,
    );
  }

  /** Nothing is released from when this resolves until it is disposed: everything is wanted here. */
  async hold(): Promise<Disposable> {
    this.#holds += 1;
    await this.#stroke;
    return {
      [Symbol.dispose]: () => {
        this.#holds -= 1;
      },
    };
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#closing.abort();
    await this.#stroke;
  }

  /** On the timer nobody hears of a failure to look (a disk that fails): the log does. */
  #checkInTime(): void {
    this.#checkNow().catch((error: unknown) => this.#failed(error));
  }

  async #checkNow(): Promise<void> {
    if (this.#excessBytes(nothing) === 0) return;
    await this.#count();
    void this.#check(this.#excessBytes(nothing), false);
  }

  /** Starts a stroke when a limit is passed; gives the one under way, which resolves to the bytes that it freed. */
  #check(excessBytes: number, isUrgentNow: boolean): Promise<number> | undefined {
    if (this.#stroke !== undefined) return this.#stroke;
    const { monotonicMs } = this.#options;
    if (this.#releaser === undefined || this.#closing.signal.aborted) return undefined;
    const pausedUntilMs = isUrgentNow ? this.#urgentAtMs : this.#pausedUntilMs;
    if (this.#holds > 0 || monotonicMs() < pausedUntilMs) return undefined;
    if (excessBytes === 0) return undefined;
    this.#stroke = this.#release(this.#releaser, excessBytes)
      .catch((error: unknown) => {
        this.#failed(error);
        return 0;
      })
      .finally(() => {
        this.#stroke = undefined;
      });
    return this.#stroke;
  }

  #failed(error: unknown): void {
    const { code, message } = toEbbError(error);
    this.#options.logbook.trouble(`failed release, ${code}`, `release: ${message}`);
  }

  #isOver(ask: Ask): boolean {
    return this.#isShort(ask) || this.#excessBytes(ask) > 0;
  }

  #isShort(ask: Ask): boolean {
    const { freeBytes, wantedBytes = 0 } = this.#useFor(ask);
    return freeBytes - wantedBytes < this.#floorBytes;
  }

  /** What has to be released: for what others and read-ahead may still take, only where the limit is hard. */
  #excessBytes(ask: Ask): number {
    const use = this.#useFor(ask);
    const ofSize = bytesToRelease({ ...use, wantedBytes: ask.bytes }, this.#sizeLimit);
    return Math.max(ofSize, bytesToRelease(use, this.#freeLimit));
  }

  #useFor({ wantedBytes, isRefused }: Ask): SpaceUse {
    const use = this.#use(wantedBytes());
    return isRefused ? { ...use, freeBytes: Math.min(use.freeBytes, this.#floorBytes) } : use;
  }

  #use(wantedBytes: number): SpaceUse {
    const { reservoir } = this.#options;
    const { allocatedBytes, freeBytes } = reservoir.use();
    const uncounted = reservoir.count === undefined ? 0 : this.#writtenBytes - this.#countedBytes;
    return { allocatedBytes, freeBytes: freeBytes - uncounted, wantedBytes };
  }

  /** What others need who were let in. */
  #follow({ now }: Traffic): number {
    if (now === undefined) return 0;
    const { otherBytes, writtenBytes } = now();
    this.#writtenBytes = writtenBytes;
    return otherBytes;
  }

  /** Where it is not counted at once what was written and freed: that it is. */
  async #count(): Promise<void> {
    const { count } = this.#options.reservoir;
    if (count === undefined) return;
    // One that has begun may have come too early for what was freed just now.
    await this.#counting;
    if (!this.#isGivingBack) return;
    this.#counting ??= this.#countNow(count).finally(() => {
      this.#counting = undefined;
    });
    await this.#counting;
  }

  async #countNow(count: () => Promise<void>): Promise<void> {
    const writtenBytes = this.#writtenBytes;
    const countsLeft = this.#countsLeft;
    await count();
    this.#countedBytes = writtenBytes;
    // Not of what was freed meanwhile.
    if (this.#countsLeft === countsLeft) this.#countsLeft = Math.max(0, countsLeft - 1);
  }

  async #release(releaser: SpaceReleaser, wantedBytes: number): Promise<number> {
    const { isBusy, logbook, monotonicMs, reservoir } = this.#options;
    const beganAtMs = monotonicMs();
    await reservoir.flush();
    const refused = new Set<number>();
    let freed = 0;
    let inUse = 0;
    const isWanted = (): boolean => this.#holds === 0 && !this.#closing.signal.aborted;
    while (freed < wantedBytes && isWanted()) {
      const { chosen } = chooseReleases(reservoir.leastRecentlyUsed(), wantedBytes - freed, {
        isBusy: (id) => {
          if (refused.has(id)) return true;
          const isInUse = isBusy(id);
          if (isInUse) inUse += 1;
          return isInUse;
        },
        allowLost: true,
      });
      if (chosen.length === 0) break;
      const queue = chosen.map((row) => row.id);
      const releaseSome = async (): Promise<void> => {
        for (let id = queue.shift(); id !== undefined && isWanted(); id = queue.shift()) {
          const outcome = await releaser.releaseForSpace(id, this.#closing.signal);
          const bytes = 'releasedBytes' in outcome ? outcome.releasedBytes : 0;
          freed += bytes;
          if (bytes === 0) refused.add(id);
          if (!('refused' in outcome)) continue;
          logbook.log('debug', `kept ${id}: ${outcome.refused}`);
          if (outcome.code === 'EBUSY') inUse += 1;
        }
      };
      await Promise.all(Array.from({ length: parallelReleasesMax }, releaseSome));
    }
    if (freed > 0) logbook.log('info', `released ${formatSize(freed)} to keep within the limits`);
    const nowMs = monotonicMs();
    if (freed > 0) {
      this.#countsLeft = patientCounts;
      this.#pausedUntilMs = 0;
    } else {
      const isNew = nowMs >= this.#pausedUntilMs;
      if (isNew) this.#strokesLeft = inUse > 0 ? patientStrokes : 0;
      else this.#strokesLeft = Math.max(0, this.#strokesLeft - 1);
      this.#pausedUntilMs = nowMs + fruitlessPauseMs;
      // A search that takes long is not repeated at once either.
      this.#urgentAtMs = nowMs + Math.max(urgentPauseMs, nowMs - beganAtMs);
    }
    return freed;
  }
}
