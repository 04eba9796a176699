/**
 * The event thread's side: answers what needs nobody else, asks main about the rest. Runs between a requester's system
 * call and its data, so it does no more than it must, and it never waits: nothing here opens a file or talks to the
 * remote, and it looks at no program's memory.
 *
 * What it may answer by itself is always safe: a file with neither the tree's mark nor a record is none of ours; a
 * chunk whose bit is set has been written and cannot go while the event's descriptor is open (release needs a write
 * lease, I6).
 */
import type { MessagePort } from 'node:worker_threads';
import { receiveMessageOnPort } from 'node:worker_threads';
import { isMarkOfAnother, treeMarkName } from '../base/tree-mark.ts';
import type { StubHandles } from '../catalog/stubs-sqlite/handles.ts';
import { FanEvent } from '../fanotify/constants.ts';
import type { EventTrouble, IncomingEvent } from '../fanotify/event-reader.ts';
import type { Group } from '../fanotify/group.ts';
import { encodeHandle, handleOf } from '../sys/handle.ts';
import { fileStatus } from '../sys/stat.ts';
import { getXattr } from '../sys/xattr.ts';
import { Residency } from '../tree/residency.ts';
import { Backlog } from './backlog.ts';
import { ChangeJournal } from './change-journal.ts';
import { Consumption } from './consumption.ts';
import type { Doorkeeper } from './doorkeeper.ts';
import { IgnoreMarks } from './ignore-marks.ts';
import { KnownState } from './messages.ts';
import type { Question, ToMain, ToThread } from './messages.ts';
import { Opener } from './opener.ts';
import { systemCallAtOnce } from './requester.ts';
import { sharedWord } from './shared-words.ts';
import { effectAtOpen } from './syscall.ts';

/** Questions that may wait for main at one time; above it the requester gets EAGAIN. */
export const questionsPendingMax = 16_384;
/** A thread that has had nothing to do for so long sleeps. */
const awakeMs = 5;
/** A use of a file is reported at most this often. */
const touchedEveryMs = 60_000;

/**
 * truncate(2) by path has no open file that would tell it from a read; its range is at most a page (Linux 6.18). Larger
 * ranges need no look at the system call.
 */
const truncateRangeMaxBytes = process.arch === 'x64' ? 4096 : 65_536;

interface KnownFile {
  readonly fileId: number;
  readonly residency: Residency;
  readonly state: Int32Array;
  /** What was served from here. */
  readonly consumption: Consumption;
  touchedAtMs: number;
  toldComplete: boolean;
}

export interface EventHandlerOptions {
  readonly access: Group;
  readonly open: Group;
  readonly changes: Group;
  /** Of `changeJournalBytes`. */
  readonly changeJournal: ArrayBuffer;
  readonly port: MessagePort;
  readonly treeId: string;
  readonly stubs: StubHandles;
  readonly doorkeeper: Doorkeeper;
  /** See `ThreadSettings.pending`. */
  readonly pending: SharedArrayBuffer;
  /** See `NativeThreadOptions.consumedStepBytes`. */
  readonly consumedStepBytes: number;
}

export class EventHandler {
  readonly #options: EventHandlerOptions;
  readonly #pending: Int32Array;
  readonly #steps: Int32Array;
  readonly #backlog: Backlog;
  readonly #marks: IgnoreMarks;
  readonly #known = new Map<string, KnownFile>();
  /** The only one that reads the change group. */
  readonly changesReader: ChangeJournal;
  readonly #opener = new Opener();
  #openedAtMs = -Infinity;
  #refusing = false;
  #isHeld = false;

  constructor(options: EventHandlerOptions) {
    this.#options = options;
    this.#pending = sharedWord(options.pending, 'pending');
    this.#steps = sharedWord(options.pending, 'steps');
    this.#backlog = new Backlog(options.pending);
    this.#marks = new IgnoreMarks(options);
    this.changesReader = new ChangeJournal(
      options.changes,
      options.changeJournal,
      (trouble) => this.trouble(trouble),
      (place) => this.#tell({ kind: 'changesTold', place }),
    );
  }

  /** Permission events are not to be read: a successor will. */
  get isHeld(): boolean {
    return this.#isHeld;
  }

  /** From now on nothing is asked: what would be is denied with EIO. */
  refuse(): void {
    this.#refusing = true;
    this.#isHeld = false;
  }

