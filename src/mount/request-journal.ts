/**
 * Which requests of the kernel daemons died of: a request that kills each daemon it is given to would be redelivered to
 * the next one for ever. Kept in memory that outlives the daemon (a memfd that the supervisor holds too).
 *
 * What counts at a death: the request that an exception was thrown for; else the one that the FUSE thread was handling,
 * which is written down with two stores and no system call; else, if the daemon died of itself (a crash, the watchdog)
 * and not of somebody's SIGKILL, all that were not answered, which are those that the kernel redelivers. A request that
 * counted at `deathsMax` deaths is not tried again. The FUSE thread writes.
 */
import { ebbError } from '../base/errors.ts';
import { pwrite } from '../sys/io.ts';

/** Daemons that one request may cost. */
export const deathsMax = 3;
/** Requests that are counted; more were in hand at one death only in a crowd, and are tried once more. */
const countedMax = 2_048;
const layoutNumber = 1;
/** 64-bit floats: layout, the request that the FUSE thread handles now, the one that an exception was for (0: none). */
const headerWords = 8;
const handledWord = 1;
const culpritWord = 2;
/** Unique, deaths. */
const slotWords = 2;

export const requestJournalBytes = (headerWords + countedMax * slotWords) * 8;

/** For a process that dies of an exception: `unique` is the request that it was thrown for. */
export function writeCulprit(journalFd: number, unique: number): void {
  const word = new Uint8Array(Float64Array.of(unique).buffer);
  const result = pwrite(journalFd, word, culpritWord * 8);
  if (result !== word.length) throw ebbError('EIO', 'a request cannot be written down');
}

/** What a dead daemon left: the request that it died of (0: not known) and at how many deaths each counted before. */
export function readJournal(words: Float64Array): { found: number; deaths: Map<number, number> } {
  const deaths = new Map<number, number>();
  if (words[0] !== layoutNumber) return { found: 0, deaths };
  for (let at = headerWords; at < words.length; at += slotWords) {
    const unique = words[at] ?? 0;
    if (unique === 0) break;
    deaths.set(unique, words[at + 1] ?? 0);
  }
  return { found: words[culpritWord] || words[handledWord] || 0, deaths };
}

export class RequestJournal {
  readonly #words: Float64Array;
  /** Whether a request that was not answered counts for the death of the last daemon. */
  readonly #counts: (unique: number) => boolean;
  readonly #deaths: ReadonlyMap<number, number>;
  #slots = 0;

  /**
   * Takes over what a predecessor left in `memory` (`requestJournalBytes`, zeros at first). `predecessorFailed`: it did
   * not die of somebody's SIGKILL.
   */
  constructor(memory: ArrayBuffer, predecessorFailed: boolean) {
    const words = new Float64Array(memory, 0, requestJournalBytes / 8);
    const { found, deaths } = readJournal(words);
    this.#words = words;
    this.#counts = (unique) => (found ? unique === found : predecessorFailed);
    this.#deaths = deaths;
    words.fill(0);
    words[0] = layoutNumber;
  }

  /** A request is handled now. False: daemons have died of it, and it is not to be tried again. */
  begin(unique: number, resent: boolean): boolean {
    if (resent && this.#count(unique) >= deathsMax) return false;
    this.#words[handledWord] = unique;
    return true;
  }

  /** Nothing is handled any more. */
  end(): void {
    this.#words[handledWord] = 0;
  }

  /** At how many deaths the redelivered request counted. */
  #count(unique: number): number {
    const deaths = (this.#deaths.get(unique) ?? 0) + (this.#counts(unique) ? 1 : 0);
    if (deaths > 0 && this.#slots < countedMax) {
      const at = headerWords + this.#slots * slotWords;
      // In this order: a slot counts once its first word is there.
      this.#words[at + 1] = deaths;
      this.#words[at] = unique;
      this.#slots += 1;
    }
    return deaths;
  }
}
