/**
 * Which listings leave out the attributes of files. The kernel wants those of all entries with the beginning of each
 * directory (READDIRPLUS), but a program that goes through a tree by names, as find(1) does, needs those of directories
 * alone: of the others it would cost the server their inodes, and the kernel an object for each.
 *
 * The kernel keeps such a listing, and has to look up each file of it that somebody asks for later. So these lookups
 * are counted: when they are many, attributes are given from then on, and the kernel is asked to forget the directories
 * that it has without them (those that nobody uses), so that it lists them anew.
 */
import { EbbError } from '../../base/errors.ts';

/** So many files may be looked up whose directories were listed without attributes, and one more for 16 directories. */
const lookupsMin = 4;
const directoriesPerLookup = 16;
/** What comes after them is listed with attributes. */
const directoriesMax = 65_536;

export class NamesOnly {
  readonly #prune: (directories: readonly number[]) => void;
  /** In the order in which they were listed. */
  readonly #directories = new Set<number>();
  #lookups = 0;
  #isOver = false;
  #isDue = false;

  /** `prune`: see `Notifier`. */
  constructor(prune: (directories: readonly number[]) => void) {
    this.#prune = prune;
  }

  /** Somebody lists a directory from its beginning. `isWalk`: it was foreseen. */
  begins(directory: number, isWalk: boolean): void {
    if (isWalk && !this.#isOver && this.#directories.size < directoriesMax) {
      this.#directories.add(directory);
    } else this.#directories.delete(directory);
  }

  /** Whether a listing of this directory leaves out the attributes of files. */
  leavesOut(directory: number): boolean {
    return this.#directories.has(directory);
  }

  /** A file in this directory was looked up. */
  lookedUp(directory: number): void {
    if (this.#isOver || !this.leavesOut(directory)) return;
    this.#lookups += 1;
    if (this.#lookups <= lookupsMin + this.#directories.size / directoriesPerLookup) return;
    this.#isOver = true;
    this.#isDue = true;
  }

  /** To be called when a request has been answered. Never throws. */
  work(): void {
    if (!this.#isDue) return;
    this.#isDue = false;
    // A directory is in use as long as one below it is known: those come first.
    const deepestFirst = [...this.#directories].toReversed();
    this.#directories.clear();
    try {
      this.#prune(deepestFirst);
    } catch (error) {
      // Then each file is looked up.
      if (!(error instanceof EbbError)) throw error;
    }
  }
}
