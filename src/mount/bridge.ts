/**
 * The FUSE thread's side of the conversation with the main thread: questions with answers, and notices. The thread
 * blocks in the kernel, not in Node's event loop, so messages are taken in synchronously after a wake-up.
 */
import { receiveMessageOnPort } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';
import { assert } from '../base/assert.ts';
import { toEbbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import type { Requester } from '../recall/recall.ts';
import type { Opened, Question, ToMain, ToThread } from './messages.ts';

/** Requests of the kernel that may wait for main at one time; above it the requester gets EAGAIN. */
export const questionsPendingMax = 65_536;

export interface Answer {
  /** 0 or a positive errno. */
  readonly errno: number;
  readonly opened?: Opened;
}

interface Pending {
  readonly unique: number;
  readonly done: (answer: Answer) => void;
  /** Maybe after main had answered. */
  isInterrupted: boolean;
}

export type Notice = Exclude<ToThread, { kind: 'answer' | 'answered' | 'ping' }>;

export class Bridge {
  readonly #port: MessagePort;
  readonly #onNotice: (notice: Notice) => void;
  readonly #pending = new Map<number, Pending>();
  readonly #idByUnique = new Map<number, number>();
  #nextId = 1;
  /** The interrupted request whose answer is taken in: the kernel says it once, main has to hear it again. */
  #interruptedUnique: number | undefined;
  #failure: EbbError | undefined;

  constructor(port: MessagePort, onNotice: (notice: Notice) => void) {
    this.#port = port;
    this.#onNotice = onNotice;
  }

  get isFull(): boolean {
    return this.#pending.size >= questionsPendingMax;
  }

  tell(message: ToMain): void {
    this.#port.postMessage(message);
  }

  /** Asks main on behalf of the kernel request `unique`; `done` runs in this thread, exactly once. */
  ask(
    question: Question,
    requester: Requester,
    unique: number,
    done: (answer: Answer) => void,
  ): void {
    const id = this.#nextId;
    this.#nextId += 1;
    const isInterrupted = unique === this.#interruptedUnique;
    this.#pending.set(id, { unique, done, isInterrupted });
    this.#idByUnique.set(unique, id);
    const interrupted = isInterrupted ? { isInterrupted } : {};
    this.tell({ ...question, id, unique, requester, ...interrupted });
  }

  /** The kernel interrupts `unique`. True when a question was pending for it. */
  interrupt(unique: number): boolean {
    const id = this.#idByUnique.get(unique);
    const pending = id === undefined ? undefined : this.#pending.get(id);
    if (id === undefined || pending === undefined) return false;
    pending.isInterrupted = true;
    this.tell({ kind: 'interrupted', id });
    return true;
  }

  /**
   * Takes in all messages that main has sent. Never throws: what one of them throws is nobody else's business, and
   * is kept for `takeFailure`.
   */
  drain(): void {
    for (;;) {
      const received = receiveMessageOnPort(this.#port);
      if (received === undefined) return;
      try {
        this.#take(received.message as ToThread);
      } catch (error) {
        this.#failure ??= toEbbError(error);
      }
    }
  }

  /** The first bug met by `drain` since the last call. */
  takeFailure(): EbbError | undefined {
    const failure = this.#failure;
    this.#failure = undefined;
    return failure;
  }

  #take(message: ToThread): void {
    if (message.kind === 'ping') return this.tell({ kind: 'pong' });
    if (message.kind !== 'answer' && message.kind !== 'answered') {
      this.#onNotice(message);
      return;
    }
    const pending = this.#pending.get(message.id);
    assert(pending !== undefined, `an answer to question ${message.id} that was never asked`);
    this.#pending.delete(message.id);
    if (this.#idByUnique.get(pending.unique) === message.id)
      this.#idByUnique.delete(pending.unique);
    if (message.kind === 'answered') return;
    this.#interruptedUnique = pending.isInterrupted ? pending.unique : undefined;
    try {
      pending.done(message);
    } finally {
      this.#interruptedUnique = undefined;
    }
  }
}
