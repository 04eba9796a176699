/**
 * Reads ahead of programs that walk through a tree. Most go into the directories in the order in which they were listed
 * (find, du, rm, grep -r: fts(3)), so after three of them it is known which one comes next: its entries and their
 * inodes are read and decoded while the program, on another processor, takes in the answer before. Nothing comes of it
 * but what the volume remembers.
 */
import type { Inode, Volume } from '../../ext4/volume.ts';
import { needsAttributes } from './directory-reader.ts';
import type { NamesOnly } from './names-only.ts';

/** So many listings in a row must have been foreseen. One alone is what anybody does who looks around. */
const streakMin = 2;
/** Of one directory, so that others wait no longer for it than for a listing. */
const entriesMax = 64;
/** A larger directory is left alone: with few entries in it, it takes long to find them. */
const directoryMaxBytes = 64 * 1024;
/** Directories that are remembered: of one, and all that are still to come. The walk is lost where there are more. */
const foundMax = 1024;
const toComeMax = 65_536;

export class WalkAhead {
  readonly #volume: Pick<Volume, 'inode' | 'entries'>;
  /** Directories that were met and not listed; the next one is the last. */
  #toCome: number[] = [];
  /** In the directory that was listed last, in its order. */
  #found: number[] = [];
  #streak = 0;
  #isDue = false;
  #isNamesOnly = false;
  /** Where the kernel can forget what it was told so. */
  namesOnly: NamesOnly | undefined;

  constructor(volume: Pick<Volume, 'inode' | 'entries'>) {
    this.#volume = volume;
  }

  /** Somebody lists a directory from its beginning. */
  begins(directory: number): void {
    this.#toCome.push(...this.#found.toReversed());
    this.#found = [];
    if (this.#toCome.pop() === directory && this.#toCome.length <= toComeMax) {
      this.#streak += 1;
    } else {
      this.#toCome = [];
      this.#streak = 0;
    }
    this.#isDue = true;
    this.namesOnly?.begins(directory, this.#streak >= streakMin);
    this.#isNamesOnly = this.namesOnly?.leavesOut(directory) === true;
  }

  /** The listing has this directory in it. */
  meets(directory: number): void {
    if (this.#found.length < foundMax) this.#found.push(directory);
  }

  /** To be called when a request has been answered: reads what is foreseen, once for each listing. Never throws. */
  work(): void {
    this.namesOnly?.work();
    if (!this.#isDue) return;
    this.#isDue = false;
    const next = this.#found[0] ?? this.#toCome.at(-1);
    if (next === undefined || this.#streak < streakMin) return;
    try {
      this.#read(this.#volume.inode(next));
    } catch {
      // Whoever lists it hears of it.
    }
  }

  #read(directory: Inode): void {
    if (directory.sizeBytes > directoryMaxBytes) return;
    let count = 0;
    for (const { inodeNumber, type } of this.#volume.entries(directory, 0)) {
      // As of the directory before, whose listing was the last one.
      if (!this.#isNamesOnly || needsAttributes(type)) this.#volume.inode(inodeNumber);
      count += 1;
      if (count === entriesMax) return;
    }
  }
}
