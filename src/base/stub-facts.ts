/** What catalog, mark and memory know of a stub: one meaning for all of them. */

/** docs/native.md, `change`: what users may have done to the content. The numbers are on disks. */
export const StubChange = { clean: 0, intent: 1, discarding: 2, dirty: 3 } as const;
export type StubChange = (typeof StubChange)[keyof typeof StubChange];

export interface StubFacts {
  /** 1 .. 2^53-1, never reused. */
  readonly id: number;
  /** sys/handle.ts `encodeHandle`. Unique. */
  readonly handle: Uint8Array;
  /** Remote key (remote/remote.ts). Not unique: hard links have one record, replaced versions several. */
  readonly key: string;
  readonly version: string;
  /** Of that version, exact. */
  readonly sizeBytes: number;
  /** What the stub's mtime is while it is clean. */
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
  readonly chunkBytes: number;
  /** Encoded residency (tree/residency.ts): chunks whose bytes are on stable storage. */
  readonly bitmap: Uint8Array;
  readonly residentBytes: number;
  readonly complete: boolean;
  readonly change: StubChange;
  /** The inode's ctime when `change` was recorded; 0, 0 while it is `clean` or not known. */
  readonly ctimeSeconds: number;
  readonly ctimeNanoseconds: number;
  readonly pinned: boolean;
}

/** What decides which ids are taken. */
interface StubIds {
  get(id: number): unknown;
  reserveIds(count: number): number;
}

/**
 * `id`, or a new one where another stub has that: a stub that is found without a record brings the id of its mark,
 * which may have been given away since, when the catalog was lost.
 */
export function freeId(taken: StubIds, id: number): number {
  return taken.get(id) === undefined ? id : taken.reserveIds(1);
}
