/**
 * Which content to release when room runs short, and how much of it. Pure: numbers and rows in, a choice out; the
 * daemon does the releasing (with its own proofs) and asks again when some of it was refused.
 *
 * Two limits, each a high watermark: allocated bytes of the cache, and free bytes of its file system. Releasing
 * goes on to a low watermark, so that it happens in strokes and not for each chunk that arrives.
 */
import type { Content } from '../catalog/catalog.ts';

export interface SpaceLimits {
  /** Allocated bytes of the cache stay at or below this. Absent: no limit. */
  readonly cacheSizeBytes?: number;
  /** Free bytes of the file system stay at or above this. Absent: no limit. */
  readonly minFreeBytes?: number;
}

export interface SpaceUse {
  /** What the cache's files take on disk. */
  readonly allocatedBytes: number;
  /** Free on the file system of the cache. */
  readonly freeBytes: number;
  /** What is about to be written: room for it is made beforehand. Default 0. */
  readonly wantedBytes?: number;
}

/** Once a limit is passed, releasing goes on until only this share of the cache's limit is used. */
export const lowWatermark = 0.9;

/**
 * How many bytes should be released now; 0 while no limit is passed. Never more than what is allocated. For the
 * free space the low watermark is as far above the limit as the same share says.
 */
export function bytesToRelease(use: SpaceUse, limits: SpaceLimits): number {
  const { allocatedBytes, freeBytes, wantedBytes = 0 } = use;
  const { cacheSizeBytes, minFreeBytes } = limits;
  let release = 0;
  if (cacheSizeBytes !== undefined && allocatedBytes + wantedBytes > cacheSizeBytes) {
    release = allocatedBytes + wantedBytes - Math.floor(cacheSizeBytes * lowWatermark);
  }
  if (minFreeBytes !== undefined && freeBytes - wantedBytes < minFreeBytes) {
    const target = Math.ceil(minFreeBytes / lowWatermark);
    release = Math.max(release, target - (freeBytes - wantedBytes));
  }
  return Math.min(release, allocatedBytes);
}

/** What the policy needs to know of a content. */
export type ReleaseRow = Pick<Content, 'id' | 'residentBytes' | 'pinned' | 'lost'>;

export interface ChooseOptions {
  /** Open, mapped or being recalled: never chosen. */
  readonly isBusy: (id: number) => boolean;
  /**
   * Whether content that the remote no longer has may go at all, when everything else was not enough. It may be
   * the last copy: there is no default.
   */
  readonly allowLost: boolean;
  /** At most this many files are chosen. Default `releaseFilesMax`. */
  readonly filesMax?: number;
}

export interface ReleaseChoice {
  /** In the order in which to release. */
  readonly chosen: readonly ReleaseRow[];
  readonly chosenBytes: number;
  /** What is still wanted after that; 0 when the choice is enough. */
  readonly missingBytes: number;
  /** Why rows were passed over, for the log and for `ebb explain`. */
  readonly skipped: { readonly pinned: number; readonly busy: number; readonly lost: number };
}

/** One stroke: a bound for what one call looks at and returns. */
export const releaseFilesMax = 10_000;
/** Lost rows that are remembered for the end of the queue. */
const lostRowsMax = 10_000;

/**
 * Chooses from rows in ascending order of last access (`Catalog.leastRecentlyUsed`) until `wantedBytes` are
 * together; reads no further than that. Pinned and busy rows are never chosen; lost ones come last, if at all.
 */
export function chooseReleases(
  rows: Iterable<ReleaseRow>,
  wantedBytes: number,
  options: ChooseOptions,
): ReleaseChoice {
  const filesMax = options.filesMax ?? releaseFilesMax;
  const chosen: ReleaseRow[] = [];
  const lost: ReleaseRow[] = [];
  const skipped = { pinned: 0, busy: 0, lost: 0 };
  let chosenBytes = 0;
  const take = (row: ReleaseRow): void => {
    chosen.push(row);
    chosenBytes += row.residentBytes;
  };
  const isDone = (): boolean => chosenBytes >= wantedBytes || chosen.length >= filesMax;
  if (!isDone()) {
    for (const row of rows) {
      if (row.residentBytes <= 0) continue;
      if (row.pinned) skipped.pinned += 1;
      else if (options.isBusy(row.id)) skipped.busy += 1;
      else if (!row.lost) take(row);
      else if (options.allowLost && lost.length < lostRowsMax) lost.push(row);
      else skipped.lost += 1;
      if (isDone()) break;
    }
  }
  for (const row of lost) {
    if (isDone()) skipped.lost += 1;
    else take(row);
  }
  const missingBytes = Math.max(0, wantedBytes - chosenBytes);
  return { chosen, chosenBytes, missingBytes, skipped };
}