  /** Takes in what main has sent. */
  wakeup(): void {
    this.#step();
    for (;;) {
      const received = receiveMessageOnPort(this.#options.port);
      if (received === undefined) return;
      this.#take(received.message as ToThread);
    }
  }

  opened(event: IncomingEvent): void {
    this.#wakeMain();
    this.#step();
    const handle = encodeHandle(handleOf(event.fd).handle);
    const known = this.#find(handle);
    if (known === undefined) {
      this.#unknown(event, 'open', handle);
      return;
    }
    if (this.#comesByRanges(known)) {
      // First of all: main gets ready for his first range while he is let in and comes to ask for it.
      this.#tell({ kind: 'opening', fileId: known.fileId });
      if (this.#options.doorkeeper.letsIn(event.fd, event.pid, known.residency.sizeBytes)) {
        event.allow();
        this.#opener.isLetIn(event.pid);
        this.#touch(known, event.pid);
        return;
      }
    }
    this.#touch(known, event.pid);
    if (isSettled(known)) this.#allowForGood(event);
    // Who wants to write must be recorded first, even when all is here but not yet for certain.
    else if (known.residency.complete && onlyReads(event.pid)) event.allow();
    else this.#ask(event, 'open', handle);
  }

  accessed(event: IncomingEvent): void {
    this.#step();
    const handle = encodeHandle(handleOf(event.fd).handle);
    const known = this.#find(handle);
    if (known === undefined) {
      this.#unknown(event, 'access', handle);
    } else if (isSettled(known)) {
      this.#allowForGood(event);
    } else if (this.#isHere(known, event)) {
      if (known.residency.complete) this.#tellComplete(known);
      else this.#consumed(known, event);
      event.allow();
    } else {
      // It is not complete (any more: released), and when it is, main is to hear of it again.
      known.toldComplete = false;
      this.#ask(event, 'access', handle);
    }
  }

  changed(event: IncomingEvent): void {
    this.#step();
    const object = event.fids().find((record) => record.kind === 'object');
    if (object === undefined || object.handle.bytes.length === 0) return;
    const { mask } = event;
    this.#tell({
      kind: 'changed',
      handle: encodeHandle(object.handle),
      modified: (mask & FanEvent.modify) !== 0,
      closedForWriting: (mask & FanEvent.closeWrite) !== 0,
      deleted: (mask & FanEvent.deleteSelf) !== 0,
      atBytes: this.changesReader.eventAtBytes,
    });
  }

  changesLost(): void {
    this.#tell({ kind: 'overflow' });
  }

  /** Permission groups have unlimited queues: this would mean that requesters were let through unseen. */
  permissionsLost(): void {
    this.#tell({
      kind: 'problem',
      message: 'Permission events were lost: files may be read cold.',
    });
  }

  trouble(trouble: EventTrouble): void {
    const { cause } = trouble;
    const why = cause instanceof Error ? ` ${cause.stack ?? cause.message}` : '';
    this.#tell({ kind: 'problem', message: `${trouble.message}${why}` });
  }

  /** Main sees that this thread gets on. */
  #step(): void {
    Atomics.add(this.#steps, 0, 1);
  }

  #take(message: ToThread): void {
    switch (message.kind) {
      case 'know':
        this.#known.set(keyOf(message.handle), {
          fileId: message.fileId,
          residency: Residency.attach(message.residency),
          state: new Int32Array(message.state),
          consumption: new Consumption(this.#options.consumedStepBytes),
          touchedAtMs: message.touchedAtMs,
          toldComplete: false,
        });
        return;
      case 'forget':
        this.#known.delete(keyOf(message.handle));
        return;
      case 'mount':
        this.#options.doorkeeper.noteMount(message.uniqueId);
        return;
      case 'hold':
        this.#isHeld = message.isHeld;
        return;
      case 'refuse':
        this.refuse();
        return;
      case 'sync':
        this.#drainChanges();
        this.#tell({ kind: 'synced', id: message.id });
    }
  }

  /** Handles all changes that are queued. */
  #drainChanges(): void {
    while (this.changesReader.fill() > 0) {
      this.changesReader.handleAll(
        (event) => this.changed(event),
        () => this.changesLost(),
      );
    }
  }

  /** Handles the changes that a predecessor left. Before anything is read. */
  takeOverChanges(): void {
    this.changesReader.takeOver(
      (event) => this.changed(event),
      () => this.changesLost(),
    );
  }

  #find(handle: Uint8Array): KnownFile | undefined {
    const key = keyOf(handle);
    const known = this.#known.get(key);
    if (known === undefined || Atomics.load(known.state, 0) !== KnownState.dead) return known;
    this.#known.delete(key);
    return undefined;
  }

  /** Most who open it read ranges, about which main will be asked; the others need main for their open. */
  #comesByRanges(known: KnownFile): boolean {
    const { complete, sizeBytes } = known.residency;
    if (this.#refusing || complete || isSettled(known)) return false;
    return sizeBytes > this.#options.doorkeeper.wholeFileMaxBytes;
  }

  /** The range is here, and using it needs nobody's consent. */
  #isHere(known: KnownFile, event: IncomingEvent): boolean {
    if (!event.hasRange || event.count === 0) return false;
    if (!known.residency.has(event.offset, event.count)) return false;
    if (event.count > truncateRangeMaxBytes) return true;
    const effect = systemCallAtOnce(event.pid)?.effect;
    return effect === 'reads' || effect === 'deferred';
  }

  #unknown(event: IncomingEvent, group: Question['group'], handle: Uint8Array): void {
    // Another tree's stub never goes to main: its main thread may wait for us to let it open that stub while ours
    // waits for it to let us open one of ours.
    const mark = getXattr(event.fd, treeMarkName);
    const isOurs = mark !== undefined && !isMarkOfAnother(mark, this.#options.treeId);
    if (isOurs || this.#hasLostItsMark(event.fd, handle)) {
      this.#ask(event, group, handle, isOurs);
      return;
    }
    // None of ours, and it will not become one: stubs are made under their marks.
    this.#marks.neverTell(event.fd);
    this.#allowForGood(event);
  }

  /**
   * Privileged programs take marks off, or put those of another tree in their place: rsync -X does so with files that
   * it finds to be equal already. What is empty, as every new file is, has nothing to lose.
   */
  #hasLostItsMark(fd: number, handle: Uint8Array): boolean {
    return fileStatus(fd).sizeBytes > 0 && this.#options.stubs.has(handle);
  }

  /** No event of this file is of interest until main takes the ignore marks off again. */
  #allowForGood(event: IncomingEvent): void {
    this.#marks.neverAsk(event.fd);
    event.allow();
  }

  #ask(event: IncomingEvent, group: Question['group'], handle: Uint8Array, isMarked = true): void {
    if (this.#refusing) {
      event.deny('EIO');
      return;
    }
    if (Atomics.load(this.#pending, 0) >= questionsPendingMax) {
      event.deny('EAGAIN');
      return;
    }
    Atomics.add(this.#pending, 0, 1);
    const range = event.hasRange
      ? { offsetBytes: event.offset, countBytes: event.count }
      : undefined;
    const { fd, pid: tid } = event;
    const seen = group === 'access' ? this.#opener.seenAgain(tid) : undefined;
    this.#tell({ kind: 'question', group, descriptor: fd, handle, isMarked, tid, range, seen });
    event.take();
  }

  #consumed(known: KnownFile, event: IncomingEvent): void {
    const consumed = known.consumption.served(event.offset, event.count);
    if (consumed === undefined) return;
    this.#tell({ kind: 'consumed', fileId: known.fileId, tid: event.pid, ...consumed });
  }

  /** When nobody has opened anything for a while. */
  #wakeMain(): void {
    const nowMs = performance.now();
    if (nowMs - this.#openedAtMs > awakeMs) this.#tell({ kind: 'awake' });
    this.#openedAtMs = nowMs;
  }

  #touch(known: KnownFile, tid: number): void {
    const nowMs = Date.now();
    if (nowMs - known.touchedAtMs < touchedEveryMs) return;
    known.touchedAtMs = nowMs;
    this.#tell({ kind: 'touched', fileId: known.fileId, tid, atMs: nowMs });
  }

  #tellComplete(known: KnownFile): void {
    if (known.toldComplete || Atomics.load(known.state, 0) === KnownState.settling) return;
    known.toldComplete = true;
    this.#tell({ kind: 'complete', fileId: known.fileId });
  }

  #tell(message: ToMain): void {
    this.#backlog.add(message);
    this.#options.port.postMessage(message);
  }
}

function onlyReads(tid: number): boolean {
  const call = systemCallAtOnce(tid);
  return call !== undefined && effectAtOpen(call) === 'reads';
}

function isSettled(known: KnownFile): boolean {
  return Atomics.load(known.state, 0) === KnownState.settled;
}

function keyOf(handle: Uint8Array): string {
  return Buffer.from(handle.buffer, handle.byteOffset, handle.byteLength).toString('latin1');
}
