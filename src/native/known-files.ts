/**
 * What the event thread knows of the tree's files: which chunks are here, and whether anything of a file still needs
 * main. Main's side of the table; the thread has a copy (event-handler.ts).
 *
 * The shared word of a file is the truth for both: main changes it before it does what makes an old answer wrong.
 */
import { StubChange } from '../base/stub-facts.ts';
import { sameTime, tellsChanges } from '../sys/stat.ts';
import type { FileTime } from '../sys/stat.ts';
import type { StubFile, StubStore } from '../tree/stubs/stub-store.ts';
import { KnownState } from './messages.ts';
import type { ToThread } from './messages.ts';

/** Files known to the thread; each has its bitmap in memory as long. */
export const knownFilesMax = 16_384;

/** From here on each write to a file moves its ctime away from this one (`KnownFiles.moment`). */
export interface Moment {
  readonly ctime: FileTime;
  /** Since 1970. */
  readonly atMs: number;
}

/** The kernel's clock for files may be so much behind ours: a tick, at the most. */
const tickMaxMs = 20;

interface Known {
  /** Held, so that there is no second bitmap of the same file while the thread looks at this one. */
  readonly file: StubFile;
  readonly state: Int32Array;
  /** Counts releases: a claim that is older than one is void. */
  generation: number;
  /** The inode's ctime when nobody needed to tell any more that he writes; see `isAsSettled`. */
  settledCtime: FileTime | undefined;
}

export class KnownFiles {
  readonly #store: StubStore;
  readonly #post: (message: ToThread) => void;
  readonly #filesMax: number;
  /** By id; the least recently told first. */
  readonly #known = new Map<number, Known>();
  /** The same by handle. */
  readonly #files = new Map<string, StubFile>();

  constructor(
    store: StubStore,
    post: (message: ToThread) => void,
    filesMax: number = knownFilesMax,
  ) {
    this.#store = store;
    this.#post = post;
    this.#filesMax = filesMax;
  }

  get size(): number {
    return this.#known.size;
  }

  /**
   * As `StubStore.byHandle`, without asking the catalog for a file that the thread knows. Not `isMarked`: a stub
   * without its mark gets it again.
   */
  byHandle(handle: Uint8Array, isMarked: boolean): StubFile | undefined {
    const known = this.#files.get(textOf(handle));
    // Its record may have gone meanwhile, or belong to another object.
    const isCurrent = known !== undefined && this.#store.get(known.id) === known;
    const file = isCurrent ? known : this.#store.byHandle(handle);
    if (file !== undefined && !isMarked) this.#store.restoreMark(file);
    return file;
  }

