/**
 * The main thread's side of a native tree: answers what the event thread asks, straight to the kernel. Decisions are
 * policy.ts's; this file finds the facts, has done what was decided, and sees to it that every question is answered.
 */
import { StubChange } from '../base/stub-facts.ts';
import { setTimeout as sleep } from 'node:timers/promises';
import { Errno } from '../base/errno.ts';
import { ebbError, toEbbError } from '../base/errors.ts';
import { UseCounts } from '../base/use-counts.ts';
import { Group } from '../fanotify/group.ts';
import { renewLease } from '../sys/lease.ts';
import { fileStatus } from '../sys/stat.ts';
import type { StubFile } from '../tree/stubs/stub-store.ts';
import { Answers, claimLost } from './answers.ts';
import type { PendingQuestion } from './answers.ts';
import { fileOf } from './asked-file.ts';
import { askerOf } from './asker.ts';
import type { Asker } from './asker.ts';
import { ChangeRecords } from './change-records.ts';
import type { NativeCounters, NativeServerOptions } from './contracts.ts';
import { FileGates } from './file-gates.ts';
import { allowFront } from './front.ts';
import { IgnoreMarks } from './ignore-marks.ts';
import { KnownFiles } from './known-files.ts';
import type { Moment } from './known-files.ts';
import { Layers } from './layers.ts';
import type { Question, ToMain } from './messages.ts';
import { decideAccess, decideOpen, executableBits, Verdicts, wholeFile } from './policy.ts';
import type { Decision, FileFacts, Recall } from './policy.ts';
import { questionDeadline } from './question-deadline.ts';
import { ReadingTurn } from './reading-turn.ts';
import { requesterOf } from './requester.ts';
import { sharedWord, sharedWordsBytes } from './shared-words.ts';
import { Siblings } from './siblings.ts';
import { StreamFinder } from './stream-finder.ts';
import { ThreadSyncs } from './thread-syncs.ts';
import { Writers } from './writers.ts';

const { clean, discarding } = StubChange;

/** How often a file that may have been emptied is looked at while somebody waits for it. */
const waitStepMs = 20;

export class NativeServer {
  /** For `NativeThreadOptions.pending`. */
  readonly pending: SharedArrayBuffer;
  /** For whoever takes write leases on files of the tree. */
  readonly turn: ReadingTurn;
  readonly #options: NativeServerOptions;
  readonly #marks: IgnoreMarks;
  readonly #answers: Answers;
  readonly #verdicts: Verdicts;
  readonly #gates = new FileGates();
  readonly #known: KnownFiles;
  readonly #streams: StreamFinder;
  readonly #writers: Writers;
  readonly #changes: ChangeRecords;
  readonly #siblings: Siblings;
  readonly #layers: Layers;
  /** Files of which questions are being answered: these must not be released. */
  readonly #busy = new UseCounts();
  readonly #syncs: ThreadSyncs;
  readonly #counters = { opens: 0, accesses: 0, refused: 0, overdue: 0, intents: 0, discards: 0 };
  #closed = false;

