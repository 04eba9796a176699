/**
 * The store of stubs (contract: stub-store.ts). Files are opened by handle through the private mount, so that no path
 * is walked and no event is raised; claims become durable through the residency log (durability.ts).
 *
 * A mark claims what is here only where writing it costs nothing: on ext4 and btrfs, whose ctime moves with each recall
 * anyway. On xfs it would be the only thing that moves ctime, and programs that archive or index files would take
 * them for changed; there, a `rebuild` without a catalog recalls again what was here. Nor of a file that somebody has
 * open: tar(1) and the like look at ctime when they open a file and again when they have read it.
 */
import { StubChange } from '../../base/stub-facts.ts';
import type { StubFacts } from '../../base/stub-facts.ts';
import { EbbError, ebbError, toEbbError } from '../../base/errors.ts';
import { OpenFlag, openFd } from '../../sys/fd.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { syncFile } from '../../sys/file-io.ts';
import { admitAllProjects } from '../../sys/ioctl.ts';
import { isOpenElsewhere } from '../../sys/lease.ts';
import type { FileTime } from '../../sys/stat.ts';
import { syncFilesystemAsync } from '../../sys/writeback.ts';
import type { ResidencyLog, ResidencyRow } from '../durability.ts';
import {
  KeptContents,
  commitFailedMessage,
  recordedResidency,
  syncFailedMessage,
} from '../kept-contents.ts';
import type { KeptContentsOptions, StoreLimits } from '../kept-contents.ts';
import type { MarkSeal } from '../mark.ts';
import { Room } from '../room.ts';
import { Changes } from './changes.ts';
import { createStub } from './create-stub.ts';
import { inspectMarked, lacksContentInSnapshot } from './marked-facts.ts';
import { KeptTimes } from './kept-times.ts';
import type { StubTimes, TimesInTurn } from './kept-times.ts';
import type { ReleaseRequest, ReleaseResult } from '../release.ts';
import { releaseStubs } from './release-stubs.ts';
import { PoisonFiles } from './poison.ts';
import { contradictionOf } from './soundness.ts';
import { StubAccess } from './stub-access.ts';
import { LoadedStub } from './stub-file.ts';
import { StubMaker } from './stub-maker.ts';
import type { StubOwner } from './stub-file.ts';
import { hasOwnMark, markInSnapshot, removeStubMark, writeStubMark } from './stub-mark.ts';
import type { NewStub, StubFile, StubProblem, StubStore } from './stub-store.ts';

/** The part of the catalog (catalog/stub-catalog.ts) that the store uses. */
export interface StubRecords {
  get(id: number): StubFacts | undefined;
  byHandle(handle: Uint8Array): StubFacts | undefined;
  commitResidency(rows: readonly ResidencyRow[]): void;
  setChange(
    rows: readonly Pick<StubFacts, 'id' | 'change' | 'ctimeSeconds' | 'ctimeNanoseconds'>[],
  ): void;
  setPinned(id: number, pinned: boolean): void;
  delete(ids: readonly number[]): void;
  bury(ids: readonly number[]): void;
}

export interface StubStoreOptions {
  /** The tree's `.ebb` on the private mount: an open directory, not O_PATH. The store keeps no hold on it. */
  readonly privateFd: number;
  readonly seal: MarkSeal;
  readonly records: StubRecords;
  readonly onProblem: (problem: StubProblem) => void;
  readonly limits?: StoreLimits;
  /** Held while a lease is tried (src/native/reading-turn.ts). Default: nothing. */
  readonly whileLeased?: () => Disposable;
  /** False beside another store of the tree, whose file of times it is: see kept-times.ts. Default true. */
  readonly keepsTimes?: boolean;
  /** For tests of fault handling. */
  readonly syncData?: (fd: number) => Promise<void>;
}

/** Left free: reflinks and marks need some room for themselves, and nothing could be released without. */
export const reservedBytesDefault = 16 * 1024 * 1024;

