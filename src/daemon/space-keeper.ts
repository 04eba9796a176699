/**
 * Keeps the cache within its limits: releases least recently used content in strokes, before recalls need the room
 * and on a timer. What to release is decided in policy/, whether it may be is decided in tree/release.ts.
 *
 * `--cache-size` bounds what nobody uses. A file that is open cannot be released, so while programs have more open
 * than the limit allows the cache is larger, and shrinks when they close: failing their reads instead would help
 * nobody. `--min-free` and the disk itself are hard: then a recall ends in ENOSPC.
 */
import { ebbError, toEbbError } from '../base/errors.ts';
import { formatSize } from '../base/format.ts';
import type { Catalog, Content } from '../catalog/catalog.ts';
import { bytesToRelease, chooseReleases } from '../policy/release-policy.ts';
import type { SpaceLimits, SpaceUse } from '../policy/release-policy.ts';
import type { Contents } from './contents.ts';
import type { Logbook } from './logbook.ts';
import type { Releaser } from './releaser.ts';

const checkIntervalMs = 2_000;
/** A recall waits at most this long for room before it goes on (or fails, when there is really none). */
const strokeWaitMaxMs = 5_000;
const parallelReleasesMax = 4;
const rowsPerPage = 500;
/** After a stroke that found nothing to release, the next one waits. */
const fruitlessPauseMs = 2_000;

export interface SpaceKeeperOptions {
  readonly limits: SpaceLimits;
  readonly catalog: Catalog;
  readonly contents: Contents;
  readonly logbook: Logbook;
  readonly isBusy: (id: number) => boolean;
  readonly nowMs: () => number;
}

export class SpaceKeeper {
  readonly #options: SpaceKeeperOptions;
  readonly #closing = new AbortController();
  #releaser: Releaser | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stroke: Promise<void> | undefined;
  #pausedUntilMs = 0;

  constructor(options: SpaceKeeperOptions) {
    this.#options = options;
  }

  start(releaser: Releaser): void {
    this.#releaser = releaser;
    this.#timer = setInterval(() => this.#checkInTime(), checkIntervalMs);
    this.#timer.unref();
  }

  /** Makes room for a recall. ENOSPC when it would leave the disk with less than `--min-free`. */
  async reserve(bytes: number): Promise<void> {
    const stroke = this.#check(bytes);
    if (stroke !== undefined && this.#isOver(bytes)) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, strokeWaitMaxMs);
      await Promise.race([stroke, promise]);
      clearTimeout(timer);
    }
    const { minFreeBytes } = this.#options.limits;
    const { freeBytes } = this.#use(bytes);
    if (freeBytes - bytes >= (minFreeBytes ?? 0)) return;
    throw ebbError(
      'ENOSPC',
      `The disk of the cache has ${formatSize(freeBytes)} free, and nothing can be released.`,
    );
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#closing.abort();
    await this.#stroke;
  }

  /** On the timer nobody hears of a failure to look (a disk that fails): the log does. */
  #checkInTime(): void {
    try {
      void this.#check(0);
    } catch (error) {
      this.#options.logbook.log('error', `release: ${toEbbError(error).message}`);
    }
  }

  /** Starts a stroke when a limit is passed; gives the one under way. */
  #check(wantedBytes: number): Promise<void> | undefined {
    if (this.#stroke !== undefined) return this.#stroke;
    const { limits, nowMs, logbook } = this.#options;
    if (this.#releaser === undefined || this.#closing.signal.aborted) return undefined;
    if (nowMs() < this.#pausedUntilMs) return undefined;
    const wanted = bytesToRelease(this.#use(wantedBytes), limits);
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
    const { catalog, contents } = this.#options;
    const { availableBytes } = contents.store.space();
    // Chunks are written whole, so resident bytes are what the files take on disk.
    const allocatedBytes = catalog.totals(1).residentBytes + contents.store.log.uncommittedBytes;
    return { allocatedBytes, freeBytes: availableBytes, wantedBytes };
  }

  async #release(releaser: Releaser, wantedBytes: number): Promise<void> {
    const { isBusy, logbook, nowMs, contents } = this.#options;
    // What was just recalled is only in the log's queue, and may be what has to go.
    await contents.store.log.flush();
    const refused = new Set<number>();
    let freed = 0;
    while (freed < wantedBytes && !this.#closing.signal.aborted) {
      const { chosen } = chooseReleases(this.#rows(), wantedBytes - freed, {
        isBusy: (id) => refused.has(id) || isBusy(id),
        allowLost: true,
      });
      if (chosen.length === 0) break;
      const queue = chosen.map((row) => row.id);
      const releaseSome = async (): Promise<void> => {
        for (let id = queue.shift(); id !== undefined; id = queue.shift()) {
          const bytes = await this.#releaseOne(releaser, id);
          freed += bytes;
          if (bytes === 0) refused.add(id);
        }
      };
      await Promise.all(Array.from({ length: parallelReleasesMax }, releaseSome));
    }
    if (freed > 0)
      logbook.log('info', `released ${formatSize(freed)} to keep the cache within its limits`);
    if (freed === 0) this.#pausedUntilMs = nowMs() + fruitlessPauseMs;
  }

  async #releaseOne(releaser: Releaser, id: number): Promise<number> {
    const { signal } = this.#closing;
    const node = this.#options.catalog.node(id);
    if (node === undefined || node.parentId === 0) return await releaser.dropOrphan(id, signal);
    const outcome = await releaser.release(id, { dryRun: false, signal });
    if ('releasedBytes' in outcome) return outcome.releasedBytes;
    this.#options.logbook.log('debug', `kept ${id}: ${outcome.refused}`);
    return 0;
  }

  *#rows(): Generator<Content> {
    const { catalog } = this.#options;
    for (let after: { accessedAtMs: number; id: number } | undefined; ;) {
      const page = catalog.leastRecentlyUsed(after, rowsPerPage);
      yield* page;
      const last = page.at(-1);
      if (last === undefined || page.length < rowsPerPage) return;
      after = { accessedAtMs: last.accessedAtMs, id: last.id };
    }
  }
}
