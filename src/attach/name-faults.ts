/** What cannot be for one name of a directory, and concerns no other one: it is reported, and the others are done. */
import { toEbbError } from '../base/errors.ts';

/**
 * The file system cannot hold this name or file. EOVERFLOW: btrfs has no room for more names with one hash. EXDEV: its
 * directory takes in files of its own project only (place.ts), or a subvolume has the name.
 */
const own: ReadonlySet<string> = new Set([
  'EINVAL',
  'EILSEQ',
  'ENAMETOOLONG',
  'EFBIG',
  'EOVERFLOW',
  'EXDEV',
]);
/**
 * Nobody may change the directory, or what has the name (chattr +i, +a); it has as many directories as it can;
 * something is mounted on the name; users took the directory away.
 */
const refused: ReadonlySet<string> = new Set(['EPERM', 'EMLINK', 'EBUSY', 'ENOENT']);

export class NameFaults {
  readonly #report: (name: string, why: string) => void;

  constructor(report: (name: string, why: string) => void) {
    this.#report = report;
  }

  /** The result; undefined after a report when this one thing cannot be. Others (ENOSPC, EIO) are thrown. */
  unlessOwn<T>(name: string, make: () => T): T | undefined {
    try {
      return make();
    } catch (error) {
      return this.#take(name, error, false);
    }
  }

  /** The same of what is done in the directory itself. */
  unlessRefused<T>(name: string, act: () => T): T | undefined {
    try {
      return act();
    } catch (error) {
      return this.#take(name, error, true);
    }
  }

  #take(name: string, error: unknown, isInDirectory: boolean): undefined {
    const { code, message } = toEbbError(error);
    if (own.has(code)) this.#report(name, `the file system cannot hold it: ${message}`);
    else if (isInDirectory && refused.has(code)) {
      this.#report(name, `its directory does not take it: ${message}`);
    } else throw error;
    return undefined;
  }
}