  constructor(options: NativeServerOptions) {
    this.#options = options;
    this.pending = options.pending ?? new SharedArrayBuffer(sharedWordsBytes);
    this.turn = new ReadingTurn(this.pending);
    const access = Group.borrow(options.groups.access, 'preContent');
    const open = Group.borrow(options.groups.open, 'preContent');
    const changes = Group.borrow(options.groups.changes, 'notification');
    this.#marks = new IgnoreMarks({ access, open, changes });
    this.#answers = new Answers({
      access,
      open,
      pending: sharedWord(this.pending, 'pending'),
      onFailure: (message) => this.#problem(undefined, message),
      onAnswer: () => options.onStep?.(),
    });
    const { store, recall, post } = options;
    this.#syncs = new ThreadSyncs(post);
    this.#layers = new Layers((uniqueId) => post({ kind: 'mount', uniqueId }));
    this.#verdicts = new Verdicts(options.policy);
    this.#known = new KnownFiles(store, post);
    this.#streams = new StreamFinder((streamId) => recall.endStream(streamId));
    this.#siblings = new Siblings({
      store,
      recall,
      known: this.#known,
      siblingsOf: options.siblingsOf,
      touched: (fileId) => options.onAccesses([[fileId, Date.now()]]),
      settle: (fileId) => this.#settleComplete(fileId),
    });
    this.#writers = new Writers({
      store,
      recall,
      gates: this.#gates,
      known: this.#known,
      changesTakenIn: () => this.changesTakenIn(),
      neverTellOfContent: (fd) => this.#marks.neverTellOfContent(fd),
      onProblem: (fileId, message, cause) => this.#problem(fileId, message, cause),
    });
    const { changeJournal: fd } = options.groups;
    this.#changes = new ChangeRecords(fd, store, (event) => this.#writers.changed(event));
  }

  /** Takes in a message of the event thread. Never throws. */
  take(message: ToMain): void {
    this.#options.onStep?.();
    try {
      this.#take(message);
    } catch (error) {
      this.#problem(undefined, `A message of the event thread failed: ${message.kind}.`, error);
    }
  }

  counters(): NativeCounters {
    return { ...this.#answers.counts, ...this.#counters, pending: this.#answers.pending };
  }

  /**
   * From now on whoever needs a file waits, for a successor or until `goOn`. Resolves when nobody is left who was asked
   * about before and every change of users from before is recorded or being recorded: this process may be killed then,
   * and nobody's call fails. Rejects with EBUSY when somebody is still being served after `maxMs`, EINTR when closed.
   */
  async hold(maxMs: number): Promise<void> {
    this.#setHeld(true);
    await this.changesTakenIn();
    await this.#answers.untilNone(maxMs);
    await this.changesTakenIn();
  }

  /** What `hold` has held is served again. */
  goOn(): void {
    this.#setHeld(false);
  }

  #setHeld(isHeld: boolean): void {
    // Its thread may be gone.
    if (!this.#closed) this.#options.post({ kind: 'hold', isHeld });
  }

  /** Somebody is being served from the file, or it is being recorded what he does to it: not to be released. */
  isBusy(fileId: number): boolean {
    return (
      this.#busy.has(fileId) || this.#gates.isShut(fileId) || this.#changes.isUnrecorded(fileId)
    );
  }

  /**
   * Resolves when every change of users that happened before the call has been recorded, or is being recorded behind
   * the file's gate (`isBusy`). Release asks this before it believes that a file is unchanged. Rejects when closed.
   */
  changesTakenIn(): Promise<void> {
    return this.#syncs.ask();
  }

  /** Resolves when all changes that the thread has told of are recorded, or cannot be; never rejects. */
  changesSettled(): Promise<void> {
    return this.#changes.settled();
  }

  /** As `changesTakenIn`; what users did to this file is recorded by then. The result tells whether it is still so. */
  async recorded(fileId: number): Promise<() => boolean> {
    const isStill = await this.#writers.recorded(fileId);
    return () => !this.#changes.isUnrecorded(fileId) && isStill();
  }

  /** For `beforeFreeing`: before `changesTakenIn` is asked. */
  moment(file: StubFile): Moment | undefined {
    return this.#writers.moment(file);
  }

  /** For `onLease` of a release. */
  readonly askAgain = (fd: number): void => this.#marks.askAgain(fd);

  /**
   * For `StubStore.release`, under its lease: from now on its events come again. Throws EBUSY when somebody opened it
   * while no event told of it, or may have changed it (since `before`): then nothing may be freed.
   */
  beforeFreeing(fd: number, file: StubFile, before: Moment | undefined): void {
    this.#writers.requireUnmoved(fd, file, before);
    this.#known.unsettle(file.id);
    this.#streams.forget(file.id);
    this.#marks.askAgain(fd);
    // Whoever was past the (ignored) open event but not yet held up by the lease is seen now. Others raise an event.
    if (!renewLease(fd, 'write')) throw ebbError('EBUSY', 'The file was opened just now.');
  }

  /** As `StubStore.setPinned`, which moves ctime. */
  readonly setPinned: Writers['setPinned'] = (...of) => this.#writers.setPinned(...of);

  /** Finds out what became of a file in `intent` or `discarding`. See `Writers.resolve`. */
  resolve(file: StubFile): Promise<void> {
    return this.#writers.resolve(file);
  }

  /** The file's record has gone, or its inode has another one. */
  forget(fileId: number): void {
    this.#known.forget(fileId);
    this.#streams.forget(fileId);
  }

  /** Denies (EIO) everything that waits and all that comes. The thread goes on answering for what is here. */
  close(): void {
    this.#closed = true;
    this.#options.post({ kind: 'refuse' });
    this.#writers.close();
    this.#siblings.close();
    this.#answers.denyAll(Errno.EIO);
    this.#syncs.close();
  }

  #take(message: ToMain): void {
    switch (message.kind) {
      case 'question':
        void this.#answer(message);
        return;
      case 'changed':
      case 'changesTold':
        return this.#changes.take(message);
      case 'overflow':
        this.#problem(undefined, 'Changes of users were lost: the tree has to be looked at.');
        this.#options.onRescan();
        return;
      case 'synced':
        return this.#syncs.done(message.id);
      case 'consumed':
        return this.#consumed(message);
      case 'complete':
        return this.#settleComplete(message.fileId);
      case 'touched':
        this.#options.onAccesses([[message.fileId, message.atMs]]);
        this.#siblings.used(message.fileId, () => requesterOf(message.tid));
        return;
      case 'awake':
        return;
      case 'opening':
        return this.#expectRead(message.fileId);
      case 'problem':
        this.#problem(undefined, message.message);
    }
  }

  /** Answers one question, whatever happens. */
  async #answer(question: Question): Promise<void> {
    this.#counters[question.group === 'open' ? 'opens' : 'accesses'] += 1;
    const pending = this.#answers.add(question);
    if (this.#closed) {
      pending.deny(Errno.EIO);
      return;
    }
    let file: StubFile | undefined;
    try {
      file = fileOf(question, this.#options.store, this.#known);
      if (file === undefined) {
        this.#marks.neverAsk(question.descriptor);
        pending.allow();
        return;
      }
      this.#options.store.requireSound(file, question.descriptor);
      using _busy = this.#busy.begin(file.id);
      this.#known.tell(file, Date.now());
      this.#options.onAccesses([[file.id, Date.now()]]);
      using _deadline = questionDeadline(file, this.#options.policy.deadlineMs, (fileId, late) => {
        if (!pending.deny(Errno.EIO)) return;
        this.#counters.overdue += 1;
        this.#options.onReadEnded?.(fileId, late);
      });
      await this.#serve(pending, question, file);
    } catch (error) {
      const known = toEbbError(error);
      // Nobody gave up: only the daemon ends a wait.
      const answered = pending.deny(known.code === 'EINTR' ? Errno.EIO : known.errno);
      if (answered && file !== undefined) this.#options.onReadEnded?.(file.id, known);
    } finally {
      if (pending.deny(Errno.EIO)) {
        this.#problem(file?.id, 'A question was left without an answer.');
      }
    }
  }

  async #serve(pending: PendingQuestion, question: Question, file: StubFile): Promise<void> {
    const comesByRanges = file.sizeBytes > this.#options.policy.wholeFileMaxBytes;
    if (question.group === 'open' && comesByRanges) this.#expectRead(file.id);
    const asker = await askerOf(question, this.#verdicts);
    let isNoted = question.group !== 'open';
    while (!pending.isAnswered) {
      if (this.#gates.isShut(file.id)) {
        await pending.answeredOr(this.#gates.opened(file.id));
        if (pending.isAnswered) return;
      }
      const decision = this.#decide(question, file, asker);
      isNoted ||= this.#noteOpen(decision, file, asker);
      if (await this.#carryOut(decision, pending, file, asker)) return;
    }
  }

  /** True: noted, which it is once, however often its question is decided. */
  #noteOpen(decision: Decision, file: StubFile, { requester, facts }: Asker): boolean {
    const isSmall = file.sizeBytes <= this.#options.policy.wholeFileMaxBytes;
    if (decision.kind !== 'recall' || facts.effect !== 'reads' || !isSmall) return false;
    this.#siblings.opened(file, !file.residency.complete, () => requester);
    return true;
  }

  /** False: the facts have changed, decide again. */
  async #carryOut(
    decision: Decision,
    pending: PendingQuestion,
    file: StubFile,
    asker: Asker,
  ): Promise<boolean> {
    const writer = { tid: asker.requester.tid, callText: asker.callText };
    switch (decision.kind) {
      case 'allow':
        return pending.allow();
      case 'deny':
        this.#counters.refused += 1;
        return pending.deny(Errno[decision.code]);
      case 'recall':
        return await this.#recall(decision, pending, file, asker);
      case 'intend':
        if (!(await this.#recall(wholeFile(file.sizeBytes), pending, file, asker, false)))
          return false;
        if (!(await this.#writers.intend(file, writer, () => pending.allow()))) return false;
        this.#counters.intents += 1;
        return true;
      case 'discard':
        await this.#writers.discard(file, writer, () => pending.allow());
        this.#counters.discards += 1;
        return true;
      case 'disown':
        await this.#writers.disown(file);
        return false;
      case 'wait':
        await this.#writers.resolve(file);
        if (file.change === discarding) await sleep(waitStepMs);
        return false;
      case 'damaged':
        throw ebbError('EIO', `${file.key} was cut or grown past Ebb: what was not here is lost.`);
    }
  }

  /** True: the range is here, and the question (unless the caller goes on with it) is answered. */
  async #recall(
    range: Recall,
    pending: PendingQuestion,
    file: StubFile,
    asker: Asker,
    answers = true,
  ): Promise<boolean> {
    const { recall, onReadEnded } = this.#options;
    const { offsetBytes, lengthBytes, exact } = range;
    const { requester } = asker;
    const { losses } = file;
    let areBytesHere = false;
    const streamId = range.stream
      ? this.#streams.of(file.id, requester.tid, offsetBytes, lengthBytes)
      : undefined;
    // The question has a deadline of its own.
    const options = { intent: 'demand', requester, streamId, exact, deadlineMs: Infinity } as const;
    try {
      const isTaken = (): boolean => this.#isTaken(file);
      if (answers && (await allowFront(recall, file, range, pending, isTaken))) {
        onReadEnded?.(file.id, undefined);
        // Its chunk follows. Who needs more of that will hear what becomes of it.
        recall.ensure(file, offsetBytes, lengthBytes, options).catch(() => undefined);
        return true;
      }
      if (this.#isTaken(file)) return false;
      await recall.ensure(file, offsetBytes, lengthBytes, {
        ...options,
        ...(answers && { onBytes: () => void (areBytesHere = true) }),
        signal: pending.signal,
      });
    } catch (error) {
      // Nothing is read ahead for who was refused, least of all by a request that does not end.
      if (streamId !== undefined) this.#streams.forget(file.id);
      if (this.#isTaken(file)) return false;
      throw error;
    }
    if (this.#isTaken(file)) return false;
    // A claim may have been taken back meanwhile: never bytes that are not vouched for.
    const areHere = areBytesHere && losses === file.losses;
    if (!areHere && !file.residency.has(offsetBytes, lengthBytes)) throw claimLost(file.key);
    if (!answers) return true;
    if (file.residency.complete) this.#settleComplete(file.id);
    pending.allow();
    onReadEnded?.(file.id, undefined);
    return true;
  }

  /** A writer came between: it depends on him what is to be read. */
  #isTaken(file: StubFile): boolean {
    return this.#gates.isShut(file.id) || file.change !== clean;
  }

  #decide(question: Question, file: StubFile, asker: Asker): Decision {
    const { descriptor, group, tid } = question;
    const { sizeBytes, mode, mountId } = fileStatus(descriptor);
    const facts: FileFacts = {
      state: this.#stateOf(file),
      versionSizeBytes: file.sizeBytes,
      sizeBytes,
      complete: file.residency.complete,
      executable: (mode & executableBits) !== 0,
      throughLayer: group === 'open' && this.#layers.isOpenedThroughOne(descriptor, mountId, tid),
      hasPoison: this.#options.store.hasPoison,
    };
    const { policy } = this.#options;
    return group === 'open'
      ? decideOpen(facts, asker.facts, policy)
      : decideAccess(facts, asker.facts, question.range, policy);
  }

  #stateOf(file: StubFile): FileFacts['state'] {
    if (file.change === discarding) return 'discarding';
    return file.change !== clean || this.#known.isSettled(file.id) ? 'settled' : 'clean';
  }

  #expectRead(fileId: number): void {
    const file = this.#options.store.get(fileId);
    if (file?.settled === false && !this.#closed) this.#options.expectRead?.(file);
  }

  #consumed(message: Extract<ToMain, { kind: 'consumed' }>): void {
    const { fileId, tid, offsetBytes, countBytes } = message;
    const file = this.#options.store.get(fileId);
    if (file === undefined || file.change !== clean || this.#closed) return;
    const streamId = this.#streams.of(fileId, tid, offsetBytes, countBytes);
    const requester = requesterOf(tid);
    if (this.#verdicts.of(requester.executable, requester.name) === 'exact') return;
    this.#options.recall.advance(file, offsetBytes, countBytes, streamId, requester);
  }

  #settleComplete(fileId: number): void {
    const ctimeWithoutWriter = this.#writers.ctimeWithoutWriter;
    this.#known.settleComplete(fileId, ctimeWithoutWriter).catch((error: unknown) => {
      this.#problem(fileId, 'A complete file cannot be recorded as such.', error);
    });
  }

  #problem(fileId: number | undefined, message: string, cause?: unknown): void {
    this.#options.onProblem({ fileId, message, cause });
  }
}