  /** Tells the thread about the file, unless it knows. `usedAtMs`: its use was counted, ms since 1970. */
  tell(file: StubFile, usedAtMs = -Infinity): void {
    const known = this.#known.get(file.id);
    if (known?.file === file) {
      this.#known.delete(file.id);
      this.#known.set(file.id, known);
      return;
    }
    this.forget(file.id);
    const state = new SharedArrayBuffer(4);
    const word = new Int32Array(state);
    Atomics.store(word, 0, isUsers(file) ? KnownState.settled : KnownState.ranges);
    this.#known.set(file.id, { file, state: word, generation: 0, settledCtime: undefined });
    const { id: fileId, handle, residency } = file;
    this.#files.set(textOf(handle), file);
    const { buffer } = residency;
    this.#post({ kind: 'know', fileId, handle, residency: buffer, state, touchedAtMs: usedAtMs });
    const [oldest] = this.#known.keys();
    if (this.#known.size > this.#filesMax && oldest !== undefined) this.forget(oldest);
  }

  /** Nothing of this file needs main any more (`isSettled`). */
  isSettled(fileId: number): boolean {
    const known = this.#known.get(fileId);
    return known !== undefined && Atomics.load(known.state, 0) === KnownState.settled;
  }

  /** The file is the user's: recorded, and nothing will be recalled or released. */
  settleChanged(file: StubFile): void {
    this.tell(file);
    this.#set(file.id, KnownState.settled);
  }

  /**
   * All chunks are here: as soon as that is durable, nothing needs main any more. Before that a writer would change
   * what no record says to be here. It is not made durable for this: until it is the thread answers by itself, which
   * costs less than a transaction and its syncs for each file. `ctimeWithoutWriter`: as in `moment`. Of what was
   * recorded before, somebody may have been let in unasked, and go on: his closing it must not look as if nothing
   * had been done.
   */
  async settleComplete(
    fileId: number,
    ctimeWithoutWriter: (file: StubFile) => FileTime | undefined,
  ): Promise<void> {
    const known = this.#known.get(fileId);
    if (known === undefined || !known.file.residency.complete) return;
    const { file, state, generation } = known;
    const wasRecorded = file.residency.isRecorded;
    // Otherwise it is settled, or waited for already.
    if (!isChanged(state, KnownState.ranges, KnownState.settling)) return;
    try {
      await this.#store.committed(fileId);
      if (this.#known.get(fileId) !== known || known.generation !== generation) return;
      if (file.change !== StubChange.clean || !file.residency.complete) return;
      const ctime = (): FileTime | undefined =>
        wasRecorded ? ctimeWithoutWriter(file) : this.#store.changedAt(file);
      known.settledCtime ??= ifTelling(ctime());
      isChanged(state, KnownState.settling, KnownState.settled);
    } finally {
      if (known.generation === generation) isChanged(state, KnownState.settling, KnownState.ranges);
    }
  }

  /**
   * Nobody has written to a clean file that is all here, for certain: writers of such files are not asked, mappings
   * raise no events, and size and mtime can be as they were. False also when chmod(2) and the like moved ctime, and
   * when this daemon was never asked about the file.
   */
  isAsSettled(file: StubFile): boolean {
    const ctime = this.#known.get(file.id)?.settledCtime;
    return (
      ctime !== undefined &&
      this.#store.unchanged(file) &&
      sameTime(ctime, this.#store.changedAt(file))
    );
  }

  /**
   * For `movedTo`. Undefined: somebody may have it mapped, have moved its ctime with his first store, and go on.
   * Writers of what is not all here, for certain, are recorded before they are let in. `ctimeWithoutWriter`: the
   * inode's ctime, if nobody had it open for writing afterwards.
   */
  moment(file: StubFile, ctimeWithoutWriter: () => FileTime | undefined): Moment | undefined {
    const atMs = Date.now();
    const ctime = this.#quietCtime(file) ?? ctimeWithoutWriter();
    return ctime && { ctime, atMs };
  }

  /** The inode's ctime, when what is known of the file shows that nobody can be writing to it. */
  #quietCtime(file: StubFile): FileTime | undefined {
    const settledCtime = this.#known.get(file.id)?.settledCtime;
    const { isRecorded } = file.residency;
    if (isRecorded && settledCtime === undefined) return undefined;
    const ctime = this.#store.changedAt(file);
    const isQuiet = ctime !== undefined && (!isRecorded || sameTime(ctime, settledCtime));
    return isQuiet ? ctime : undefined;
  }

  /** The inode's ctime `now` when somebody may have written to it since that moment; else undefined. */
  movedTo(now: FileTime | undefined, since: Moment | undefined): FileTime | undefined {
    if (now === undefined) return undefined;
    const isSame = sameTime(now, since?.ctime) && (tellsChanges(now) || isOlder(now, since));
    return isSame ? undefined : now;
  }

  /** What the inode is now, or was at `ctime`, it is not by a writer: `isAsSettled` compares with this. */
  noteAsSettled(file: StubFile, ctime = this.#store.changedAt(file)): void {
    const known = this.#known.get(file.id);
    if (known !== undefined) known.settledCtime = ifTelling(ctime);
  }

  /** The file is about to lose its blocks: from the call on the thread goes by the chunks. */
  unsettle(fileId: number): void {
    const known = this.#known.get(fileId);
    if (known === undefined) return;
    known.generation += 1;
    known.settledCtime = undefined;
    this.#set(fileId, KnownState.ranges);
  }

  forget(fileId: number): void {
    const known = this.#known.get(fileId);
    if (known === undefined) return;
    this.#set(fileId, KnownState.dead);
    this.#known.delete(fileId);
    this.#files.delete(textOf(known.file.handle));
    this.#post({ kind: 'forget', handle: known.file.handle });
  }

  #set(fileId: number, state: KnownState): void {
    const known = this.#known.get(fileId);
    if (known !== undefined) Atomics.store(known.state, 0, state);
  }
}

/** A change since then would have given it another second. */
function isOlder(ctime: FileTime, since: Moment | undefined): boolean {
  return since !== undefined && ctime.seconds < Math.floor((since.atMs - tickMaxMs) / 1_000);
}

function ifTelling(ctime: FileTime | undefined): FileTime | undefined {
  return ctime !== undefined && tellsChanges(ctime) ? ctime : undefined;
}

/** False: it is another one than `from`. */
function isChanged(state: Int32Array, from: KnownState, to: KnownState): boolean {
  return Atomics.compareExchange(state, 0, from, to) === from;
}

/** Recorded as what a user may write to or has written: all of it may be used. */
function isUsers({ change }: StubFile): boolean {
  return change === StubChange.intent || change === StubChange.dirty;
}

function textOf(handle: Uint8Array): string {
  return Buffer.from(handle.buffer, handle.byteOffset, handle.byteLength).toString('latin1');
}
