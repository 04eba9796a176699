/**
 * The contract of the catalog: the embedded, rebuildable index of the namespace and of what is local.
 *
 * Two tables. *Nodes* are names of the remote namespace as last listed. *Contents* are local files of the tree
 * (stubs, partly or wholly resident); a content belongs to exactly one node id and one remote version. A node
 * id is never used again, and a node never changes its content: when the remote's version moves, the name gets
 * a new node (see docs/decisions/0002-one-node-one-version.md). So an id names bytes for ever.
 *
 * Concurrency: one writer (the daemon's main thread, `Catalog`), any number of readers in other threads
 * (`CatalogReader` over a connection of their own). A committed write is seen by the next read of a reader.
 * All calls are synchronous. Names are the raw bytes of the directory entry.
 */

/** The root directory's node id; FUSE wants 1. */
export const ROOT_NODE_ID = 1;

export const NodeKind = { file: 1, directory: 2, symlink: 3 } as const;
export type NodeKind = (typeof NodeKind)[keyof typeof NodeKind];

export interface Node {
  /** 1 .. 2^53-1, never reused. */
  readonly id: number;
  /** 0 for the root and for orphans (names that are gone but whose content is still open or kept). */
  readonly parentId: number;
  readonly name: Uint8Array;
  readonly kind: NodeKind;
  /** Permission bits, 0o0000..0o7777; -1 = unknown (the front end's default applies). */
  readonly mode: number;
  /** -1 = unknown. */
  readonly uid: number;
  readonly gid: number;
  /** -1 = unknown until fetched. */
  readonly sizeBytes: number;
  readonly mtimeSeconds: number;
  /** -1 = the time is unknown. */
  readonly mtimeNanoseconds: number;
  /** True when size and mtime are exact; false: `stat` the remote before showing them to anybody. */
  readonly exact: boolean;
  /** The remote's version string; null = not yet known. */
  readonly version: string | null;
  /** Symlink target bytes; null for other kinds. */
  readonly target: Uint8Array | null;
  /** Remote `user.` xattrs; null = none. */
  readonly xattrs: ReadonlyMap<string, Uint8Array> | null;
  /** When these facts were last confirmed by the remote, ms since 1970. */
  readonly checkedAtMs: number;
  /** Directories: when the listing was last completed; 0 = never listed. */
  readonly listedAtMs: number;
}

/** What is needed to make a node; `id` is given by the catalog. */
export interface NewNode extends Omit<Node, 'id' | 'listedAtMs'> {
  /**
   * Adopts this orphan: the name gets the orphan's node id and with it the content that is still here. Without
   * `id`, a file whose version is known adopts an orphan of the same key, version and size by itself.
   */
  readonly id?: number;
}

/** The changes of one directory after a complete listing. Applied in one transaction. */
export interface DirectoryChange {
  readonly directoryId: number;
  readonly listedAtMs: number;
  readonly inserted: readonly NewNode[];
  /**
   * Same id, refreshed facts (attributes learned, checkedAtMs). `listedAtMs` is not taken over: a subdirectory
   * may have been listed meanwhile. Nodes that are not (any more) in this directory are passed over.
   */
  readonly updated: readonly Node[];
  /** Names that are gone or were replaced. Files with content become orphans; others (and subtrees) are deleted. */
  readonly removedIds: readonly number[];
}

export interface Content {
  /** Equals the node's id. */
  readonly id: number;
  /** The remote key of the content, as in remote.ts, so that an orphan can still be checked and explained. */
  readonly key: string;
  readonly version: string;
  readonly sizeBytes: number;
  readonly chunkBytes: number;
  /** Encoded residency bitmap (tree/residency.ts): chunks whose bytes are on stable storage. */
  readonly bitmap: Uint8Array;
  readonly residentBytes: number;
  readonly complete: boolean;
  /** Kernel file handle of the local file (identity; invariant I7): type, then bytes. */
  readonly handle: Uint8Array;
  readonly accessedAtMs: number;
  readonly pinned: boolean;
  /** The remote no longer has this name or version (definite answer); content kept as possibly the last copy. */
  readonly lost: boolean;
}

export interface CatalogTotals {
  readonly files: number;
  readonly directories: number;
  readonly remoteBytes: number;
  readonly residentBytes: number;
  readonly contents: number;
}

