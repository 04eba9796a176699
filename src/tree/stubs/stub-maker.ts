/**
 * Makes stubs in a thread of its own. Making one is eight system calls, four of them transactions of the file system:
 * while they are made here, the main thread lists, plans and records.
 *
 * Only where the store's `create` may make them, too; the order in which what is made becomes durable and known is the
 * caller's as before.
 */
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import type { StubFacts } from '../../base/stub-facts.ts';
import { ebbError, toEbbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import { factsOfNewStub } from './create-stub.ts';
import type { MakeAnswer, MakeRequest, MakerStart, NamedStub } from './stub-maker-thread.ts';

/** This file's neighbour, whether it is run as TypeScript or compiled. */
const entry = new URL(`./stub-maker-thread${path.extname(import.meta.url)}`, import.meta.url);

export type MadeStub = StubFacts | EbbError;

export class StubMaker implements AsyncDisposable {
  readonly #worker: Worker;
  readonly #chunkBytes: number | undefined;
  readonly #waiting = new Map<number, PromiseWithResolvers<MakeAnswer>>();
  readonly #gone = Promise.withResolvers<void>();
  #next = 1;
  #failure: EbbError | undefined;

  constructor(start: MakerStart) {
    this.#chunkBytes = start.chunkBytes;
    this.#worker = new Worker(entry, { name: 'stubs', workerData: start });
    this.#worker.on('message', (answer: MakeAnswer) => {
      this.#waiting.get(answer.number)?.resolve(answer);
      this.#waiting.delete(answer.number);
    });
    this.#worker.on('error', (error) => this.#fail(error));
    // Not `once` of node:events: that rejects on an error, which is told to those who wait for an answer.
    this.#worker.on('exit', () => {
      this.#fail(undefined);
      this.#gone.resolve();
    });
  }

  /**
   * As `StubStore.create` for each, results in order; an error is the result of that one alone. `directoryFd` stays
   * open until the promise settles. Rejects with EIO when the thread has died: which of them were made is not known.
   */
  async make(directoryFd: number, stubs: readonly NamedStub[]): Promise<readonly MadeStub[]> {
    if (this.#failure !== undefined) throw this.#failure;
    const number = this.#next++;
    const answer = Promise.withResolvers<MakeAnswer>();
    this.#waiting.set(number, answer);
    const request: MakeRequest = { number, directoryFd, stubs };
    this.#worker.postMessage(request);
    const { made } = await answer.promise;
    return made.map((one, at) => {
      if ('code' in one) return ebbError(one.code, one.message);
      const { stub } = stubs[at] as NamedStub;
      if (one instanceof Uint8Array) return factsOfNewStub(stub, one, this.#chunkBytes);
      return factsOfNewStub({ ...stub, mtime: one.mtime }, one.handle, this.#chunkBytes);
    });
  }

  /** Ends the thread after what was asked for. Never rejects. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#worker.postMessage('end');
    await this.#gone.promise;
  }

  #fail(cause: unknown): void {
    const why = cause === undefined ? '' : ` ${toEbbError(cause).message}`;
    this.#failure ??= ebbError('EIO', `The thread that makes stubs has ended.${why}`, { cause });
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
  }
}
