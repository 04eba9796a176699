/**
 * How many files of a group may be brought before anybody asks for them, because others of it are being opened. Pure.
 * A group is a directory (a compiler over headers, tar(1), grep(1)), or all files of one name (make(1) that goes down
 * into directories, a program that looks for the description of each package).
 *
 * A group proves itself by `missesNeeded` small files that were not here when they were opened, whoever opened
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
const groupsMax = 1_024;
/** Files that were brought are remembered until they are used; one that is forgotten counts as never used. */
const unusedMax = 4_096;

interface Group {
  misses: number;
  missedAtMs: number;
  uses: number;
  /** Brought, and not used. */
  unused: number;
  /** Opens until it is looked for files again. */
  opensToWait: number;
  /** Where the next search begins; undefined: at the file that is opened. */
  lastId: number | undefined;
}

/** What may be brought now. */
export interface SiblingSearch {
  /** Of the files that come after this one, or are near to it, */
  readonly afterId: number;
  /** at most so many. */
  readonly count: number;
}

export class SiblingCredit {
  readonly #groups = new BoundedMap<string, Group>(groupsMax);
  readonly #unused = new BoundedMap<number, Group>(unusedMax);

  /** A small file of the group was opened and is not here. */
  missed(groupKey: string, fileId: number, nowMs: number): SiblingSearch | undefined {
    const group = this.#groups.get(groupKey) ?? newGroup(nowMs);
    this.#groups.set(groupKey, group);
    if (nowMs - group.missedAtMs > idleMaxMs) group.misses = 0;
    group.missedAtMs = nowMs;
    group.misses += 1;
    return group.misses < missesNeeded ? undefined : searchOf(group, fileId);
  }

  /** A file that had been brought was opened. */
  used(fileId: number): SiblingSearch | undefined {
    const group = this.#unused.get(fileId);
    if (group === undefined) return undefined;
    this.#unused.delete(fileId);
    group.unused -= 1;
    group.uses += 1;
    return searchOf(group, fileId);
  }

  /**
   * These are being brought. `isAll`: there are no more near by. `lastId`: where the next search begins; undefined: at
   * the file that is opened then.
   */
  brought(
    groupKey: string,
    fileIds: readonly number[],
    { isAll, lastId }: { readonly isAll: boolean; readonly lastId: number | undefined },
  ): void {
    const group = this.#groups.get(groupKey);
    if (group === undefined) return;
    if (isAll) group.opensToWait = opensWithoutLooking;
    group.lastId = lastId;
    group.unused += fileIds.length;
    for (const id of fileIds) this.#unused.set(id, group);
  }

  /** It was brought, and not used since. */
  isBrought(fileId: number): boolean {
    return this.#unused.has(fileId);
  }
}

function newGroup(missedAtMs: number): Group {
  return { misses: 0, missedAtMs, uses: 0, unused: 0, opensToWait: 0, lastId: undefined };
}

function searchOf(group: Group, fileId: number): SiblingSearch | undefined {
  if (group.opensToWait > 0) {
    group.opensToWait -= 1;
    return undefined;
  }
  const count = startCount + countPerUse * group.uses - group.unused;
  if (count < countMin) return undefined;
  return { afterId: group.lastId ?? fileId, count: Math.min(count, countMax) };
}
