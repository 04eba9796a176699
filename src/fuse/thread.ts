/**
 * Runs a file system in worker threads, so that the thread that started it keeps its event loop.
 *
 * The loop blocks in system calls: a worker in it is never terminated, it is asked to stop through
 * its eventfd and ends by itself. An exit hook does that for `process.exit()`, which would
 * otherwise wait for ever.
 */
import path from 'node:path';
import { MessageChannel, Worker } from 'node:worker_threads';
import { assert } from '../base/assert.ts';
import { PreparedThread } from '../base/prepared-thread.ts';
import { LoopControl } from '../sys/loop-control.ts';
import { InterruptLog } from './interrupts.ts';
import type { MessagePort } from 'node:worker_threads';
import type { ConnectionInfo } from './filesystem.ts';
import type { LoopEnd } from './loop.ts';
import type { NegotiationOptions } from './negotiation.ts';
import type { SessionProblem } from './session.ts';
import type { ThreadEntry, ThreadReport, ThreadStart } from './thread-main.ts';

export interface FuseThreadsOptions {
  /** A mounted /dev/fuse, non-blocking (`Connection.fileDescriptor`). Stays the caller's. */
  readonly deviceFileDescriptor: number;
  /** The module that exports `createFileSystem(workerData, context)`. */
  readonly moduleUrl: string | URL;
  /** Copied to every thread (structured clone). */
  readonly workerData?: unknown;
  readonly options?: NegotiationOptions;
  /** How many threads serve, each with its own file system object. Default 1; at most 64. */
  readonly threads?: number;
  /** The first thread. Default: a new one. */
  readonly preparedThread?: PreparedThread;
  /** The prepared thread lives on when the connection has ended, and can serve another one. */
  readonly keepsThread?: boolean;
  /** INIT was answered by a former server of this descriptor. */
  readonly established?: ConnectionInfo;
  /** Bugs of the file system and malformed messages. Default: process warnings. */
  readonly onProblem?: (problem: SessionProblem) => void;
  /** What a file system posted to its `context.port`. */
  readonly onMessage?: (message: unknown, threadIndex: number) => void;
}

const threadsMax = 64;
/** Problems shown as warnings when nobody listens. */
const warningsMax = 20;

/** This file's neighbour, whether it is run as TypeScript or compiled. */
const entry = new URL(`./thread-main${path.extname(import.meta.url)}`, import.meta.url);

/** A thread that loads a module and waits for connections (`FuseThreadsOptions.preparedThread`). */
export function prepareFuseThread(moduleUrl: string | URL): PreparedThread {
  return new PreparedThread(newThread('fuse-0', { moduleUrl: String(moduleUrl) }), threadDied);
}

function newThread(name: string, entryData: ThreadEntry): Worker {
  return new Worker(entry, { name, workerData: entryData });
}

function threadDied(exitCode: number): Error {
  return new Error(`a FUSE thread died (exit code ${exitCode})`);
}

interface RunningThread {
  readonly control: LoopControl;
  readonly port: MessagePort;
  readonly ended: Promise<LoopEnd>;
}

/** The threads of one connection. */
export class FuseThreads {
  readonly #options: FuseThreadsOptions;
  readonly #controls: readonly LoopControl[];
  readonly #interrupts = InterruptLog.sharedMemory();
  readonly #threads: RunningThread[] = [];
  readonly #connected = Promise.withResolvers<ConnectionInfo>();
  readonly #ended = Promise.withResolvers<LoopEnd>();
  readonly #stopAtExit = (): void => this.#stopAll();
  #warnings = 0;

