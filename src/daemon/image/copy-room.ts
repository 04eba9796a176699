/**
 * How much a remote image's copy may take. While it is mounted nothing of it can be released: the server believes for
 * ever what the broker has called here, and the kernel reads mapped files alone (docs/decisions/0029). So room is made
 * before the mount, and what would be more than the limits afterwards is refused.
 */
import { ebbError } from '../../base/errors.ts';
import { formatSize } from '../../base/format.ts';
import type { Content } from '../../catalog/catalog.ts';
import { bytesToRelease } from '../../policy/release-policy.ts';
import type { SpaceLimits } from '../../policy/release-policy.ts';
import type { RecallEvent } from '../../recall/options.ts';
import type { FlightView } from '../../recall/recall.ts';
import { reservedBytesDefault } from '../../tree/content-store.ts';
import type { Contents } from '../mount/contents.ts';

/** Of `--cache-size`, when a mount begins: with less it would be full again at once. */
const freeShare = 0.25;

export class CopyRoom {
  readonly #limits: SpaceLimits;
  readonly #contents: Contents;
  /** Offsets of the requests under way: no two are for the same place. */
  readonly #underWay = new Set<number>();

  constructor(limits: SpaceLimits, contents: Contents) {
    this.#limits = limits;
    this.#contents = contents;
  }

  /**
   * Before anything is open: so much goes that a quarter of `--cache-size` is free, whole copies at a time. `ownId`: of
   * the version that the remote was just seen to have. Another version may be the last copy of it: a whole one goes
   * last, parts of one are of no use to anybody and go first.
   */
  async makeRoom(ownId: number): Promise<void> {
    const rows = [...this.#contents.leastRecentlyUsed()].filter(({ pinned }) => !pinned);
    const isOwn = ({ id }: Content): boolean => id === ownId;
    const order = [
      ...rows.filter((row) => !isOwn(row) && !row.complete),
      ...rows.filter(isOwn),
      ...rows.filter((row) => !isOwn(row) && row.complete),
    ];
    const wantedBytes = Math.ceil(freeShare * (this.#limits.cacheSizeBytes ?? 0));
    for (const { id } of order) {
      const use = { ...this.#contents.use(), wantedBytes };
      if (bytesToRelease(use, this.#limits) === 0) return;
      await this.#contents.delete(id);
    }
  }

  /** Keeps count of what is under way. */
  note({ kind, flight }: RecallEvent): void {
    if (kind === 'started') this.#underWay.add(flight.offsetBytes);
    else this.#underWay.delete(flight.offsetBytes);
  }

  /**
   * Before a request, which is under way by then: what would not fit is not fetched. What a server asks for is what the
   * image says, as much as it says. `flights`: all, those that wait as well. Throws ENOSPC.
   */
  require(bytes: number, flights: readonly FlightView[]): void {
    const { cacheSizeBytes, minFreeBytes = 0 } = this.#limits;
    const { allocatedBytes, freeBytes } = this.#contents.use();
    if (freeBytes - bytes < Math.max(minFreeBytes, reservedBytesDefault)) {
      throw ebbError(
        'ENOSPC',
        `The file system of the copy of the image has ${formatSize(freeBytes)} free.`,
      );
    }
    if (cacheSizeBytes === undefined) return;
    let underWayBytes = 0;
    for (const { offsetBytes, lengthBytes, doneBytes } of flights) {
      if (this.#underWay.has(offsetBytes)) underWayBytes += lengthBytes - doneBytes;
    }
    if (allocatedBytes + underWayBytes <= cacheSizeBytes) return;
    throw ebbError(
      'ENOSPC',
      `The copy of the image has ${formatSize(allocatedBytes)}, and --cache-size allows ` +
        `${formatSize(cacheSizeBytes)}: unmount it and mount it again, or with a larger one.`,
    );
  }
}