export class NativeStubStore implements StubStore, StubOwner {
  readonly access: StubAccess;
  readonly seal: MarkSeal;
  /** Undefined: stubs are holes. */
  readonly poison: PoisonFiles | undefined;
  readonly records: StubRecords;
  readonly #options: StubStoreOptions;
  readonly #root: OwnedFd;
  readonly #staging: OwnedFd;
  readonly #poisonDirectory: OwnedFd;
  readonly #kept: KeptContents<LoadedStub>;
  readonly #changes: Changes;
  /** Undefined: writes move no times, or it is another store's. */
  readonly #times: KeptTimes | undefined;

  constructor(options: StubStoreOptions) {
    this.#options = options;
    this.seal = options.seal;
    this.records = options.records;
    const flags = OpenFlag.rdonly | OpenFlag.directory | OpenFlag.nofollow;
    this.#root = openFd('data', flags, 0, options.privateFd);
    this.#staging = openFd('new', flags, 0, options.privateFd);
    admitAllProjects(this.#staging.fd);
    this.#poisonDirectory = openFd('poison', flags, 0, options.privateFd);
    this.access = new StubAccess(this.#root.fd);
    this.poison = this.access.hasReflinks
      ? new PoisonFiles(this.#poisonDirectory.fd, this.access.blockBytes)
      : undefined;
    const { limits } = options;
    this.#kept = new KeptContents({
      open: (id) => this.#openSound(id),
      room: new Room(this.#root.fd, limits?.reservedBytes ?? reservedBytesDefault, 'tree'),
      record: this.#record(),
      limits,
      syncData: options.syncData,
    });
    this.#changes = new Changes({
      access: this.access,
      seal: this.seal,
      hasPoison: this.poison !== undefined,
      lookup: (id) => this.records.get(id),
      commit: (row) => this.records.setChange([row]),
      keepTimes: (stub, times) => this.keepTimes(stub, times),
      settled: (id) => this.log.settled(id),
    });
    this.#times =
      this.isInvisible || options.keepsTimes === false
        ? undefined
        : new KeptTimes(options.privateFd, this.access, (id) => this.records.get(id));
  }

  get log(): ResidencyLog<LoadedStub> {
    return this.#kept.log;
  }

  get rootFd(): number {
    return this.#root.fd;
  }

  get stagingFd(): number {
    return this.#staging.fd;
  }

  get hasPoison(): boolean {
    return this.poison !== undefined;
  }

  get poisonBlockBytes(): number | undefined {
    return this.hasPoison ? this.access.blockBytes : undefined;
  }

  get isInvisible(): boolean {
    return this.access.isInvisible;
  }

  create(directoryFd: number, name: Uint8Array, stub: NewStub): StubFacts {
    const { seal, poison } = this;
    const { chunkBytes } = this.#options.limits ?? {};
    return createStub(directoryFd, name, stub, { seal, poison, chunkBytes });
  }

  startMaker(): StubMaker {
    const { seal, poisonBlockBytes: blockBytes } = this;
    const directoryFd = this.#poisonDirectory.fd;
    const poison = blockBytes === undefined ? undefined : { directoryFd, blockBytes };
    const { chunkBytes } = this.#options.limits ?? {};
    return new StubMaker({ seal, poison, chunkBytes });
  }

  syncTree(): Promise<void> {
    return syncFilesystemAsync(this.rootFd);
  }

  get(id: number): LoadedStub | undefined {
    const loaded = this.#kept.get(id);
    if (loaded !== undefined) return loaded;
    const facts = this.records.get(id);
    return facts && this.#load(facts);
  }

  /** The stub if it is loaded already: then its residency may be ahead of its record. Loads nothing. */
  loaded(id: number): LoadedStub | undefined {
    return this.#kept.get(id);
  }

