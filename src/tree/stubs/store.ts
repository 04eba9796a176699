/**
 * The store of stubs (contract: stub-store.ts). Files are opened by handle through the private mount, so that no path
 * is walked and no event is raised; claims become durable through the residency log (durability.ts).
 *
 * A mark claims what is here only where writing it costs nothing: on ext4 and btrfs, whose ctime moves with each recall
 * anyway. On xfs it would be the only thing that moves ctime, and programs that archive or index files would take
 * them for changed; there, a `rebuild` without a catalog recalls again what was here.
 */
import { StubChange } from '../../base/stub-facts.ts';
import type { StubFacts } from '../../base/stub-facts.ts';
import { EbbError, ebbError, toEbbError } from '../../base/errors.ts';
import { OpenFlag, openFd } from '../../sys/fd.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { syncData, syncFile } from '../../sys/file-io.ts';
import type { FileTime } from '../../sys/stat.ts';
import { startWriteback, syncFilesystemAsync } from '../../sys/writeback.ts';
import { DescriptorCache } from '../descriptor-cache.ts';
import type { DescriptorUse } from '../descriptor-cache.ts';
import { ResidencyLog } from '../durability.ts';
import type { DurabilityLimits, DurabilityPort, ResidencyRow } from '../durability.ts';
import { LoadedContents } from '../loaded-contents.ts';
import type { MarkSeal } from '../mark.ts';
import { ReleaseGate } from '../release-gate.ts';
import { Residency, chunkBytesFor } from '../residency.ts';
import { Room } from '../room.ts';
import { Changes } from './changes.ts';
import { createStub } from './create-stub.ts';
import { inspectMarked } from './marked-facts.ts';
import type { ReleaseRequest, ReleaseResult } from '../release.ts';
import { releaseStubs } from './release-stubs.ts';
import { PoisonFiles } from './poison.ts';
import { StubAccess } from './stub-access.ts';
import { LoadedStub } from './stub-file.ts';
import type { StubPort } from './stub-file.ts';
import { removeStubMark, writeStubMark } from './stub-mark.ts';
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
  readonly limits?: DurabilityLimits & {
    readonly openDescriptorsMax?: number;
    readonly reservedBytes?: number;
    readonly chunkBytes?: number;
  };
  /** For tests of fault handling. */
  readonly syncData?: (fd: number) => Promise<void>;
}

/** Left free: reflinks and marks need some room for themselves, and nothing could be released without. */
export const reservedBytesDefault = 16 * 1024 * 1024;

export class NativeStubStore implements StubStore {
  readonly access: StubAccess;
  readonly seal: MarkSeal;
  readonly log: ResidencyLog<LoadedStub>;
  /** Undefined: stubs are holes. */
  readonly poison: PoisonFiles | undefined;
  readonly gate = new ReleaseGate();
  readonly records: StubRecords;
  readonly #options: StubStoreOptions;
  readonly #root: OwnedFd;
  readonly #staging: OwnedFd;
  readonly #poisonDirectory: OwnedFd;
  readonly #descriptors: DescriptorCache;
  readonly #loaded = new LoadedContents<LoadedStub>();
  readonly #room: Room;
  readonly #changes: Changes;
  readonly #port: StubPort;

