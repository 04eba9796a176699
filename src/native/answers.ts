/**
 * The questions that main has not answered yet. Each gets exactly one answer: whoever tries to answer again is told
 * that it is too late. Answering closes the event's descriptor.
 */
import { ebbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import type { Group } from '../fanotify/group.ts';
import { denialFor } from '../fanotify/response.ts';
import type { Denial } from '../fanotify/response.ts';
import type { Question } from './messages.ts';

export interface AnswerCounts {
  allowed: number;
  denied: number;
  /** Whose requester was gone. */
  gone: number;
}

/** Made once: an AbortSignal without a reason makes an exception with a stack for each. */
const answered = ebbError('EINTR', 'The question has been answered.');

/** Of a question whose bytes had come. */
export function claimLost(key: string): EbbError {
  const message = `The local bytes of ${key} were given up while they were read.`;
  return ebbError('EIO', message, { retryable: true });
}

export class PendingQuestion {
  readonly question: Question;
  readonly #answers: Answers;
  /** Only for who waits for something: to make one takes longer than most answers. */
  #controller: AbortController | undefined;
  #isAnswered = false;

  constructor(answers: Answers, question: Question) {
    this.question = question;
    this.#answers = answers;
  }

  get isAnswered(): boolean {
    return this.#isAnswered;
  }

  /** Fires when it has been answered, by whomever. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#isAnswered) this.#controller.abort(answered);
    return this.#controller.signal;
  }

  /** Resolves when `work` does or the question is answered, whichever is first. */
  async answeredOr(work: Promise<void>): Promise<void> {
    if (this.isAnswered) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const stop = (): void => resolve();
    this.signal.addEventListener('abort', stop, { once: true });
    try {
      await Promise.race([work, promise]);
    } finally {
      this.signal.removeEventListener('abort', stop);
    }
  }

  /** False: it was answered before. */
  allow(): boolean {
    return this.#answer('allow');
  }

  /** With the nearest errno that the kernel takes. */
  deny(errno: number): boolean {
    return this.#answer(denialFor(errno));
  }

  #answer(answer: 'allow' | Denial): boolean {
    if (this.isAnswered) return false;
    this.#answers.give(this, answer);
    this.#isAnswered = true;
    this.#controller?.abort(answered);
    return true;
  }
}

export interface AnswersOptions {
  readonly access: Group;
  readonly open: Group;
  /** See `ThreadSettings.pending`. */
  readonly pending: Int32Array;
  /** The kernel refused the answer. */
  readonly onFailure: (message: string) => void;
  /** The kernel has an answer. */
  readonly onAnswer: () => void;
}

export class Answers {
  readonly counts: AnswerCounts = { allowed: 0, denied: 0, gone: 0 };
  readonly #options: AnswersOptions;
  readonly #open = new Set<PendingQuestion>();
  /** Who waits until there are none. */
  readonly #untilNone = new Set<() => void>();

  constructor(options: AnswersOptions) {
    this.#options = options;
  }

  get pending(): number {
    return this.#open.size;
  }

  add(question: Question): PendingQuestion {
    const pending = new PendingQuestion(this, question);
    this.#open.add(pending);
    return pending;
  }

  /** Resolves when no question waits for its answer; rejects with EBUSY after `maxMs`. */
  async untilNone(maxMs: number): Promise<void> {
    if (this.#open.size === 0) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      const count = this.#open.size;
      const what = `${count} ${count === 1 ? 'call waits' : 'calls wait'} for what the remote has`;
      reject(ebbError('EBUSY', what, { retryable: true }));
    }, maxMs);
    this.#untilNone.add(resolve);
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      this.#untilNone.delete(resolve);
    }
  }

  denyAll(errno: number): void {
    for (const pending of this.#open) pending.deny(errno);
  }

  /** For `PendingQuestion`. */
  give(pending: PendingQuestion, answer: 'allow' | Denial): void {
    const { access, open, pending: counter, onFailure, onAnswer } = this.#options;
    const { group, descriptor } = pending.question;
    this.#open.delete(pending);
    const result = (group === 'access' ? access : open).answer(descriptor, answer);
    Atomics.sub(counter, 0, 1);
    if (result === 'gone') this.counts.gone += 1;
    else if (answer === 'allow' && result === 'answered') this.counts.allowed += 1;
    else this.counts.denied += 1;
    if (result === 'denied' || result === 'failed') {
      const waits = result === 'failed' ? 'the requester waits on' : 'the requester got EPERM';
      onFailure(`The kernel refused the answer ${answer}: ${waits}.`);
    }
    onAnswer();
    if (this.#open.size === 0) for (const resolve of this.#untilNone) resolve();
  }
}