  byHandle(handle: Uint8Array): LoadedStub | undefined {
    const facts = this.records.byHandle(handle);
    return facts && (this.#kept.get(facts.id) ?? this.#load(facts));
  }

  factsOfMark(fd: number): StubFacts | undefined {
    const marked = inspectMarked(fd, this.seal, this.hasPoison);
    return marked && 'facts' in marked ? marked.facts : undefined;
  }

  isMarked(fd: number): boolean {
    return hasOwnMark(fd, this.seal);
  }

  requireSound(file: StubFile, fd: number): void {
    const stub = this.mine(file);
    // What is being recorded is in one of them and not yet in the other.
    if (stub.isSound || stub.holds > 0) return;
    const why = contradictionOf(fd, stub, this.seal, this.hasPoison);
    stub.isSound = why === undefined;
    if (why === undefined) return;
    const message =
      `The catalog's record of ${stub.key} is wrong (${why}): umount the tree, then run ` +
      '`ebb rebuild`, which makes the catalog anew from the marks on the files.';
    this.report(stub.id, message, undefined);
    throw ebbError('EIO', message, { retryable: false });
  }

  isStubInSnapshot(fd: number): boolean {
    const mark = markInSnapshot(fd, this.rootFd, this.seal);
    return mark !== undefined && lacksContentInSnapshot(fd, mark, this.hasPoison);
  }

  async setChange(file: StubFile, change: StubChange): Promise<void> {
    await this.#changes.record(this.mine(file), change);
  }

  unchanged(file: StubFile): boolean {
    try {
      return this.#changes.unchanged(this.mine(file));
    } catch (error) {
      if (error instanceof EbbError && error.code === 'ESTALE') return false;
      throw error;
    }
  }

  isUncut(file: StubFile): boolean {
    return this.#changes.isUncut(this.mine(file));
  }

  changedAt(file: StubFile): FileTime | undefined {
    try {
      return this.access.status(file.handle).ctime;
    } catch (error) {
      if (error instanceof EbbError && error.code === 'ESTALE') return undefined;
      throw error;
    }
  }

  setPinned(file: StubFile, pinned: boolean): void {
    const stub = this.mine(file);
    this.records.setPinned(stub.id, pinned);
    stub.pinned = pinned;
    this.#writeMark(stub, `The mark of ${stub.key} does not say whether it is pinned.`);
  }

  restoreMark(file: StubFile): void {
    const stub = this.mine(file);
    this.#writeMark(stub, `The mark of ${stub.key}, which somebody took off, cannot be written.`);
  }

  /** As the record is. `complaint`: for who looks after the tree, when it fails. */
  #writeMark(stub: LoadedStub, complaint: string): void {
    const record = this.records.get(stub.id);
    // While users may write, ctime is what shows it.
    if (record === undefined || stub.change !== StubChange.clean || stub.holds > 0) return;
    try {
      using fd = this.access.openForReading(stub.handle);
      writeStubMark(fd.fd, { ...record, mtime: stub.mtime }, this.seal);
    } catch (error) {
      this.report(stub.id, complaint, error);
    }
  }

  closeOwn(file: StubFile): boolean {
    return !this.mine(file).isWriting && this.#kept.descriptors.drop(file.id);
  }

  settled(id: number): Promise<void> {
    return this.log.settled(id);
  }

  committed(id: number): Promise<void> {
    return this.log.committed(id);
  }

  flush(): Promise<void> {
    return this.log.flush();
  }

  release(
    files: readonly StubFile[],
    request: ReleaseRequest<StubFile>,
  ): Promise<readonly ReleaseResult[]> {
    return releaseStubs(this, files as readonly LoadedStub[], request);
  }

  async forget(ids: readonly number[]): Promise<void> {
    for (const id of ids) await this.#kept.drop(id);
    this.records.bury(ids);
  }

  async unmark(file: StubFile): Promise<void> {
    const stub = this.mine(file);
    if (!stub.settled || stub.change === StubChange.discarding) {
      throw ebbError('EBUSY', `${stub.key} is not wholly here: recall it first.`);
    }
    await this.log.settled(stub.id);
    if (!stub.settled) {
      throw ebbError('EIO', syncFailedMessage(stub.key, 'tree'), { retryable: true });
    }
    using fd = this.access.openForReading(stub.handle);
    this.requireSound(stub, fd.fd);
    removeStubMark(fd.fd);
    await syncFile(fd.fd);
    await this.#kept.drop(stub.id);
    this.records.delete([stub.id]);
  }