  private constructor(options: FuseThreadsOptions) {
    const threads = options.threads ?? 1;
    assert(Number.isInteger(threads) && threads >= 1 && threads <= threadsMax, '1 to 64 threads');
    this.#options = options;
    this.#controls = Array.from({ length: threads }, () => LoopControl.create());
    this.#connected.promise.catch(() => undefined);
    this.#ended.promise.catch(() => undefined);
    process.on('exit', this.#stopAtExit);
  }

  /**
   * Starts the first thread; resolves when it is about to read. The others follow after INIT.
   * Rejects with what the module or its `createFileSystem` threw.
   */
  static async start(options: FuseThreadsOptions): Promise<FuseThreads> {
    const threads = new FuseThreads(options);
    try {
      await threads.#startThread(0, options.established);
    } catch (error) {
      threads.#cleanUp();
      throw error;
    }
    void threads.#run();
    return threads;
  }

  /** INIT was answered: the mount is usable. Rejects when the connection ends before. */
  get connected(): Promise<ConnectionInfo> {
    return this.#connected.promise;
  }

  /** Every thread has ended; how the first one did. Rejects when a thread died of an exception. */
  get ended(): Promise<LoopEnd> {
    return this.#ended.promise;
  }

  /**
   * A message for the file system of a thread, which is woken to take it in (`FileSystem.wakeup`).
   */
  post(message: unknown, threadIndex = 0): void {
    this.#threads[threadIndex]?.port.postMessage(message);
    this.wake(threadIndex);
  }

  /** As `post`, without waking the thread: taken in with the next message that does, or when the thread looks. */
  postQuietly(message: unknown, threadIndex = 0): void {
    this.#threads[threadIndex]?.port.postMessage(message);
  }

  /** Has `FileSystem.wakeup` called in a thread. */
  wake(threadIndex = 0): void {
    this.#controls[threadIndex]?.wake();
  }

  /** Asks all threads to end after the request they handle, and waits for that. The mount stays. */
  async stop(): Promise<LoopEnd> {
    this.#stopAll();
    return this.ended;
  }

  #stopAll(): void {
    for (const control of this.#controls) control.stop();
  }

  async #run(): Promise<void> {
    try {
      const first = this.#threads[0];
      assert(first !== undefined, 'the first thread runs');
      void first.ended.then(
        () => this.#connected.reject(new Error('the connection ended before INIT')),
        (error: unknown) => this.#connected.reject(error),
      );
      const info = await this.#connected.promise.catch(() => undefined);
      if (info !== undefined) {
        for (let index = 1; index < this.#controls.length; index += 1) {
          await this.#startThread(index, info);
        }
      }
      const [end] = await Promise.all(this.#threads.map((thread) => thread.ended));
      assert(end !== undefined, 'the first thread ended');
      this.#ended.resolve(end);
    } catch (error) {
      this.#stopAll();
      await Promise.allSettled(this.#threads.map((thread) => thread.ended));
      this.#ended.reject(error);
    } finally {
      this.#cleanUp();
    }
  }

  #cleanUp(): void {
    process.off('exit', this.#stopAtExit);
    for (const thread of this.#threads) thread.port.close();
    for (const control of this.#controls) control[Symbol.dispose]();
  }

  /** Resolves when the thread has loaded everything: before that nothing may make it end. */
  async #startThread(index: number, established: ConnectionInfo | undefined): Promise<void> {
    const control = this.#controls[index];
    assert(control !== undefined, 'every thread has its control');
    const channel = new MessageChannel();
    const keepsThread = index === 0 && this.#options.keepsThread === true;
    const start: ThreadStart = {
      moduleUrl: String(this.#options.moduleUrl),
      workerData: this.#options.workerData,
      deviceFileDescriptor: this.#options.deviceFileDescriptor,
      options: this.#options.options ?? {},
      established,
      control: control.shared,
      otherControls: this.#controls.filter((other) => other !== control).map((one) => one.shared),
      interrupts: this.#interrupts,
      port: channel.port2,
      index,
      isLast: !keepsThread,
    };
    const prepared = index === 0 ? this.#options.preparedThread : undefined;
    const worker = prepared?.worker ?? newThread(`fuse-${index}`, { moduleUrl: undefined });
    const ready = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<LoopEnd>();
    ended.promise.catch(() => undefined);
    let end: LoopEnd | undefined;
    const heard = (report: ThreadReport): void => {
      if (report.kind === 'ready') ready.resolve();
      else if (report.kind === 'connected') this.#connected.resolve(report.info);
      else if (report.kind === 'problem') this.#problem(report.problem);
      else {
        ({ end } = report);
        if (!keepsThread) return;
        worker.off('message', heard).off('error', failed).off('exit', exited);
        ended.resolve(end);
      }
    };
    const failed = (error: unknown): void => {
      ready.reject(error);
      ended.reject(error);
    };
    const exited = (exitCode: number): void => {
      const died = threadDied(exitCode);
      ready.reject(died);
      if (end === undefined) ended.reject(died);
      else ended.resolve(end);
    };
    worker.on('message', heard).on('error', failed).on('exit', exited);
    if (prepared?.failure === undefined) worker.postMessage(start, [channel.port2]);
    else failed(prepared.failure);
    this.#threads.push({ control, port: channel.port1, ended: ended.promise });
    await ready.promise;
    // Not before: what a message leads to may need the object that `start` is about to give.
    channel.port1.on('message', (message: unknown) => this.#options.onMessage?.(message, index));
    channel.port1.unref();
  }

  #problem(problem: SessionProblem): void {
    if (this.#options.onProblem !== undefined) this.#options.onProblem(problem);
    else if ((this.#warnings += 1) <= warningsMax) {
      const { operation, nodeId, message } = problem;
      process.emitWarning(`FUSE ${operation} of node ${nodeId}: ${message}`, 'EbbFuseWarning');
    }
  }
}
