/** Bounds of a replay of fast commits: what is in a journal may have been made to take for ever. */
import { unsupported } from '../errors.ts';

/**
 * What a replay may do at most, in units of a few nanoseconds: reading extents into lists, moving what is in them,
 * reading through directories. Far more than a machine leaves behind in one area of fast commits, and seconds of work.
 */
export class WorkBudget {
  #left = 200_000_000;

  /** Throws EOPNOTSUPP when there is nothing left. */
  spend(units: number): void {
    this.#left -= units;
    if (this.#left < 0) throw tooMuch();
  }
}

export function tooMuch(): Error {
  return unsupported(
    'The fast commits of the journal change more than Ebb replays. ' +
      'Run e2fsck on the image, or read it without them: -o nofastcommit',
  );
}

/** Bytes of a directory that are read through for one unit. */
export const bytesPerUnit = 8;
