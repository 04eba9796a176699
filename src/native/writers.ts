/**
 * Writers of stubs: what is recorded before they are let in, and what they turned out to have done (docs/native.md).
 *
 * Three witnesses. The change group's FAN_MODIFY says that content was written or cut; it is queued before the system
 * call returns and is taken in before any later event of that file. A read lease says that nobody has the file open for
 * writing. Size, mtime and ctime say the rest, for what nobody watched: writes through mappings, and the time in which
 * no daemon ran.
 */
import { StubChange } from '../base/stub-facts.ts';
import { EbbError, ebbError, toEbbError } from '../base/errors.ts';
import type { RecallEngine } from '../recall/engine.ts';
import { OpenFlag } from '../sys/fd.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { decodeHandle, openByHandle } from '../sys/handle.ts';
import { dropLease, tryLease } from '../sys/lease.ts';
import { fileStatus, sameTime } from '../sys/stat.ts';
import type { FileTime } from '../sys/stat.ts';
import type { StubFile, StubStore } from '../tree/stubs/stub-store.ts';
import type { FileGates } from './file-gates.ts';
import type { KnownFiles, Moment } from './known-files.ts';
import type { Changed } from './messages.ts';
import { isRunning, systemCallText } from './requester.ts';

const { clean, intent, discarding, dirty } = StubChange;

/** Files whose writers may still be there, or whose inode is, are looked at again this often. */
const lookAgainMs = 2_000;
/** Writers that are looked at, and deletions that are recorded, in one turn. */
const looksMax = 256;
const deletionsPerTurnMax = 1024;
/**
 * Deletions that are remembered, 40 bytes each. The record of one beyond these stays: it counts as a file, and it keeps
 * the file from coming again, as that of one that was renamed does.
 */
const deletedMax = 1_048_576;
/** Let-in writers that are remembered; what became of others is found out when somebody asks. */
const openMax = 65_536;

export interface WritersOptions {
  readonly store: StubStore;
  readonly recall: Pick<RecallEngine, 'cancel'>;
  readonly gates: FileGates;
  readonly known: KnownFiles;
  /** All changes that happened before the call have been given to `changed`. */
  readonly changesTakenIn: () => Promise<void>;
  /** As `IgnoreMarks`. */
  readonly neverTellOfContent: (fd: number) => void;
  readonly onProblem: (fileId: number | undefined, message: string, cause: unknown) => void;
  /** For tests. Default 1,048,576. */
  readonly deletedMax?: number;
}

/** A writer that is let in: as long as its thread shows this text, its system call is not over. */
export interface LetIn {
  readonly tid: number;
  readonly callText: string | undefined;
}

interface Recorded {
  readonly file: StubFile;
  readonly letIn: LetIn[];
  /** One of them is a thread that /proc does not show to us. */
  isOneUnseen: boolean;
}

