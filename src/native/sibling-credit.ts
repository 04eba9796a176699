/**
 * How many files of a directory may be brought before anybody asks for them, because others of it are being opened:
 * a compiler over headers, tar(1), grep(1). Pure.
 *
 * A directory proves itself by `missesNeeded` small files that were not here when they were opened, whoever opened
 * them: builds start a process for each file. From then on it has credit: `startCount` files, and two more for each
 * that was brought and then used. So a program that picks single files costs a few files for nothing and no more, and
 * one that takes all of them soon finds all of them.
 */
import { BoundedMap } from '../base/bounded-map.ts';

const missesNeeded = 3;
const startCount = 8;
const countPerUse = 2;
/** Not fewer at once: looking for them costs as much as one of them. */
const countMin = 4;
const countMax = 64;
/** Misses that are further apart than this say nothing. */
const idleMaxMs = 10_000;
/** When there were no more files near by, it is looked again after so many opens. */
const opensWithoutLooking = 32;
const directoriesMax = 256;
/** Files that were brought are remembered until they are used; one that is forgotten counts as never used. */
const unusedMax = 4_096;

interface Directory {
  misses: number;
  missedAtMs: number;
  uses: number;
  /** Brought, and not used. */
  unused: number;
  /** Opens until it is looked for files again. */
  opensToWait: number;
  /** Where the last search ended; undefined: the next one begins at the file that is opened. */
  lastId: number | undefined;
}

/** What may be brought now. */
export interface SiblingSearch {
  /** Of the files that come after this one, */
  readonly afterId: number;
  /** at most so many. */
  readonly count: number;
}

export class SiblingCredit {
  readonly #directories = new BoundedMap<string, Directory>(directoriesMax);
  readonly #unused = new BoundedMap<number, Directory>(unusedMax);

  /** A small file of the directory was opened and is not here. */
  missed(directoryKey: string, fileId: number, nowMs: number): SiblingSearch | undefined {
    const directory = this.#directories.get(directoryKey) ?? newDirectory(nowMs);
    this.#directories.set(directoryKey, directory);
    if (nowMs - directory.missedAtMs > idleMaxMs) directory.misses = 0;
    directory.missedAtMs = nowMs;
    directory.misses += 1;
    return directory.misses < missesNeeded ? undefined : searchOf(directory, fileId);
  }

  /** A file that had been brought was opened. */
  used(fileId: number): SiblingSearch | undefined {
    const directory = this.#unused.get(fileId);
    if (directory === undefined) return undefined;
    this.#unused.delete(fileId);
    directory.unused -= 1;
    directory.uses += 1;
    return searchOf(directory, fileId);
  }

  /**
   * These are being brought, of those that were `found`: some may be under way already. Fewer found than `count`: there
   * are no more.
   */
  brought(
    directoryKey: string,
    fileIds: readonly number[],
    { count }: SiblingSearch,
    found: readonly number[],
  ): void {
    const directory = this.#directories.get(directoryKey);
    if (directory === undefined) return;
    const isAll = found.length < count;
    if (isAll) directory.opensToWait = opensWithoutLooking;
    directory.lastId = isAll ? undefined : found.at(-1);
    directory.unused += fileIds.length;
    for (const id of fileIds) this.#unused.set(id, directory);
  }

  /** It was brought, and not used since. */
  isBrought(fileId: number): boolean {
    return this.#unused.has(fileId);
  }
}

function newDirectory(missedAtMs: number): Directory {
  return { misses: 0, missedAtMs, uses: 0, unused: 0, opensToWait: 0, lastId: undefined };
}

function searchOf(directory: Directory, fileId: number): SiblingSearch | undefined {
  if (directory.opensToWait > 0) {
    directory.opensToWait -= 1;
    return undefined;
  }
  const count = startCount + countPerUse * directory.uses - directory.unused;
  if (count < countMin) return undefined;
  return { afterId: directory.lastId ?? fileId, count: Math.min(count, countMax) };
}
