/**
 * The event thread, seen from the thread that starts it. It blocks in system calls: it is never terminated, it is
 * asked to stop through its eventfd and ends by itself. An exit hook does that for `process.exit()`, which would
 * otherwise wait for ever.
 */
import { once } from 'node:events';
import path from 'node:path';
import { MessageChannel, Worker } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';
import { PreparedThread } from '../base/prepared-thread.ts';
import { LoopControl } from '../sys/loop-control.ts';
import type { NativeThreadOptions } from './contracts.ts';
import { Backlog } from './backlog.ts';
import type { ToMain, ToThread } from './messages.ts';
import type { ThreadReport, ThreadStart } from './thread-main.ts';

/** This file's neighbour, whether it is run as TypeScript or compiled. */
const entry = new URL(`./thread-main${path.extname(import.meta.url)}`, import.meta.url);

/** For `NativeThread.start`. */
export function prepareNativeThread(): PreparedThread {
  return new PreparedThread(new Worker(entry, { name: 'fanotify' }), threadDied);
}

function threadDied(exitCode: number): Error {
  return new Error(`The fanotify thread ended (exit code ${exitCode}).`);
}

export class NativeThread {
  readonly #control: LoopControl;
  readonly #port: MessagePort;
  readonly #ended: Promise<void>;
  readonly #stopAtExit = (): void => this.#control.stop();

  private constructor(control: LoopControl, port: MessagePort, ended: Promise<void>) {
    this.#control = control;
    this.#port = port;
    this.#ended = this.#untilAllIsTold(ended);
    this.#ended.catch(() => undefined);
    process.on('exit', this.#stopAtExit);
  }

  /** Resolves when the thread has loaded everything and serves. `prepared`: serves once. */
  static async start(
    options: NativeThreadOptions,
    prepared = prepareNativeThread(),
  ): Promise<NativeThread> {
    const control = LoopControl.create();
    const channel = new MessageChannel();
    const start: ThreadStart = {
      groups: options.groups,
      treeId: options.treeId,
      catalogPath: options.catalogPath,
      pending: options.pending,
      consumedStepBytes: options.consumedStepBytes,
      doorkeeper: { policy: options.policy, hasPoison: options.hasPoison },
      control: control.shared,
      port: channel.port2,
    };
    const { worker } = prepared;
    const ready = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<void>();
    worker.on('message', (_report: ThreadReport) => ready.resolve());
    worker.on('error', (error) => {
      ready.reject(error);
      ended.reject(error);
    });
    worker.on('exit', (exitCode) => {
      const died = threadDied(exitCode);
      ready.reject(died);
      if (exitCode === 0) ended.resolve();
      else ended.reject(died);
    });
    const thread = new NativeThread(control, channel.port1, ended.promise);
    if (prepared.failure === undefined) worker.postMessage(start, [channel.port2]);
    else {
      channel.port2.close();
      ready.reject(prepared.failure);
      ended.reject(prepared.failure);
    }
    await ready.promise;
    // Not earlier: what is asked is answered with the help of what this returns. Until then it waits in the port.
    const backlog = new Backlog(options.pending);
    channel.port1.on('message', (message: ToMain) => {
      backlog.taken(message);
      options.onMessage(message);
    });
    channel.port1.unref();
    return thread;
  }

  /**
   * Settles when the thread is gone and all that it told has been given to `onMessage`; rejects when it died of an
   * exception: then nobody answers any more.
   */
  get ended(): Promise<void> {
    return this.#ended;
  }

  /** A message for the thread, which is woken to take it in. */
  post(message: ToThread): void {
    this.#port.postMessage(message);
    this.#control.wake();
  }

  /** It does something soon, if it can: its count of steps moves (shared-words.ts). */
  wake(): void {
    this.#control.wake();
  }

  /**
   * Ends the thread after what is queued has been answered: what needs the remote is denied with EIO. Requesters that
   * come later wait until the groups are closed (which lets them through: I9) or served by somebody else, so whoever
   * stops takes the tree out of reach first.
   */
  async stop(): Promise<void> {
    this.#control.stop();
    await this.#ended;
  }

  /** Settles as `ended`, when the port is closed. */
  async #untilAllIsTold(ended: Promise<void>): Promise<void> {
    const allTold = once(this.#port, 'close');
    try {
      await ended;
    } finally {
      process.off('exit', this.#stopAtExit);
      // A port gives a thousand messages in a turn: what it has beyond that when the thread is gone is not lost.
      this.#port.start();
      this.#port.ref();
      await allTold;
      this.#control[Symbol.dispose]();
    }
  }
}