  /** The loaded stub that a caller's object is. Throws ESTALE when it was forgotten. */
  mine(file: StubFile): LoadedStub {
    const stub = file as LoadedStub;
    this.#kept.requireCurrent(stub);
    return stub;
  }

  /** For release: closes our own descriptor and keeps everybody in this process away until disposed. */
  beginRelease(stub: LoadedStub): Disposable | undefined {
    return stub.holds > 0 ? undefined : this.#kept.beginRelease(stub);
  }

  keepTimes(stub: LoadedStub, times: StubTimes): Disposable | undefined {
    return this.#times?.keep(stub.id, times);
  }

  /** As `keepTimes`, of stubs that are written to one after the other. */
  keepTimesInTurn(): TimesInTurn | undefined {
    return this.#times?.inTurn();
  }

  changedPastUs(stub: LoadedStub, message: string): void {
    this.report(stub.id, message, undefined);
  }

  report(id: number | undefined, message: string, cause: unknown): void {
    const error = cause === undefined ? undefined : toEbbError(cause);
    this.#options.onProblem({ id, message, cause: error });
  }

  /** Commits what is queued, closes everything. Rejects when the commit failed. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.log.flush();
    } finally {
      this.abandon();
    }
  }

  /** Closes everything without committing. */
  abandon(): void {
    this.#kept.abandon();
    this.#times?.[Symbol.dispose]();
    this.poison?.[Symbol.dispose]();
    this.#poisonDirectory.close();
    this.#staging.close();
    this.#root.close();
  }

  #openSound(id: number): OwnedFd {
    const stub = this.#require(id);
    const fd = this.access.openForWriting(stub.handle);
    try {
      this.requireSound(stub, fd.fd);
      return fd;
    } catch (error) {
      fd.close();
      throw error;
    }
  }

  #require(id: number): LoadedStub {
    const stub = this.get(id);
    if (stub === undefined) throw ebbError('ESTALE', `Stub ${id} was deleted.`);
    return stub;
  }

  #load(facts: StubFacts): LoadedStub {
    const residency = recordedResidency(facts, (message, cause) =>
      this.report(facts.id, message, cause),
    );
    const stub = new LoadedStub(facts, residency, this.#kept, this);
    this.#kept.add(stub);
    return stub;
  }

  #record(): KeptContentsOptions<LoadedStub>['record'] {
    return {
      commit: (rows) => this.records.commitResidency(rows),
      mark: (stub, row, fd) => {
        this.#markClaims(stub, row, fd);
        // What users delete gives its blocks back, and its deletion is told, only when we do not have it open either.
        setImmediate(() => this.#kept.descriptors.drop(stub.id));
      },
      syncFailed: ({ id, key }, cause) => this.report(id, syncFailedMessage(key, 'tree'), cause),
      commitFailed: (cause) => this.report(undefined, commitFailedMessage, cause),
    };
  }

  /** Never removes a mark: see stub-mark.ts. One that says too little costs a rebuild some recalls. */
  #markClaims(stub: LoadedStub, row: ResidencyRow, fd: number): void {
    if (this.isInvisible || stub.change !== StubChange.clean || stub.holds > 0) return;
    try {
      // What was lost must not be claimed any longer, whoever looks.
      if (row.residentBytes > 0 && this.#isOpenElsewhere(fd)) return;
      const { id, handle, key, version, sizeBytes, mtime, pinned } = stub;
      const { chunkBytes } = stub.residency;
      const { bitmap, residentBytes, complete } = row;
      const facts = { id, handle, key, version, sizeBytes, mtime, pinned, chunkBytes };
      writeStubMark(
        fd,
        { ...facts, change: StubChange.clean, bitmap, residentBytes, complete },
        this.seal,
      );
    } catch (error) {
      this.report(stub.id, `The mark of ${stub.key} could not be brought up to date.`, error);
    }
  }

  #isOpenElsewhere(fd: number): boolean {
    using _turn = this.#options.whileLeased?.();
    return isOpenElsewhere(fd);
  }
}
