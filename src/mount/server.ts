/**
 * The main thread's side of a mount: answers the FUSE thread's questions, and the kernel's READs of bytes that have
 * to be recalled first. Knows namespace, recall and tree; knows nothing of the wire.
 */
import type { Node } from '../catalog/catalog.ts';
import { systemClock } from '../base/clock.ts';
import type { Clock } from '../base/clock.ts';
import { Errno } from '../base/errno.ts';
import { ebbError, toEbbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import type { DeferredCall } from '../fuse/filesystem.ts';
import type { Namespace } from '../recall/namespace/namespace.ts';
import type { Prepared, Preparer } from '../recall/namespace/prepare.ts';
import { interruptible } from '../recall/namespace/single-flight.ts';
import { UseCounts } from '../base/use-counts.ts';
import type { RecallEngine } from '../recall/engine.ts';
import type { EnsureOptions } from '../recall/recall.ts';
import type { ContentFile } from '../tree/content.ts';
import { inHand } from './in-hand.ts';
import { Interruptions } from './interruptions.ts';
import type { Asked, Opened, Question, ToMain, ToThread } from './messages.ts';
import { RecentFailures } from './recent-failures.ts';

/** Files up to this size are recalled as soon as they are opened: the READ will come. */
const recallAtOpenMaxBytes = 1024 * 1024;
/** An open count that stands for "not known to be closed". */
const stillOpen = 1;

export interface MountServerOptions {
  /** Sends a message to the FUSE thread and wakes it. */
  readonly post: (message: ToThread) => void;
  /** The same without waking it: it looks before it would have to ask. */
  readonly postQuietly: (message: ToThread) => void;
  readonly namespace: Namespace;
  readonly preparer: Preparer;
  readonly recall: RecallEngine;
  /** The local file of a node if it has one. */
  readonly contentOf: (nodeId: number) => ContentFile | undefined;
  /** The same with its node, whether or not the node has a name still. */
  readonly preparedOf: (nodeId: number) => Prepared | undefined;
  /**
   * A new descriptor for reading the local file, which the receiver owns; with the content it belongs to, which is
   * a new one when the local file had been tampered with.
   */
  readonly openLocal: (prepared: Prepared) => Promise<{ file: ContentFile; descriptor: number }>;
  readonly answers: {
    error(call: DeferredCall, errno: number): boolean;
    dataFromContent(
      call: DeferredCall,
      file: ContentFile,
      offset: number,
      sizeBytes: number,
    ): boolean;
  };
  /** Answers a LOOKUP with this node. False: too little is known of it. */
  readonly answerLookup: (call: DeferredCall, node: Node) => boolean;
  readonly onAccesses: (accesses: readonly (readonly [number, number])[]) => void;
  readonly onPrefetch: (message: Extract<ToMain, { kind: 'prefetch' }>) => void;
  /** `error` undefined: reading works (again). */
  readonly onReadEnded: (nodeId: number, error: EbbError | undefined) => void;
  /** Our own mistakes: an answer that could not be given. */
  readonly onProblem: (error: unknown) => void;
  readonly clock?: Clock;
  /** As `isEnding` of base/process-signals.ts, which is the default. */
  readonly isEnding?: (tid: number) => boolean;
}

/** A request that somebody waits for. */
interface Waiting {
  readonly controller: AbortController;
  readonly tid: number;
}

type ReadMessage = Extract<ToMain, { kind: 'read' }>;

export class MountServer {
  readonly #options: MountServerOptions;
  readonly #clock: Clock;
  readonly #recentFailures = new RecentFailures();
  readonly #interruptions: Interruptions;
  readonly #questions = new Map<number, Waiting>();
  readonly #reads = new Map<number, Waiting>();
  readonly #quiescing = new Map<number, (openCount: number) => void>();
  readonly #pings: (() => void)[] = [];
  /**
   * Contents whose residency the FUSE thread has, with how often it was given: they must stay loaded, or a second
   * bitmap for the same content could come up while the thread looks at the first.
   */
  readonly #lent = new Map<number, { readonly files: Set<ContentFile>; count: number }>();
  /** Contents that are being released: opens wait for these. */
  readonly #releasing = new Map<number, Promise<void>>();
  /** Contents whose descriptor is on its way to the FUSE thread, with how many: not closed, though not yet open. */
  readonly #opening = new UseCounts();
  #closed = false;

  constructor(options: MountServerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#interruptions = new Interruptions(options.isEnding);
  }

  tell(message: ToThread): void {
    this.#options.post(message);
  }

  /** For what only saves the thread a question. */
  tellQuietly(message: ToThread): void {
    this.#options.postQuietly(message);
  }

  /** Resolves when the FUSE thread has taken in what it was sent before; never, when it does no work any more. */
  turn(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#pings.push(resolve);
    this.tell({ kind: 'ping' });
    return promise;
  }

  /** Gives the thread a content before anybody opened it (it was prefetched), so that the open needs no question. */
  async offer(prepared: Prepared): Promise<void> {
    const nodeId = prepared.node.id;
    if (this.#releasing.has(nodeId) || this.#lent.has(nodeId)) return;
    const { opened } = await this.#handOver(prepared);
    this.tellQuietly({ kind: 'offer', nodeId, opened });
  }

  /** A file that is open already: nothing is asked of the remote, and its version stays what it is. */
  async #offerMissing(nodeId: number): Promise<void> {
    const prepared = this.#options.preparedOf(nodeId);
    if (prepared !== undefined) await this.offer(prepared);
  }

  /**
   * Runs `work` while nobody can open the content through this mount: for release. Resolves with `undefined`
   * when somebody has it open or is opening it, or the mount ends (nothing was done).
   */
  async whileClosed<Result>(
    nodeId: number,
    work: () => Promise<Result>,
  ): Promise<Result | undefined> {
    return await this.#quiesced(nodeId, async (openCount) =>
      openCount > 0 ? undefined : await work(),
    );
  }

  /** How many open files the kernel has of the content, through this mount. */
  async openCount(nodeId: number): Promise<number> {
    const opening = this.#opening.of(nodeId);
    return (await this.#quiesced(nodeId, async (openCount) => openCount)) ?? opening;
  }

  /** With a count of 0, opens wait until `work` is done. */
  async #quiesced<Result>(
    nodeId: number,
    work: (openCount: number) => Promise<Result>,
  ): Promise<Result | undefined> {
    if (this.#closed || this.#releasing.has(nodeId) || this.#opening.has(nodeId)) return undefined;
    const { promise: finished, resolve: finish } = Promise.withResolvers<void>();
    this.#releasing.set(nodeId, finished);
    try {
      const openCount = await new Promise<number>((resolve) => {
        this.#quiescing.set(nodeId, resolve);
        this.tell({ kind: 'quiesce', nodeId });
      });
      try {
        return await work(openCount);
      } finally {
        if (openCount === 0) this.tell({ kind: 'resume', nodeId });
      }
    } finally {
      this.#releasing.delete(nodeId);
      finish();
    }
  }

  /** Ends every wait with EINTR; the kernel's requests are answered. The FUSE thread may be gone already. */
  close(): void {
    this.#closed = true;
    for (const answered of this.#quiescing.values()) answered(stillOpen);
    this.#quiescing.clear();
    for (const { controller } of this.#questions.values()) controller.abort();
    for (const { controller } of this.#reads.values()) controller.abort();
  }

  /** Takes in a message of the FUSE thread. Never throws. */
  take(message: ToMain): void {
    try {
      this.#take(message);
    } catch (error) {
      this.#options.onProblem(error);
    }
  }

  #take(message: ToMain): void {
    const { recall, onAccesses, onPrefetch } = this.#options;
    switch (message.kind) {
      case 'read':
        inHand(message.unique, () => this.#read(message)).catch(this.#options.onProblem);
        return;
      case 'interruptRead':
        this.#interrupted(this.#reads.get(message.unique));
        return;
      case 'missing':
        this.#offerMissing(message.nodeId).catch(this.#options.onProblem);
        return;
      case 'interrupted':
        this.#interrupted(this.#questions.get(message.id));
        return;
      case 'consumed':
        this.#consumed(message);
        return;
      case 'endStream':
        recall.endStream(message.streamId);
        return;
      case 'accessed':
        onAccesses(message.accesses);
        return;
      case 'prefetch':
        onPrefetch(message);
        return;
      case 'dropped':
        this.#takeBack(message.nodeId);
        return;
      case 'pong':
        this.#pings.shift()?.();
        return;
      case 'quiesced':
        this.#quiescing.get(message.nodeId)?.(message.openCount);
        this.#quiescing.delete(message.nodeId);
        return;
      default:
        inHand(message.unique, () => this.#answer(message)).catch(this.#options.onProblem);
    }
  }

  #interrupted(waiting: Waiting | undefined): void {
    if (waiting !== undefined) this.#interruptions.add(waiting.controller, waiting.tid);
  }

  async #answer(message: Asked): Promise<void> {
    const controller = new AbortController();
    const waiting = { controller, tid: message.requester.pid };
    this.#questions.set(message.id, waiting);
    if (message.isInterrupted === true) this.#interrupted(waiting);
    try {
      if (await this.#looksUp(message, controller.signal)) return;
      const opened = await this.#ask(message, controller.signal);
      this.tell({
        kind: 'answer',
        id: message.id,
        errno: 0,
        ...(opened === undefined ? {} : { opened }),
      });
    } catch (error) {
      this.tell({ kind: 'answer', id: message.id, errno: toEbbError(error).errno });
    } finally {
      this.#questions.delete(message.id);
      this.#interruptions.over(controller);
    }
  }

  /** A LOOKUP that waits for a listing. True: it was one, and is over. */
  async #looksUp(message: Asked, signal: AbortSignal): Promise<boolean> {
    if (message.kind !== 'list' || message.name === undefined) return false;
    const { id, unique, directoryId, name, resent } = message;
    const node = await this.#options.namespace.listFor(directoryId, name, signal);
    const isAnswered =
      node !== undefined &&
      resent !== undefined &&
      this.#options.answerLookup({ unique, resent }, node);
    // A way through two threads less: the thread hears of it when it hears of something else.
    if (isAnswered) this.tellQuietly({ kind: 'answered', id });
    else this.tell({ kind: 'answer', id, errno: 0 });
    return true;
  }

  async #ask(
    question: Question & { requester: EnsureOptions['requester'] },
    signal: AbortSignal,
  ): Promise<Opened | undefined> {
    const { namespace, preparer } = this.#options;
    switch (question.kind) {
      case 'list':
        await namespace.list(question.directoryId, signal);
        return undefined;
      case 'resolve':
        await preparer.resolve(question.nodeId, signal, question.requester, question.withContent);
        return undefined;
      case 'revalidate':
        await namespace.revalidate(question.nodeId, signal);
        return undefined;
      case 'open':
        return await this.#open(question.nodeId, question.requester, signal);
    }
  }

  async #open(
    nodeId: number,
    requester: EnsureOptions['requester'],
    signal: AbortSignal,
  ): Promise<Opened> {
    for (;;) {
      const prepared = await this.#options.preparer.open(nodeId, signal, requester);
      const released = this.#releasing.get(nodeId);
      if (released === undefined) {
        const { file, opened } = await this.#handOver(prepared);
        this.#recallSmall(file, requester);
        return opened;
      }
      // What was prepared may be gone afterwards.
      await interruptible(released, signal);
    }
  }

  /** What the thread will own. Until the message with it was posted nobody may release the content. */
  async #handOver(prepared: Prepared): Promise<{ file: ContentFile; opened: Opened }> {
    const nodeId = prepared.node.id;
    const opening = this.#opening.begin(nodeId);
    try {
      const { file, descriptor } = await this.#options.openLocal(prepared);
      this.#lend(file);
      return { file, opened: { residency: file.residency.buffer, descriptor } };
    } finally {
      // The message is posted in this turn of the event loop, and a later `quiesce` comes after it.
      setImmediate(() => opening[Symbol.dispose]());
    }
  }

  #lend(file: ContentFile): void {
    const lent = this.#lent.get(file.id);
    if (lent === undefined) {
      this.#lent.set(file.id, { files: new Set([file]), count: 1 });
      return;
    }
    lent.files.add(file);
    lent.count += 1;
  }

  #takeBack(nodeId: number): void {
    const lent = this.#lent.get(nodeId);
    if (lent === undefined) return;
    lent.count -= 1;
    if (lent.count === 0) this.#lent.delete(nodeId);
  }

  #recallSmall(file: ContentFile, requester: EnsureOptions['requester']): void {
    if (file.residency.complete || file.sizeBytes > recallAtOpenMaxBytes) return;
    // The READ that follows joins this flight and reports its failure.
    this.#options.recall
      .ensure(file, 0, file.sizeBytes, { intent: 'demand', requester })
      .catch(() => undefined);
  }

  async #read(message: ReadMessage): Promise<void> {
    const { recall, contentOf, answers, onReadEnded } = this.#options;
    const call: DeferredCall = { unique: message.unique, resent: message.resent };
    const controller = new AbortController();
    const startedAtMs = this.#clock.monotonicMs();
    this.#reads.set(message.unique, { controller, tid: message.requester.pid });
    try {
      const file = contentOf(message.nodeId);
      if (file === undefined) {
        answers.error(call, Errno.ESTALE);
        return;
      }
      const { offsetBytes, sizeBytes, requester, streamId } = message;
      const { signal } = controller;
      const known = this.#recentFailures.find(message.nodeId, message, startedAtMs);
      if (known !== undefined && !file.residency.has(offsetBytes, sizeBytes)) throw known;
      await recall.ensure(file, offsetBytes, sizeBytes, {
        intent: 'demand',
        requester,
        streamId,
        signal,
      });
      // A claim may have been taken back meanwhile: never bytes that are not vouched for.
      if (!file.residency.has(offsetBytes, sizeBytes)) throw claimLost(file);
      answers.dataFromContent(call, file, offsetBytes, sizeBytes);
      onReadEnded(message.nodeId, undefined);
    } catch (thrown) {
      const error = toEbbError(thrown);
      answers.error(call, error.errno);
      if (error.code === 'EINTR') return;
      const nowMs = this.#clock.monotonicMs();
      this.#recentFailures.add(message.nodeId, message, error, { startedAtMs, nowMs });
      onReadEnded(message.nodeId, error);
    } finally {
      this.#reads.delete(message.unique);
      this.#interruptions.over(controller);
    }
  }

  #consumed(message: Extract<ToMain, { kind: 'consumed' }>): void {
    const file = this.#options.contentOf(message.nodeId);
    if (file === undefined) return;
    const { requester, streamId, offsetBytes, sizeBytes } = message;
    this.#options.recall.advance(file, offsetBytes, sizeBytes, streamId, requester);
  }
}

function claimLost(file: ContentFile): EbbError {
  return ebbError('EIO', `The local bytes of ${file.key} were given up while they were read.`, {
    retryable: true,
  });
}
