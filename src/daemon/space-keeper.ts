/**
 * Keeps the local bytes of a mount or a tree within their limits: releases least recently used content in strokes,
 * before recalls need the room and on a timer. What to release is decided in policy/, whether it may be is decided in
 * tree/.
 *
 * `--cache-size` bounds what nobody uses. A file that is open cannot be released, so while programs have more open
 * than the limit allows there is more, and it shrinks when they close: failing their reads instead would help nobody.
 * `--min-free` and the disk itself are hard: then a recall ends in ENOSPC.
 */
import { endedWithin } from '../base/deadline.ts';
import { ebbError, toEbbError } from '../base/errors.ts';
import { formatSize } from '../base/format.ts';
import { bytesToRelease, chooseReleases } from '../policy/release-policy.ts';
import type { ReleaseRow, SpaceLimits, SpaceUse } from '../policy/release-policy.ts';
import type { Intent } from '../recall/recall.ts';
import type { Logbook } from './logbook.ts';

const checkIntervalMs = 2_000;
/** A recall waits at most this long for room before it goes on (or fails, when there is really none). */
const strokeWaitMaxMs = 5_000;
const parallelReleasesMax = 4;
/** Without limits of its own the cache takes this much without a look at the disk. */
const uncheckedMaxBytes = 1024 * 1024;
/** After a stroke that found nothing to release, the next one waits. */
const fruitlessPauseMs = 2_000;

/** Whose room is kept: the contents of a cache, or the stubs of a tree. */
export interface Reservoir {
  /** What the files take on disk, and what is free on their file system. Bytes; cheap, asked before each recall. */
  use(): Pick<SpaceUse, 'allocatedBytes' | 'freeBytes'>;
  /** Brings what was recalled just now into the records: it may be what has to go. */
  flush(): Promise<void>;
  /** Least recently used first. Read no further than needed. */
  leastRecentlyUsed(): Iterable<ReleaseRow>;
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

export class SpaceKeeper {
  readonly #options: SpaceKeeperOptions;
  readonly #closing = new AbortController();
  #releaser: SpaceReleaser | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stroke: Promise<void> | undefined;
  #pausedUntilMs = 0;
  #holds = 0;

  constructor(options: SpaceKeeperOptions) {
    this.#options = options;
  }

  start(releaser: SpaceReleaser): void {
    this.#releaser = releaser;
    this.#timer = setInterval(() => this.#checkInTime(), checkIntervalMs);
    this.#timer.unref();
  }

  /**
   * As `Reserve`: makes room for a recall. ENOSPC when it would leave the disk with less than `--min-free`. A promise
   * only where something is being released.
   */
  reserve(bytes: number, intent: Intent): void | Promise<void> {
    const { limits } = this.#options;
    const { cacheSizeBytes, minFreeBytes } = limits;
    const isUnlimited = cacheSizeBytes === undefined && minFreeBytes === undefined;
    // Nothing would be released; whether there is room at all is looked at before each write (tree/content-store.ts).
    if (isUnlimited && bytes <= uncheckedMaxBytes) return;
    const before = this.#use(bytes);
    const isShort = before.freeBytes - bytes < (minFreeBytes ?? 0);
    if (intent === 'prefetch' && (isShort || bytesToRelease(before, limits) > 0)) {
      throw ebbError('EAGAIN', 'There is no room for what nobody has asked for.');
    }
    const stroke = this.#check(before);
    if (stroke !== undefined) return this.#reserveAfter(stroke, bytes);
    this.#requireFree(before, bytes);
  }

  async #reserveAfter(stroke: Promise<void>, bytes: number): Promise<void> {
    if (this.#isOver(bytes)) await endedWithin(stroke, strokeWaitMaxMs);
    this.#requireFree(this.#use(bytes), bytes);
  }

  #requireFree({ freeBytes }: SpaceUse, bytes: number): void {
    if (freeBytes - bytes >= (this.#options.limits.minFreeBytes ?? 0)) return;
    throw ebbError(
      'ENOSPC',
      `The file system of the local copies has ${formatSize(freeBytes)} free, and nothing can be released.`,
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
    try {
      void this.#check(this.#use(0));
    } catch (error) {
      this.#options.logbook.log('error', `release: ${toEbbError(error).message}`);
    }
  }

  /** Starts a stroke when a limit is passed; gives the one under way. */
  #check(use: SpaceUse): Promise<void> | undefined {
    if (this.#stroke !== undefined) return this.#stroke;
    const { limits, monotonicMs, logbook } = this.#options;
    if (this.#releaser === undefined || this.#closing.signal.aborted) return undefined;
    if (this.#holds > 0 || monotonicMs() < this.#pausedUntilMs) return undefined;
    const wanted = bytesToRelease(use, limits);
    if (wanted === 0) return undefined;
    this.#stroke = this.#release(this.#releaser, wanted)
      .catch((error: unknown) => logbook.log('error', `release: ${toEbbError(error).message}`))
      .finally(() => {
        this.#stroke = undefined;
      });
    return this.#stroke;
  }

  #isOver(wantedBytes: number): boolean {
    return bytesToRelease(this.#use(wantedBytes), this.#options.limits) > 0;
  }

  #use(wantedBytes: number): SpaceUse {
    return { ...this.#options.reservoir.use(), wantedBytes };
  }

  async #release(releaser: SpaceReleaser, wantedBytes: number): Promise<void> {
    const { isBusy, logbook, monotonicMs, reservoir } = this.#options;
    await reservoir.flush();
    const refused = new Set<number>();
    let freed = 0;
    const isWanted = (): boolean => this.#holds === 0 && !this.#closing.signal.aborted;
    while (freed < wantedBytes && isWanted()) {
      const { chosen } = chooseReleases(reservoir.leastRecentlyUsed(), wantedBytes - freed, {
        isBusy: (id) => refused.has(id) || isBusy(id),
        allowLost: true,
      });
      if (chosen.length === 0) break;
      const queue = chosen.map((row) => row.id);
      const releaseSome = async (): Promise<void> => {
        for (let id = queue.shift(); id !== undefined && isWanted(); id = queue.shift()) {
          const bytes = await this.#releaseOne(releaser, id);
          freed += bytes;
          if (bytes === 0) refused.add(id);
        }
      };
      await Promise.all(Array.from({ length: parallelReleasesMax }, releaseSome));
    }
    if (freed > 0) logbook.log('info', `released ${formatSize(freed)} to keep within the limits`);
    if (freed === 0) this.#pausedUntilMs = monotonicMs() + fruitlessPauseMs;
  }

  async #releaseOne(releaser: SpaceReleaser, id: number): Promise<number> {
    const outcome = await releaser.releaseForSpace(id, this.#closing.signal);
    if ('releasedBytes' in outcome) return outcome.releasedBytes;
    this.#options.logbook.log('debug', `kept ${id}: ${outcome.refused}`);
    return 0;
  }
}
