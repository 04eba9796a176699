/**
 * Entry point of a session thread (see thread.ts): loads the module that makes the file system,
 * says that it is ready, and blocks in the loop until the connection ends. A thread may serve
 * several connections, one after the other.
 */
import { flushCompileCache } from 'node:module';
import { parentPort, workerData } from 'node:worker_threads';
import { assert } from '../base/assert.ts';
import { LoopControl } from '../sys/loop-control.ts';
import { deviceTransport } from './device.ts';
import { InterruptLog } from './interrupts.ts';
import { runLoop } from './loop.ts';
import { largestAnswerBytes } from './negotiation.ts';
import { Notifier } from './notifier.ts';
import { Replier } from './replier.ts';
import { Session } from './session.ts';
import type { MessagePort } from 'node:worker_threads';
import type { SharedLoopControl } from '../sys/loop-control.ts';
import type { ConnectionInfo, FileSystem } from './filesystem.ts';
import type { LoopEnd } from './loop.ts';
import type { NegotiationOptions } from './negotiation.ts';
import type { SessionProblem } from './session.ts';

/** Worker data: what is loaded before there is a connection. */
export interface ThreadEntry {
  readonly moduleUrl: string | undefined;
}

/** A connection to serve, posted to the thread. */
export interface ThreadStart {
  readonly moduleUrl: string;
  readonly workerData: unknown;
  readonly deviceFileDescriptor: number;
  readonly options: NegotiationOptions;
  readonly established: ConnectionInfo | undefined;
  readonly control: SharedLoopControl;
  readonly otherControls: readonly SharedLoopControl[];
  readonly interrupts: SharedArrayBuffer;
  readonly port: MessagePort;
  readonly index: number;
  /** The thread ends when this connection does. */
  readonly isLast: boolean;
}

/** What a session thread tells the thread that started it. */
export type ThreadReport =
  | { readonly kind: 'ready' }
  | { readonly kind: 'connected'; readonly info: ConnectionInfo }
  | { readonly kind: 'problem'; readonly problem: SessionProblem }
  | { readonly kind: 'ended'; readonly end: LoopEnd };

/** What a file system gets to work with, besides its own worker data. */
export interface FileSystemContext {
  /** 0 .. threads - 1. */
  readonly threadIndex: number;
  readonly deviceFileDescriptor: number;
  /** Answers calls that this thread deferred, e.g. in `wakeup`. */
  readonly replier: Replier;
  /** Mind its rules about locks: not for the node whose request is being handled. */
  readonly notifier: Notifier;
  /**
   * To and from the starting thread (`FuseThreads.post`, `onMessage`). The thread has no event loop
   * while it serves: read it with `receiveMessageOnPort` in `wakeup`.
   */
  readonly port: MessagePort;
  /** The session; only after `createFileSystem` returned. */
  readonly session: Session;
}

/** What the module must export as `createFileSystem`; may be async. */
export type CreateFileSystem = (
  workerData: unknown,
  context: FileSystemContext,
) => FileSystem | Promise<FileSystem>;

function tell(report: ThreadReport): void {
  parentPort?.postMessage(report);
}

async function loadFactory(moduleUrl: string): Promise<CreateFileSystem> {
  const module = (await import(moduleUrl)) as { createFileSystem?: CreateFileSystem };
  const { createFileSystem } = module;
  assert(typeof createFileSystem === 'function', `${moduleUrl} exports createFileSystem`);
  return createFileSystem;
}

/** The file system as given, and `connected` told when INIT came. */
function announced(fileSystem: FileSystem): FileSystem {
  const init = fileSystem.init?.bind(fileSystem);
  fileSystem.init = (info) => {
    init?.(info);
    tell({ kind: 'connected', info });
  };
  return fileSystem;
}

/** Errors do not survive postMessage with all they carry; their text does. */
function postable(problem: SessionProblem): SessionProblem {
  const { error } = problem;
  return { ...problem, error: error instanceof Error ? (error.stack ?? error.message) : undefined };
}

async function serve(start: ThreadStart): Promise<void> {
  const createFileSystem = await loadFactory(start.moduleUrl);
  const transport = deviceTransport(start.deviceFileDescriptor);
  const answerBytes = Math.max(
    largestAnswerBytes(start.options),
    start.established?.maxWriteBytes ?? 0,
  );
  let session: Session | undefined;
  const fileSystem = await createFileSystem(start.workerData, {
    threadIndex: start.index,
    deviceFileDescriptor: start.deviceFileDescriptor,
    replier: new Replier(transport, answerBytes),
    notifier: new Notifier(transport),
    port: start.port,
    get session(): Session {
      assert(session !== undefined, 'the session exists after createFileSystem');
      return session;
    },
  });
  const others = start.otherControls.map((shared) => LoopControl.open(shared));
  session = new Session(announced(fileSystem), transport, {
    ...start.options,
    established: start.established,
    interrupts: new InterruptLog(start.interrupts),
    wakeOthers: () => others.forEach((other) => other.wake()),
    report: (problem) => tell({ kind: 'problem', problem: postable(problem) }),
  });
  using control = LoopControl.open(start.control);
  tell({ kind: 'ready' });
  const end = runLoop(start.deviceFileDescriptor, session, control);
  tell({ kind: 'ended', end });
  start.port.close();
  if (start.isLast) parentPort?.close();
}

// What this rejects with ends the thread, and its starter hears of it.
parentPort?.on('message', (start: ThreadStart) => void serve(start));
const { moduleUrl } = workerData as ThreadEntry;
if (moduleUrl !== undefined) {
  await import(moduleUrl);
  // Node does that when a thread ends in order, which one that is killed never does.
  flushCompileCache();
}