  constructor(options: StubStoreOptions) {
    this.#options = options;
    this.seal = options.seal;
    this.records = options.records;
    const flags = OpenFlag.rdonly | OpenFlag.directory | OpenFlag.nofollow;
    this.#root = openFd('data', flags, 0, options.privateFd);
    this.#staging = openFd('new', flags, 0, options.privateFd);
    this.#poisonDirectory = openFd('poison', flags, 0, options.privateFd);
    const { reservedBytes = reservedBytesDefault } = options.limits ?? {};
    this.#room = new Room(this.#root.fd, reservedBytes, 'tree');
    this.access = new StubAccess(this.#root.fd);
    this.poison = this.access.hasReflinks
      ? new PoisonFiles(this.#poisonDirectory.fd, this.access.blockBytes)
      : undefined;
    this.#descriptors = new DescriptorCache(
      (id) => this.access.openForWriting(this.#require(id).handle),
      options.limits?.openDescriptorsMax,
    );
    this.log = new ResidencyLog(this.#logPort(), options.limits);
    this.#changes = new Changes({
      access: this.access,
      seal: this.seal,
      hasPoison: this.poison !== undefined,
      lookup: (id) => this.records.get(id),
      commit: (row) => this.records.setChange([row]),
      settled: (id) => this.log.settled(id),
    });
    this.#port = this.#stubPort();
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

  get isInvisible(): boolean {
    return this.access.isInvisible;
  }

  create(directoryFd: number, name: Uint8Array, stub: NewStub): StubFacts {
    const { seal, poison } = this;
    const { chunkBytes } = this.#options.limits ?? {};
    return createStub(directoryFd, name, stub, { seal, poison, chunkBytes });
  }

  syncTree(): Promise<void> {
    return syncFilesystemAsync(this.rootFd);
  }

  get(id: number): LoadedStub | undefined {
    const loaded = this.#loaded.get(id);
    if (loaded !== undefined) return loaded;
    const facts = this.records.get(id);
    return facts && this.#load(facts);
  }

  /** The stub if it is loaded already: then its residency may be ahead of its record. Loads nothing. */
  loaded(id: number): LoadedStub | undefined {
    return this.#loaded.get(id);
  }

  byHandle(handle: Uint8Array): LoadedStub | undefined {
    const facts = this.records.byHandle(handle);
    return facts && (this.#loaded.get(facts.id) ?? this.#load(facts));
  }

  factsOfMark(fd: number): StubFacts | undefined {
    const marked = inspectMarked(fd, this.seal, this.hasPoison);
    return marked && 'facts' in marked ? marked.facts : undefined;
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
    const record = this.records.get(stub.id);
    // While users may write, ctime is what shows it.
    if (record === undefined || stub.change !== StubChange.clean || stub.holds > 0) return;
    try {
      using fd = this.access.openForReading(stub.handle);
      writeStubMark(fd.fd, { ...record, mtime: stub.mtime, pinned }, this.seal);
    } catch (error) {
      this.report(stub.id, `The mark of ${stub.key} does not say whether it is pinned.`, error);
    }
  }

  closeOwn(file: StubFile): boolean {
    return !this.mine(file).isWriting && this.#descriptors.drop(file.id);
  }

  settled(id: number): Promise<void> {
    return this.log.settled(id);
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
    for (const id of ids) await this.#drop(id);
    this.records.bury(ids);
  }

  async unmark(file: StubFile): Promise<void> {
    const stub = this.mine(file);
    if (!stub.settled || stub.change === StubChange.discarding) {
      throw ebbError('EBUSY', `${stub.key} is not wholly here: recall it first.`);
    }
    await this.log.settled(stub.id);
    using fd = this.access.openForReading(stub.handle);
    removeStubMark(fd.fd);
    await syncFile(fd.fd);
    await this.#drop(stub.id);
    this.records.delete([stub.id]);
  }

  /** The loaded stub that a caller's object is. Throws ESTALE when it was forgotten. */
  mine(file: StubFile): LoadedStub {
    const stub = this.#loaded.get(file.id);
    if (stub === file) return stub;
    throw ebbError('ESTALE', `${file.key} is not known any more.`, { retryable: false });
  }

  /** For release: closes our own descriptor and keeps everybody in this process away until disposed. */
  beginRelease(stub: LoadedStub): Disposable | undefined {
    const { id } = stub;
    if (stub.isWriting || stub.holds > 0) return undefined;
    if (this.gate.isShut(id) || !this.#descriptors.drop(id)) return undefined;
    return this.gate.shut(id);
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
    this.log.abandon();
    this.#descriptors[Symbol.dispose]();
    this.poison?.[Symbol.dispose]();
    this.#poisonDirectory.close();
    this.#staging.close();
    this.#root.close();
  }

  #require(id: number): LoadedStub {
    const stub = this.get(id);
    if (stub === undefined) throw ebbError('ESTALE', `Stub ${id} was deleted.`);
    return stub;
  }

  async #drop(id: number): Promise<void> {
    await this.gate.opened(id);
    await this.log.forget(id);
    this.#loaded.get(id)?.residency.clear();
    this.#loaded.delete(id);
    this.#descriptors.detach(id);
  }

  #load(facts: StubFacts): LoadedStub {
    const residency = this.#decodeResidency(facts);
    const stub = new LoadedStub(facts, residency, this.#port);
    this.#loaded.set(facts.id, stub, residency.buffer.byteLength);
    return stub;
  }

  #decodeResidency(facts: StubFacts): Residency {
    try {
      return Residency.decode(facts.bitmap, facts.sizeBytes, facts.chunkBytes);
    } catch (cause) {
      const message = `The record of what is here of ${facts.key} cannot be read; it is recalled again.`;
      this.report(facts.id, message, cause);
      return Residency.create(facts.sizeBytes, chunkBytesFor(facts.sizeBytes));
    }
  }

  #use(stub: LoadedStub): DescriptorUse {
    this.mine(stub);
    if (this.gate.isShut(stub.id)) {
      throw ebbError('EBUSY', `${stub.key} is just being released.`, { retryable: true });
    }
    return this.#descriptors.use(stub.id);
  }

  #stubPort(): StubPort {
    return {
      isInvisible: this.isInvisible,
      use: (stub) => this.#use(stub),
      admitWrite: async (stub, lengthBytes) => {
        this.#room.require(lengthBytes);
        await this.gate.opened(stub.id);
        if (this.log.isFull) await this.log.drained();
        this.mine(stub);
        this.log.opened(stub);
      },
      dirtied: (stub) => {
        this.mine(stub);
        this.log.opened(stub);
      },
      marked: (stub, addedBytes) => {
        this.mine(stub);
        this.log.marked(stub, addedBytes);
      },
      changedPastUs: (stub, message) => this.report(stub.id, message, undefined),
    };
  }

  #logPort(): DurabilityPort<LoadedStub> {
    return {
      use: (stub) => this.#use(stub),
      syncData: this.#options.syncData ?? syncData,
      startWriteback,
      commit: (rows) => this.records.commitResidency(rows),
      mark: (stub, row, fd) => {
        this.#markClaims(stub, row, fd);
        // What users delete gives its blocks back, and its deletion is told, only when we do not have it open either.
        setImmediate(() => this.#descriptors.drop(stub.id));
      },
      syncFailed: (stub, cause) => {
        const message =
          `The disk did not take the bytes of ${stub.key}; they are recalled again. ` +
          'Check the disk of the tree.';
        this.report(stub.id, message, cause);
      },
      commitFailed: (cause) => {
        const message = 'What was recalled could not be recorded; trying again.';
        this.report(undefined, message, cause);
      },
    };
  }

  /** Never removes a mark: see stub-mark.ts. One that says too little costs a rebuild some recalls. */
  #markClaims(stub: LoadedStub, row: ResidencyRow, fd: number): void {
    if (this.isInvisible || stub.change !== StubChange.clean || stub.holds > 0) return;
    try {
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
}
