/**
 * The contract of a native tree's local files: stubs are made, written, marked, released here (docs/native.md).
 * One per daemon, main thread only. All access goes through the private mount: it raises no events.
 */
import type { EbbError } from '../../base/errors.ts';
import type { StubChange, StubFacts } from '../../base/stub-facts.ts';
import type { FileTime } from '../../sys/stat.ts';
import type { ContentFile } from '../content.ts';
import type { ReleaseRequest, ReleaseResult } from '../release.ts';
import type { StubMaker } from './stub-maker.ts';

/** One stub, loaded: the recall engine's `ContentFile`. One object for as long as anybody holds it. */
export interface StubFile extends ContentFile {
  /** Encoded kernel handle. */
  readonly handle: Uint8Array;
  readonly mtime: FileTime;
  readonly change: StubChange;
  readonly pinned: boolean;
  /** Wholly resident, or not to be recalled any more (`discarding`, `dirty`): no event of it needs the remote. */
  readonly settled: boolean;
}

export interface NewStub {
  readonly id: number;
  readonly key: string;
  readonly version: string;
  readonly sizeBytes: number;
  readonly mtime: FileTime;
  /** Permission bits. */
  readonly mode: number;
  /** Undefined: the daemon's own. */
  readonly uid: number | undefined;
  readonly gid: number | undefined;
  /** `user.` attributes. */
  readonly xattrs: ReadonlyMap<string, Uint8Array> | undefined;
}

export interface StubStore extends AsyncDisposable {
  /** The root of the data on the private mount: for openat(2) and friends, and for open_by_handle_at(2). */
  readonly rootFd: number;
  /**
   * `.ebb/new` on the same mount as `rootFd` (so that rename(2) between them works), invisible to users. Where the
   * tree is exposed, src/attach makes stubs here, inserts their records, and only then renames them into place.
   */
  readonly stagingFd: number;
  /** Poison instead of holes (xfs, btrfs). */
  readonly hasPoison: boolean;
  /** Writes move neither mtime nor ctime (xfs). */
  readonly isInvisible: boolean;

  /**
   * Makes a stub with all its attributes and its mark, under `name` (raw bytes, one component), in a directory that
   * users cannot see (`stagingFd`, or anywhere before the tree is exposed); leaves nothing when it throws. Not synced:
   * `syncTree` makes many durable at once. Returns what the caller puts into the catalog; until then nobody can recall
   * it, and `factsOfMark` finds it again after a crash in between.
   * Throws EEXIST, ENAMETOOLONG, EINVAL (a name that the file system cannot hold), ENOSPC, EDQUOT, EFBIG.
   */
  create(directoryFd: number, name: Uint8Array, stub: NewStub): StubFacts;
  /** A thread for `create`. To be disposed before the store. */
  startMaker(): StubMaker;
  /** syncfs(2) of the tree, without blocking the thread. Rejects with EIO, ENOSPC, EDQUOT. */
  syncTree(): Promise<void>;

  /** By the catalog's record; undefined when there is none. Opens nothing. */
  get(id: number): StubFile | undefined;
  byHandle(handle: Uint8Array): StubFile | undefined;
  /**
   * What the mark of an open file says, when this tree sealed it for this very inode; else undefined. Claims only
   * what is certain without the catalog: for a stub that has no record (a crash between `create` and the catalog's
   * `insert`), and for `rebuild`.
   */
  factsOfMark(fd: number): StubFacts | undefined;
  /**
   * An open file with a mark of this tree for this very inode, whether or not that says enough for `factsOfMark`, or
   * with one of which it cannot be told any more.
   */
  isMarked(fd: number): boolean;

  /**
   * Before anything is read from an open stub: throws EIO, and reports it, when its inode shows that its record is
   * wrong. Compares them once.
   */
  requireSound(file: StubFile, fd: number): void;

  /** An open file that is what a snapshot made of one of the tree's, and not all of its content is in it. */
  isStubInSnapshot(fd: number): boolean;

  /**
   * Records what a user may do or has done, in catalog and mark, durably, before it resolves. From the call on nothing
   * more is recalled into the file unless it becomes `clean`; writes under way are waited for. `intent` needs all of
   * the file to be here, and makes that durable first. Leaving `intent` or `discarding` for `clean` needs `unchanged`
   * to have said so. Rejects when it could not be recorded: the writer must not be let in, the file is as before.
   */
  setChange(file: StubFile, change: StubChange): Promise<void>;
  /**
   * Size and mtime are those of the version and, since `intent` was recorded, ctime has not moved (chmod, rename and
   * link move it, too: then this says false, and the file, which is whole, becomes `dirty`). After `discarding` of a
   * file that was not whole: it was not cut off, as what lies in it shows, whatever else was done to it. Synchronous.
   */
  unchanged(file: StubFile): boolean;
  /**
   * There is proof that a `discarding` file was not cut off: poison, or the block that was set aside. False where there
   * is none, so that a file that was not may be taken for one that was. Throws ESTALE, EAGAIN while it is leased.
   */
  isUncut(file: StubFile): boolean;
  /** The inode's ctime now; undefined when it was deleted. Opens nothing. */
  changedAt(file: StubFile): FileTime | undefined;
  setPinned(file: StubFile, pinned: boolean): void;
  /** Writes the mark anew that somebody took off, which moves ctime; not while users may write. Never throws. */
  restoreMark(file: StubFile): void;
  /**
   * Closes this process's own descriptor of the file, which is open for writing: while it is open, the kernel refuses
   * a read lease on the file whoever asks, so that proves nothing about others. False while it is needed (writes under
   * way, or not yet durable: see `settled`).
   */
  closeOwn(file: StubFile): boolean;

  /** Everything queued for this stub is durable. Rejects when the catalog refused it. */
  settled(id: number): Promise<void>;
  /** The same when its time comes, with others that came meanwhile: nobody waits for it. Never rejects. */
  committed(id: number): Promise<void>;
  flush(): Promise<void>;

  /**
   * Frees the blocks (I6) of some files, with one catalog transaction: proof, lease, ignore marks off, durable "nothing
   * here", punch or poison, lease dropped. Results in the order of `files`. Never throws for what the outside world
   * does. `beforeFreeing` runs under the lease, before the record is changed: takes the ignore marks off. At most
   * `releaseBatchMax` files share leases and a transaction; more are done in turns.
   */
  release(
    files: readonly StubFile[],
    request: ReleaseRequest<StubFile>,
  ): Promise<readonly ReleaseResult[]>;
  /** Forgets records whose inode is gone (deleted by the user); their keys stay known (`StubCatalog.bury`). */
  forget(ids: readonly number[]): Promise<void>;
  /**
   * Turns a wholly resident stub into an ordinary file: no mark, no record (detach). EBUSY when it is not, EIO when the
   * disk did not take its bytes: then it is a stub that has to be recalled.
   */
  unmark(file: StubFile): Promise<void>;
}

/** What goes wrong outside of calls. */
export interface StubProblem {
  readonly id: number | undefined;
  readonly message: string;
  readonly cause: EbbError | undefined;
}