export class Writers {
  readonly #options: WritersOptions;
  /** Recorded writers whose deeds are not known yet. */
  readonly #open = new Map<number, Recorded>();
  readonly #resolving = new Map<number, Promise<void>>();
  /** Ids. */
  readonly #deleted = new Set<number>();
  /** Of these, so many are still to be looked at in this round. */
  #deletedToLookAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: WritersOptions) {
    this.#options = options;
  }

  /**
   * Records `intent`, then `letIn` runs. False: not all of the file is here (any more), nothing was done. Rejects when
   * it cannot be recorded.
   */
  async intend(file: StubFile, writer: LetIn, letIn: () => void): Promise<boolean> {
    const { store, gates, recall, known } = this.#options;
    return await gates.alone(file.id, async () => {
      if (file.change === discarding) return false;
      if (file.change === clean) {
        if (!file.residency.complete) return false;
        await recall.cancel(file.id);
        await store.setChange(file, intent);
        known.settleChanged(file);
      }
      this.#remember(file, writer);
      letIn();
      return true;
    });
  }

  /** Nothing of the file is needed any more: stops its recalls, records `discarding`, then `letIn` runs. */
  async discard(file: StubFile, writer: LetIn, letIn: () => void): Promise<void> {
    const { store, gates, recall } = this.#options;
    await gates.alone(file.id, async () => {
      if (file.change === clean) {
        await recall.cancel(file.id);
        await store.setChange(file, discarding);
      }
      this.#remember(file, writer);
      letIn();
    });
  }

  /** The local content is the user's own: never recalled into, never released. */
  async disown(file: StubFile): Promise<void> {
    await this.#options.gates.alone(file.id, () => this.#setDirty(file));
  }

  /** As `NativeServer.setPinned`. Under a lease, so that a writer's ctime is not taken for that of the pin. */
  setPinned(file: StubFile, pinned: boolean): void {
    const { store, known } = this.#options;
    using fd = store.closeOwn(file) ? this.#openFile(file) : undefined;
    const isQuiet = fd !== undefined && tryLease(fd.fd, 'read') && known.isAsSettled(file);
    store.setPinned(file, pinned);
    if (isQuiet) known.noteAsSettled(file);
  }

  /** For `requireUnmoved`: as it is before `changesTakenIn` is asked. What cannot be looked at may be changing. */
  moment(file: StubFile): Moment | undefined {
    try {
      return this.#options.known.moment(file, () => this.ctimeWithoutWriter(file));
    } catch (error) {
      if (error instanceof EbbError) return undefined;
      throw error;
    }
  }

  /** The inode's ctime; undefined: somebody may have it open for writing. */
  readonly ctimeWithoutWriter = (file: StubFile): FileTime | undefined => {
    using fd = this.#openFile(file);
    if (fd === undefined || !this.#options.store.closeOwn(file)) return undefined;
    // Before the lease: who writes afterwards moves it.
    const { ctime } = fileStatus(fd.fd);
    // Closing it gives the lease up.
    return tryLease(fd.fd, 'read') ? ctime : undefined;
  };

  /** As `NativeServer.recorded`. */
  async recorded(fileId: number): Promise<() => boolean> {
    const { store, known, gates, changesTakenIn } = this.#options;
    const file = store.get(fileId);
    const before = file && this.moment(file);
    await changesTakenIn();
    await gates.opened(fileId);
    return () => file !== undefined && known.movedTo(store.changedAt(file), before) === undefined;
  }

  /**
   * To be asked under a write lease. Throws EBUSY when the file's ctime has moved since `before`: whoever did it has
   * closed the file, so his events are queued, but perhaps not yet taken in. When they are, and the file is clean
   * still, it was chmod(2) and the like. `fd`: that has the lease.
   */
  requireUnmoved(fd: number, file: StubFile, before: Moment | undefined): void {
    const { known, gates, changesTakenIn } = this.#options;
    const ctime = known.movedTo(fileStatus(fd).ctime, before);
    if (ctime === undefined) return;
    const taken = changesTakenIn().then(() => gates.opened(file.id));
    void taken.then(
      () => file.change === clean && known.noteAsSettled(file, ctime),
      () => undefined,
    );
    throw ebbError('EBUSY', `${file.key} was changed just now.`);
  }

  /** An event of the change group. Resolves, if there is anything to record, with whether it is; never rejects. */
  changed(event: Changed): Promise<boolean> | undefined {
    const file = this.#options.store.byHandle(event.handle);
    if (file === undefined) return undefined;
    if (event.deleted) {
      this.#rememberDeleted(file.id);
      this.#lookAgainSoon(0);
      return undefined;
    }
    if (file.change === dirty) {
      this.#tellNoMore(file);
      return undefined;
    }
    // Making an empty stub looks like a change of it; and what is not all here was not written by users.
    const whole = file.change !== clean || (file.residency.complete && file.sizeBytes > 0);
    if (event.modified && whole) return this.#report(file, this.#modified(file));
    if (!event.closedForWriting) return undefined;
    if (this.#open.has(file.id)) return this.#report(file, this.resolve(file));
    if (file.change !== clean || !file.residency.complete) return undefined;
    // Written through a mapping: nothing else tells.
    if (this.#options.known.isAsSettled(file)) return undefined;
    return this.#report(file, this.disown(file));
  }

  /**
   * Finds out what became of a file in `intent` or `discarding`, if that can be known now; afterwards `file.change`
   * tells. Rejects when it cannot be recorded.
   */
  async resolve(file: StubFile): Promise<void> {
    if (file.change !== intent && file.change !== discarding) return;
    const running = this.#resolving.get(file.id);
    if (running !== undefined) return await running;
    const resolving = this.#resolve(file).finally(() => this.#resolving.delete(file.id));
    this.#resolving.set(file.id, resolving);
    await resolving;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  /**
   * Content was written or cut, or mtime alone was set (touch -m), which looks the same. The file is the user's own
   * then, unless there is proof that it was not cut off: whoever was let in to empty it has not done so, and may never
   * do.
   */
  async #modified(file: StubFile): Promise<void> {
    const { gates, store } = this.#options;
    await gates.alone(file.id, async () => {
      if (!store.isUncut(file)) await this.#setDirty(file);
    });
  }

  async #resolve(file: StubFile): Promise<void> {
    const { store, gates, changesTakenIn } = this.#options;
    if (this.#isStillLettingIn(file) || !(this.#sawAllEmptyIt(file) || this.#hasNoWriter(file)))
      return;
    await changesTakenIn();
    await gates.alone(file.id, async () => {
      if (file.change !== intent && file.change !== discarding) return;
      if (this.#isStillLettingIn(file)) return;
      using fd = this.#openFile(file);
      if (fd === undefined || !store.closeOwn(file)) return;
      if (!tryLease(fd.fd, 'read') && !this.#sawAllEmptyIt(file)) return;
      try {
        const verdict = this.#verdict(file, fd.fd);
        if (verdict === dirty) await this.#setDirty(file);
        // Under the lease: who comes to write meanwhile waits, and what he does is told afterwards.
        else if (verdict === clean) await this.#setClean(file);
      } finally {
        dropLease(fd.fd);
      }
    });
  }

  /**
   * All who were let in to empty the file have been seen to come through: who could do it has done it, and was told of.
   * Who has it open for writing then is somebody who waits for this to be known.
   */
  #sawAllEmptyIt(file: StubFile): boolean {
    return file.change === discarding && this.#open.get(file.id)?.isOneUnseen === false;
  }

  /** When nobody can do more. Undefined: it cannot be known. */
  #verdict(file: StubFile, fd: number): typeof clean | typeof dirty | undefined {
    if (this.#options.store.unchanged(file)) return clean;
    // All of it is here: whoever's it is, nothing of it is poison or missing.
    if (file.change === intent || file.residency.complete) return dirty;
    const { sizeBytes, mtime } = fileStatus(fd);
    if (sizeBytes !== file.sizeBytes) return dirty;
    // Who was watched would have been seen emptying it: only its times, mode or name have changed. That this is
    // the version's content cannot be recorded then, and that it is the user's would be wrong: reading it fails.
    return sameTime(mtime, file.mtime) || this.#open.has(file.id) ? undefined : dirty;
  }

  async #setDirty(file: StubFile): Promise<void> {
    const { store, known, recall } = this.#options;
    if (file.change === dirty) return;
    if (file.change === clean) {
      await recall.cancel(file.id);
      // What of it is the remote's must survive a crash like what the user wrote.
      await store.settled(file.id);
    }
    await store.setChange(file, dirty);
    this.#open.delete(file.id);
    known.settleChanged(file);
  }

  async #setClean(file: StubFile): Promise<void> {
    const { store, known } = this.#options;
    // A discarded file has to be recalled again.
    if (!file.residency.complete) known.unsettle(file.id);
    await store.setChange(file, clean);
    if (file.residency.complete) known.noteAsSettled(file);
    this.#open.delete(file.id);
  }

  #remember(file: StubFile, { tid, callText }: LetIn): void {
    if (file.change !== intent && file.change !== discarding) return;
    const writers = this.#open.get(file.id) ?? { file, letIn: [], isOneUnseen: false };
    const wasRunning = callText !== undefined && isRunning(callText);
    writers.letIn.push({ tid, callText: wasRunning ? systemCallText(tid) : callText });
    writers.isOneUnseen ||= tid === 0;
    this.#open.set(file.id, writers);
    const [oldest] = this.#open.keys();
    if (this.#open.size > openMax && oldest !== undefined) this.#open.delete(oldest);
    this.#lookAgainSoon(lookAgainMs);
  }

  /** A writer that was let in may not have come to write yet: nothing of it can be seen then. */
  #isStillLettingIn(file: StubFile): boolean {
    const writers = this.#open.get(file.id);
    if (writers === undefined) return false;
    // Thousands may have been let in at a time: one who is still on his way is enough.
    for (;;) {
      const last = writers.letIn.at(-1);
      if (last === undefined) return false;
      if (isOnHisWay(last)) return true;
      writers.letIn.pop();
    }
  }

  #hasNoWriter(file: StubFile): boolean {
    return this.ctimeWithoutWriter(file) !== undefined;
  }

  /** Who writes to it all day would have each of his calls told, and told to nobody. */
  #tellNoMore(file: StubFile): void {
    try {
      using fd = this.#openFile(file);
      if (fd !== undefined) this.#options.neverTellOfContent(fd.fd);
    } catch (error) {
      this.#failed(file, error);
    }
  }

  /** Undefined: it is being released, or gone. Never waits for a lease: it may be our own. */
  #openFile(file: StubFile): OwnedFd | undefined {
    try {
      const flags = OpenFlag.rdonly | OpenFlag.nonblock | OpenFlag.noatime;
      return openByHandle(this.#options.store.rootFd, decodeHandle(file.handle), flags);
    } catch (error) {
      if (isCode(error, 'ESTALE') || isCode(error, 'EAGAIN')) return undefined;
      throw error;
    }
  }

  #lookAgainSoon(delayMs: number): void {
    if (this.#closed || (this.#timer !== undefined && delayMs > 0)) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#lookAgain().catch((error: unknown) => {
        this.#options.onProblem(undefined, 'Looking after writers failed.', error);
        this.#lookAgainSoon(lookAgainMs);
      });
    }, delayMs);
    this.#timer.unref();
  }

  async #lookAgain(): Promise<void> {
    const isMore = await this.#forgetDeleted();
    for (const { file } of [...this.#open.values()].slice(0, looksMax)) {
      this.#toTheEnd(file);
      await this.resolve(file).catch((error: unknown) => this.#failed(file, error));
    }
    if (isMore) this.#lookAgainSoon(0);
    else if (this.#open.size > 0 || this.#deleted.size > 0) this.#lookAgainSoon(lookAgainMs);
  }

  /** Others get their turn. */
  #toTheEnd(file: StubFile): void {
    const writers = this.#open.get(file.id);
    if (writers === undefined) return;
    this.#open.delete(file.id);
    this.#open.set(file.id, writers);
  }

  #rememberDeleted(id: number): void {
    const { deletedMax: max = deletedMax } = this.#options;
    if (this.#deleted.has(id) || this.#deleted.size >= max) return;
    this.#deleted.add(id);
    this.#deletedToLookAt += 1;
  }

  /** Whether some were not looked at. An inode may outlive its last name: then it is looked at again. */
  async #forgetDeleted(): Promise<boolean> {
    const { store, known } = this.#options;
    // Those that are there still wait for the next round, however many they are.
    if (this.#deletedToLookAt === 0) this.#deletedToLookAt = this.#deleted.size;
    const count = Math.min(this.#deletedToLookAt, deletionsPerTurnMax);
    const some = this.#deleted.values().take(count).toArray();
    this.#deletedToLookAt -= count;
    const isMore = this.#deletedToLookAt > 0;
    // To the end, until they are forgotten.
    for (const id of some) this.#deleted.delete(id);
    for (const id of some) this.#deleted.add(id);
    const gone = some.filter((id) => this.#isGone(id));
    for (const id of gone) {
      this.#open.delete(id);
      known.forget(id);
    }
    if (gone.length > 0) await store.forget(gone);
    for (const id of gone) this.#deleted.delete(id);
    return isMore;
  }

  #isGone(id: number): boolean {
    const { store } = this.#options;
    const file = store.get(id);
    if (file === undefined) return true;
    try {
      openByHandle(store.rootFd, decodeHandle(file.handle), OpenFlag.path).close();
      return false;
    } catch (error) {
      return isCode(error, 'ESTALE');
    }
  }

  async #report(file: StubFile, work: Promise<void>): Promise<boolean> {
    try {
      await work;
      return true;
    } catch (error) {
      this.#failed(file, error);
      // Deleted meanwhile: nobody will ask again.
      return isCode(error, 'ESTALE');
    }
  }

  #failed(file: StubFile, error: unknown): void {
    // Deleted meanwhile: nobody will ask again.
    if (isCode(error, 'ESTALE')) return;
    const message = `What was done to ${file.key} cannot be recorded: ${toEbbError(error).message}`;
    this.#options.onProblem(file.id, message, error);
  }
}

function isOnHisWay({ tid, callText }: LetIn): boolean {
  const text = systemCallText(tid);
  if (text === undefined || callText === undefined) return false;
  // Without the line of then, only the thread's end tells that it has come through.
  if (isRunning(callText)) return true;
  return text === callText || isRunning(text);
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof EbbError && error.code === code;
}
