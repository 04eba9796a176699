/**
 * How much a remote image's copy may take. While it is mounted nothing of it can be released: the server believes for
 * ever what the broker has called here, and the kernel reads mapped files alone (docs/decisions/0029). So room is made
 * before the mount, and what would be more than the limits afterwards is refused.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ebbError } from '../../base/errors.ts';
import { formatSize } from '../../base/format.ts';
import type { SpaceLimits } from '../../policy/release-policy.ts';
import type { RecallEvent } from '../../recall/options.ts';
import type { FlightView } from '../../recall/recall.ts';
import { reservedBytesDefault } from '../../tree/content-store.ts';
import type { Contents } from '../mount/contents.ts';
import { chooseCopies } from './copy-choice.ts';
import type { OwnVersion } from './copy-choice.ts';

/** How long a file system may take to free what was deleted. */
const freedWaitMs = 2000;
const freedPollMs = 20;

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
   * Before anything is open: copies go as wholes, until the limits are kept and some of `--cache-size` is free
   * (`chooseCopies`). `say`: for who reads the log.
   */
  async makeRoom(own: OwnVersion, say: (message: string) => void): Promise<void> {
    const { minFreeBytes = 0 } = this.#limits;
    const rows = [...this.#contents.leastRecentlyUsed()];
    const choice = chooseCopies(rows, this.#contents.use(), this.#limits, own);
    for (const id of choice.ids) await this.#contents.delete(id);
    if (choice.isMinFreeOutOfReach) {
      const free = formatSize(this.#contents.use().freeBytes);
      say(
        `--min-free is ${formatSize(minFreeBytes)}, ${free} are free, and all copies of the image together do not ` +
          'make up for that: no whole one goes for it, and nothing is fetched',
      );
      return;
    }
    // XFS frees in the background, and the first requests would be refused.
    const mayWait = choice.ids.length > 0;
    for (let waitedMs = 0; mayWait && waitedMs < freedWaitMs; waitedMs += freedPollMs) {
      if (this.#contents.use().freeBytes >= minFreeBytes) return;
      await sleep(freedPollMs);
    }
  }

  /** Keeps count of what is under way. */
  note({ kind, flight }: RecallEvent): void {
    if (kind === 'started') this.#underWay.add(flight.offsetBytes);
    else this.#underWay.delete(flight.offsetBytes);
  }

  /**
   * Before a request, which is under way by then: what would not fit beside the others is not fetched. What a server
   * asks for is what the image says, as much as it says. `flights`: all, those that wait as well. Throws ENOSPC.
   */
  require(flights: readonly FlightView[]): void {
    const { cacheSizeBytes, minFreeBytes = 0 } = this.#limits;
    const { allocatedBytes, freeBytes } = this.#contents.use();
    let underWayBytes = 0;
    for (const { offsetBytes, lengthBytes, doneBytes } of flights) {
      if (this.#underWay.has(offsetBytes)) underWayBytes += lengthBytes - doneBytes;
    }
    if (freeBytes - underWayBytes < Math.max(minFreeBytes, reservedBytesDefault)) {
      throw ebbError(
        'ENOSPC',
        `The file system of the copy of the image has ${formatSize(freeBytes)} free.`,
      );
    }
    if (cacheSizeBytes === undefined || allocatedBytes + underWayBytes <= cacheSizeBytes) return;
    throw ebbError(
      'ENOSPC',
      `The copy of the image has ${formatSize(allocatedBytes)}, and --cache-size allows ` +
        `${formatSize(cacheSizeBytes)}: unmount it and mount it again, or with a larger one.`,
    );
  }
}
