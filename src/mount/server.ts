/**
 * The main thread's side of a mount: answers the FUSE thread's questions, and the kernel's READs of bytes that have
 * to be recalled first. Knows namespace, recall and tree; knows nothing of the wire.
 */
import { Errno } from '../base/errno.ts';
import { toEbbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import type { DeferredCall } from '../fuse/filesystem.ts';
import type { Namespace } from '../recall/namespace/namespace.ts';
import type { Prepared, Preparer } from '../recall/namespace/prepare.ts';
import type { RecallEngine } from '../recall/engine.ts';
import type { EnsureOptions } from '../recall/recall.ts';
import type { ContentFile } from '../tree/content.ts';
import type { Opened, Question, ToMain, ToThread } from './messages.ts';

/** Files up to this size are recalled as soon as they are opened: the READ will come. */
const recallAtOpenMaxBytes = 1024 * 1024;

export interface MountServerOptions {
  /** Sends a message to the FUSE thread and wakes it. */
  readonly post: (message: ToThread) => void;
  readonly namespace: Namespace;
  readonly preparer: Preparer;
  readonly recall: RecallEngine;
  /** The local file of a node if it has one. */
  readonly contentOf: (nodeId: number) => ContentFile | undefined;
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
  readonly onAccesses: (accesses: readonly (readonly [number, number])[]) => void;
  readonly onPrefetch: (message: Extract<ToMain, { kind: 'prefetch' }>) => void;
  readonly onReadFailed: (nodeId: number, error: EbbError) => void;
}

type ReadMessage = Extract<ToMain, { kind: 'read' }>;

export class MountServer {
  readonly #options: MountServerOptions;
  readonly #questions = new Map<number, AbortController>();
  readonly #reads = new Map<number, AbortController>();
  readonly #quiescing = new Map<number, (openCount: number) => void>();
  /**
   * Contents whose residency the FUSE thread has, with how often it was given: they must stay loaded, or a second
   * bitmap for the same content could come up while the thread looks at the first.
   */
  readonly #lent = new Map<number, { readonly file: ContentFile; count: number }>();
  /** Contents that are being released: opens wait for these. */
  readonly #releasing = new Map<number, Promise<void>>();

  constructor(options: MountServerOptions) {
    this.#options = options;
  }

  /** Kernel requests that wait for the remote. */
  get waiting(): number {
    return this.#questions.size + this.#reads.size;
  }

  tell(message: ToThread): void {
    this.#options.post(message);
  }

  /**
   * Runs `work` while nobody can open the content through this mount: for release. Resolves with `undefined`
   * when somebody has it open (nothing was done).
   */
  async whileClosed<Result>(
    nodeId: number,
    work: () => Promise<Result>,
  ): Promise<Result | undefined> {
    if (this.#releasing.has(nodeId)) return undefined;
    const { promise: finished, resolve: finish } = Promise.withResolvers<void>();
    this.#releasing.set(nodeId, finished);
    try {
      const openCount = await new Promise<number>((resolve) => {
        this.#quiescing.set(nodeId, resolve);
        this.tell({ kind: 'quiesce', nodeId });
      });
      if (openCount > 0) return undefined;
      try {
        return await work();
      } finally {
        this.tell({ kind: 'resume', nodeId });
      }
    } finally {
      this.#releasing.delete(nodeId);
      finish();
    }
  }

  /** Ends every wait with EINTR; the kernel's requests are answered. */
  close(): void {
    for (const controller of this.#questions.values()) controller.abort();
    for (const controller of this.#reads.values()) controller.abort();
  }

  /** Takes in a message of the FUSE thread. */
  take(message: ToMain): void {
    const { recall, onAccesses, onPrefetch } = this.#options;
    switch (message.kind) {
      case 'read':
        void this.#read(message);
        return;
      case 'interruptRead':
        this.#reads.get(message.unique)?.abort();
        return;
      case 'cancel':
        this.#questions.get(message.id)?.abort();
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
      case 'quiesced':
        this.#quiescing.get(message.nodeId)?.(message.openCount);
        this.#quiescing.delete(message.nodeId);
        return;
      default:
        void this.#answer(message);
    }
  }

  async #answer(
    message: Question & { id: number; requester: EnsureOptions['requester'] },
  ): Promise<void> {
    const controller = new AbortController();
    this.#questions.set(message.id, controller);
    try {
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
    }
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
        await preparer.resolve(question.nodeId, signal);
        return undefined;
      case 'revalidate':
        await namespace.revalidate(question.nodeId, signal);
        return undefined;
      case 'open': {
        await this.#releasing.get(question.nodeId);
        const prepared = await preparer.open(question.nodeId, signal);
        const { file, descriptor } = await this.#options.openLocal(prepared);
        this.#recallSmall(file, question.requester);
        this.#lend(file);
        return { residency: file.residency.buffer, descriptor };
      }
    }
  }

  #lend(file: ContentFile): void {
    const lent = this.#lent.get(file.id);
    if (lent === undefined) this.#lent.set(file.id, { file, count: 1 });
    else lent.count += 1;
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
    const { recall, contentOf, answers, onReadFailed } = this.#options;
    const call: DeferredCall = { unique: message.unique, resent: message.resent };
    const controller = new AbortController();
    this.#reads.set(message.unique, controller);
    try {
      const file = contentOf(message.nodeId);
      if (file === undefined) {
        answers.error(call, Errno.ESTALE);
        return;
      }
      const { offsetBytes, sizeBytes, requester, streamId } = message;
      const { signal } = controller;
      await recall.ensure(file, offsetBytes, sizeBytes, {
        intent: 'demand',
        requester,
        streamId,
        signal,
      });
      answers.dataFromContent(call, file, offsetBytes, sizeBytes);
    } catch (thrown) {
      const error = toEbbError(thrown);
      answers.error(call, error.errno);
      if (error.code !== 'EINTR') onReadFailed(message.nodeId, error);
    } finally {
      this.#reads.delete(message.unique);
    }
  }

  #consumed(message: Extract<ToMain, { kind: 'consumed' }>): void {
    const file = this.#options.contentOf(message.nodeId);
    if (file === undefined) return;
    const { requester, streamId, offsetBytes, sizeBytes } = message;
    this.#options.recall.advance(file, offsetBytes, sizeBytes, streamId, requester);
  }
}
