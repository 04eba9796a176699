/**
 * The contract of the catalog of a native tree: an index of the stubs' marks, by id, by handle and by remote key.
 * Always rebuildable from the tree. One writer; all calls are synchronous and see what was written before.
 *
 * A record belongs to one inode (its handle) and one remote version; a changed remote file gets another inode and
 * another record. Names are not kept here: the tree itself has them.
 */
import type { StubFacts } from '../base/stub-facts.ts';

export interface StubRecord extends StubFacts {
  /** The remote definitely no longer has this version: what is here may be the last copy. */
  readonly lost: boolean;
  readonly accessedAtMs: number;
}

/** What tells how much of a stub is here. */
export type StubState = Pick<StubRecord, 'id' | 'sizeBytes' | 'residentBytes' | 'change'>;

export interface StubTotals {
  readonly stubs: number;
  readonly complete: number;
  readonly dirty: number;
  /** Sum of the sizes of all versions. */
  readonly remoteBytes: number;
  readonly residentBytes: number;
}

/** Which other files that go with a record are meant: those of its directory, or of its name. */
export interface SiblingQuestion {
  readonly of: Pick<StubRecord, 'id' | 'key'>;
  readonly sizeMaxBytes: number;
  /** 1 .. */
  readonly limit: number;
}

/** What is known of a remote key besides its records, so that `refresh` respects what users did. */
export interface KnownKey {
  readonly key: string;
  /** Of a file. Directories and symlinks that came from the remote have one, too: src/attach/reconcile.ts. */
  readonly version: string;
  /** The record of which this key is a further name (hard links); 0: a file of this version was deleted here. */
  readonly id: number;
}

/** How far the remote's namespace was brought in: for resuming and for `refresh`. */
export interface ListedDirectory {
  readonly key: string;
  readonly listedAtMs: number;
  /** What the remote said of its mode, owner and time, in a form of src/attach: to see that the remote changed them. */
  readonly attributes: string;
}

/** What is listed together has ids that are near to each other. */
export const siblingReach = 1_024;
/** A third of a millisecond: of a thousand files of a project a handful have a name that nearly each directory has. */
export const namesakeReach = 4_096;

export interface StubCatalog extends Disposable {
  get(id: number): StubRecord | undefined;
  byHandle(handle: Uint8Array): StubRecord | undefined;
  /** Of `byHandle`, no more than this: for walks over a million files. */
  stateByHandle(handle: Uint8Array): StubState | undefined;
  /** The youngest (highest id) record of a key. */
  byKey(key: string): StubRecord | undefined;
  /** The first of `count` ids in a row, which nobody gets again, not even after a crash. 1 <= count <= 100,000. */
  reserveIds(count: number): number;
  /** No id <= `id` is given out from now on; durable. For a catalog that is rebuilt. */
  continueIdsAfter(id: number): void;
  /** All or nothing, one transaction; survives a crash of the process, of the machine only after `flush`. */
  insert(records: readonly StubRecord[]): void;
  /** Many at once, one transaction, durable when it returns. Unknown ids are passed over. */
  commitResidency(
    rows: readonly Pick<StubRecord, 'id' | 'bitmap' | 'residentBytes' | 'complete'>[],
  ): void;
  /** Durable when it returns. Unknown ids are passed over. */
  setChange(
    rows: readonly Pick<StubRecord, 'id' | 'change' | 'ctimeSeconds' | 'ctimeNanoseconds'>[],
  ): void;
  setPinned(id: number, pinned: boolean): void;
  setLost(id: number, lost: boolean): void;
  touch(accesses: ReadonlyMap<number, number>): void;
  delete(ids: readonly number[]): void;
  /** Deletes records whose inode users deleted, and keeps key and version as `KnownKey` with id 0. One transaction. */
  bury(ids: readonly number[]): void;
  known(key: string): KnownKey | undefined;
  /** Replaces what was known of these keys; one transaction. */
  setKnown(keys: readonly KnownKey[]): void;
  /** Ascending ids > afterId. */
  page(afterId: number, limit: number): StubRecord[];
  /** Ids > afterId, ascending, of records in `intent` or `discarding`. As cheap as they are few. */
  undecided(afterId: number, limit: number): number[];
  /**
   * Ids of clean records, not complete, not empty, not `lost`, with keys in the same directory: first those that came
   * after it, in their order, then those before, nearest first. Only ids up to `siblingReach` away are looked at.
   */
  siblings(question: SiblingQuestion): number[];
  /**
   * As `siblings`, of the same name in whatever directory, nearest first: who goes down into directories may do so in
   * the order of the listing or against it. Only ids up to `namesakeReach` away are looked at.
   */
  namesakes(question: SiblingQuestion): number[];
  /** Clean records with residentBytes > 0, not pinned, least recently used first; stable paging. */
  leastRecentlyUsed(
    after: { readonly accessedAtMs: number; readonly id: number } | undefined,
    limit: number,
  ): StubRecord[];
  /** O(1). */
  totals(): StubTotals;
  listed(key: string): ListedDirectory | undefined;
  setListed(directories: readonly ListedDirectory[]): void;
  forgetListed(): void;
  /** Durable: all that was written before survives a crash of the machine. */
  flush(): void;
  setting(name: string): string | undefined;
  setSetting(name: string, value: string): void;
}