export interface CatalogReader extends Disposable {
  node(id: number): Node | undefined;
  child(parentId: number, name: Uint8Array): Node | undefined;
  /** Children with id > afterId in ascending id order (the order of the listing); at most `limit`. */
  children(parentId: number, afterId: number, limit: number): Node[];
  /** The same, of each its id and its `checkedAtMs` alone: costs a fraction. */
  childChecks(
    parentId: number,
    afterId: number,
    limit: number,
  ): (readonly [id: number, checkedAtMs: number])[];
  /** Number of child directories (for st_nlink). */
  subdirectoryCount(parentId: number): number;
  /** Names from the root, without the root; undefined if the node is unknown or an orphan. */
  path(id: number): Uint8Array[] | undefined;
  content(id: number): Content | undefined;
  /**
   * Totals below a directory, itself not counted. O(1) for the root, O(subtree) else. For the root, `contents`
   * and `residentBytes` are those of the whole tree, orphans included: what the cache holds.
   */
  totals(directoryId: number): CatalogTotals;
  /** Whether a directory here or below was never listed, or the size of a file below is not known. O(subtree). */
  lacksFacts(directoryId: number): boolean;
}

export interface Catalog extends CatalogReader {
  /**
   * Runs `work`, whose changes cost one transaction instead of one each, and are seen by other readers when it has
   * returned. Each of them is all or nothing by itself: one that throws leaves the others. A change that must be
   * durable is, with all before it. Throws what `work` throws, or ENOSPC, EIO, ...: then nothing after the last
   * durable change is there. `totals` does not count what is under way.
   */
  together<Result>(work: () => Result): Result;
  /**
   * Applies a listing, all or nothing; returns the inserted nodes with their ids, in order. Throws ENOENT when
   * the directory is gone, ENOTDIR when it is none, EEXIST when a name is taken.
   */
  applyListing(change: DirectoryChange): Node[];
  /** Replaces one node's facts in place (same id, parent, name and kind). Throws ENOENT when it is gone. */
  updateNode(node: Node): void;
  /**
   * Gives the name a new node (a new version): the old one becomes an orphan or goes. Returns the new node,
   * which is an adopted orphan where one of the same key and version is still here. Throws ENOENT when the old
   * node has no name any more.
   */
  replaceNode(oldId: number, replacement: NewNode): Node;
  /** Removes a name (definite 404). Content, if any, becomes an orphan marked lost. */
  removeNode(id: number): void;
  /**
   * Makes or replaces the content of a file node; durable unless it claims nothing and claimed nothing before.
   * Throws ENOENT when the node is gone.
   */
  putContent(content: Content): void;
  /** Many at once, one transaction, durable when it returns (residency after data; release before punch). */
  commitResidency(
    rows: readonly Pick<Content, 'id' | 'bitmap' | 'residentBytes' | 'complete'>[],
  ): void;
  touch(accesses: ReadonlyMap<number, number>): void;
  setPinned(id: number, pinned: boolean): void;
  setLost(id: number, lost: boolean): void;
  /** Durable. The node of an orphan goes with it. */
  deleteContent(id: number): void;
  /**
   * The orphan that holds this version of this key. A node that learns its version only later (`stat`) adopts it
   * by `replaceNode`.
   */
  orphanByKey(key: string, version: string): Content | undefined;
  /**
   * Puts contents found in the tree back as orphans, with the ids they have there (rebuild); durable. Throws
   * EEXIST when an id is taken.
   */
  restoreOrphans(contents: readonly Content[]): void;
  /** No node will be given an id <= `id` from now on; durable. */
  continueIdsAfter(id: number): void;
  /**
   * Contents in ascending accessedAtMs with residentBytes > 0, for the release policy; stable paging by
   * (accessedAtMs, id).
   */
  leastRecentlyUsed(
    after: { accessedAtMs: number; id: number } | undefined,
    limit: number,
  ): Content[];
  orphans(afterId: number, limit: number): Content[];
  contents(afterId: number, limit: number): Content[];
  /** Small key-value store for the tree id, the remote's URL, clean-shutdown marks. */
  setting(name: string): string | undefined;
  setSetting(name: string, value: string): void;
}
