/**
 * Recording what users may do or have done to a stub (docs/native.md, `change`).
 *
 * Order of a change: from the call on nothing more is recalled into the file; writes under way end; the mark is on the
 * disk; then the catalog, with the ctime that the inode has now: whatever moves ctime from here on was not Ebb. A crash
 * in between leaves the catalog, which counts, as it was. Back to `clean`, the catalog comes first.
 */
import { StubChange } from '../../base/stub-facts.ts';
import type { StubFacts } from '../../base/stub-facts.ts';
import { EbbError, ebbError } from '../../base/errors.ts';
import { syncFile } from '../../sys/file-io.ts';
import { fileStatus, sameTime, setFileTimes, tellsChanges } from '../../sys/stat.ts';
import type { FileTime } from '../../sys/stat.ts';
import type { MarkSeal } from '../mark.ts';
import type { StubAccess } from './stub-access.ts';
import type { LoadedStub } from './stub-file.ts';
import { hasBlockAside, setBlockAside, wasCutOff } from './evidence.ts';
import type { StubTimes } from './kept-times.ts';
import { writeStubMark } from './stub-mark.ts';

const { clean, intent, discarding, dirty } = StubChange;

export interface ChangePort {
  readonly access: StubAccess;
  readonly seal: MarkSeal;
  readonly hasPoison: boolean;
  /** The catalog's record. */
  lookup(id: number): StubFacts | undefined;
  /** Durable when it returns. */
  commit(row: Pick<StubFacts, 'id' | 'change' | 'ctimeSeconds' | 'ctimeNanoseconds'>): void;
  /** As `StubOwner.keepTimes`. */
  keepTimes(stub: LoadedStub, times: StubTimes): Disposable | undefined;
  /** What is here of this stub is durable. */
  settled(id: number): Promise<void>;
}

export class Changes {
  readonly #port: ChangePort;
  /** The last change asked for, by stub. */
  readonly #last = new Map<number, Promise<void>>();

  constructor(port: ChangePort) {
    this.#port = port;
  }

  /** As `StubStore.setChange`. Changes of one stub are recorded one after the other. */
  record(stub: LoadedStub, change: StubChange): Promise<void> {
    stub.holds += 1;
    const before = this.#last.get(stub.id) ?? Promise.resolve();
    const recorded = before
      .catch(() => undefined)
      .then(() => this.#record(stub, change))
      .finally(() => {
        stub.holds -= 1;
        if (this.#last.get(stub.id) === recorded) this.#last.delete(stub.id);
      });
    this.#last.set(stub.id, recorded);
    return recorded;
  }

  /** As `StubStore.unchanged`. */
  unchanged(stub: LoadedStub): boolean {
    const record = this.#port.lookup(stub.id);
    if (record === undefined || record.change === dirty) return false;
    const status = this.#port.access.status(stub.handle);
    const { sizeBytes, mtime, ctime } = status;
    const recorded = { seconds: record.ctimeSeconds, nanoseconds: record.ctimeNanoseconds };
    const isUntouched = sameTime(ctime, recorded) && tellsChanges(ctime);
    if (record.change === discarding) {
      // Nothing at all was done to it since, whatever its mtime was by then.
      if (isUntouched) return true;
      using fd = this.#port.access.openForReading(stub.handle);
      const cutOff = wasCutOff(fd.fd, status, stub, this.#port.hasPoison);
      if (cutOff !== undefined) return !cutOff;
    }
    if (sizeBytes !== stub.sizeBytes || !sameTime(mtime, stub.mtime)) return false;
    return record.change === clean || isUntouched;
  }

  /** As `StubStore.isUncut`. */
  isUncut(stub: LoadedStub): boolean {
    if (stub.change !== discarding) return false;
    if (this.#port.hasPoison) return this.unchanged(stub);
    using fd = this.#port.access.openForReading(stub.handle);
    return fileStatus(fd.fd).sizeBytes === stub.sizeBytes && hasBlockAside(fd.fd, stub.sizeBytes);
  }

  async #record(stub: LoadedStub, change: StubChange): Promise<void> {
    await stub.idle();
    const before = stub.change;
    // Dirty is not undone by another writer, and says all that the others say.
    if (before === change || (before === dirty && change !== clean)) return;
    if (change === intent && !stub.residency.complete) {
      throw ebbError('EBUSY', `${stub.key} is not wholly here: it cannot be written to yet.`);
    }
    if (change === clean && !this.unchanged(stub)) {
      throw ebbError('ESTALE', `${stub.key} was changed.`, { retryable: false });
    }
    // What a writer finds must not vanish in a power cut while what he wrote stays.
    if (change !== clean) await this.#port.settled(stub.id);
    if (change === intent && !stub.residency.complete) {
      const message = `The disk of the tree did not take what had arrived of ${stub.key}.`;
      throw ebbError('EIO', message, { retryable: true });
    }
    if (change === discarding && !this.#port.hasPoison) this.#setBlockAside(stub);
    await this.#write(stub, before, change);
    stub.change = change;
  }

  /** Synced with the mark. */
  #setBlockAside(stub: LoadedStub): void {
    if (stub.residency.complete) return;
    try {
      using fd = this.#port.access.openForWriting(stub.handle);
      const { atime, mtime } = fileStatus(fd.fd);
      using _kept = this.#port.keepTimes(stub, { atime, mtime });
      try {
        setBlockAside(fd.fd, stub.sizeBytes);
      } finally {
        setFileTimes(fd.fd, atime, mtime);
      }
    } catch (error) {
      // No room, no extents: what lies in the file tells as much as it can.
      if (!(error instanceof EbbError)) throw error;
    }
  }

  async #write(stub: LoadedStub, before: StubChange, change: StubChange): Promise<void> {
    const record = this.#port.lookup(stub.id);
    if (record === undefined) throw ebbError('ESTALE', `${stub.key} was deleted.`);
    const { access, seal } = this.#port;
    const facts = { ...record, mtime: stub.mtime };
    using fd = access.openForReading(stub.handle);
    const mark = async (said: StubChange): Promise<void> => {
      writeStubMark(fd.fd, { ...facts, change: said }, seal);
      await syncFile(fd.fd);
    };
    if (change === clean) {
      // First the catalog: the mark moves ctime, and a crash in between would make the file look touched.
      this.#commit(stub.id, change, noTime);
      await mark(change);
      return;
    }
    // A rebuild takes a file with intent for dirty, so that the mark may stay: ctime is the user's.
    const isMarked = before === intent && change === dirty;
    if (!isMarked) await mark(change);
    try {
      this.#commit(stub.id, change, fileStatus(fd.fd).ctime);
    } catch (error) {
      // What is the user's stays marked as that: release believes it, whatever becomes of this process.
      if (change !== dirty) await mark(before);
      throw error;
    }
  }

  #commit(id: number, change: StubChange, { seconds, nanoseconds }: FileTime): void {
    this.#port.commit({ id, change, ctimeSeconds: seconds, ctimeNanoseconds: nanoseconds });
  }
}

const noTime: FileTime = { seconds: 0, nanoseconds: 0 };
