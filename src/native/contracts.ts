/** What the front end is given by whoever composes it (src/daemon), and what it tells. */
import type { Clock } from '../base/clock.ts';
import type { EbbError } from '../base/errors.ts';
import type { RecallEngine } from '../recall/engine.ts';
import type { StubFile, StubStore } from '../tree/stubs/stub-store.ts';
import type { NativeGroups, ToMain, ToThread } from './messages.ts';
import type { NativePolicy } from './options.ts';
import type { SiblingsOf } from './siblings.ts';

export interface NativeThreadOptions {
  readonly groups: NativeGroups;
  /** Of whose stubs main is asked. */
  readonly treeId: string;
  /** The tree's catalog of stubs, read by the thread: whose mark was taken off is a stub all the same. */
  readonly catalogPath: string;
  /** Questions that main has not answered yet: `NativeServer.pending`. */
  readonly pending: SharedArrayBuffer;
  /** How much of a file is served from here between two reports to main: `consumption.ts`. */
  readonly consumedStepBytes: number;
  readonly policy: NativePolicy;
  /** `StubStore.hasPoison`. */
  readonly hasPoison: boolean;
  /** What goes to `NativeServer.take`. */
  readonly onMessage: (message: ToMain) => void;
}

export interface NativeServerOptions {
  readonly groups: NativeGroups;
  /** `NativeThread.post`. */
  readonly post: (message: ToThread) => void;
  readonly store: StubStore;
  readonly recall: RecallEngine;
  readonly policy: NativePolicy;
  /** Where another server counts for the same thread. Default: a counter of its own. */
  readonly pending?: SharedArrayBuffer;
  /** Files that were used, with when (ms since 1970): for `touch` of the catalog. */
  readonly onAccesses: (accesses: readonly (readonly [fileId: number, atMs: number])[]) => void;
  /** Main has got on: taken in a message of the event thread, or given an answer. Hot. */
  readonly onStep?: () => void;
  /** Change events were lost: every stub has to be looked at (`NativeServer.resolve`). */
  readonly onRescan: () => void;
  /** What people should hear of: a file that was changed past Ebb, a record that cannot be written, our own bugs. */
  readonly onProblem: (problem: NativeProblem) => void;
  /** A recall for a reader ended; undefined: well. */
  readonly onReadEnded?: (fileId: number, error: EbbError | undefined) => void;
  /** Somebody opened the file to read it, and will want a range that is not here: see `Remote.expect`. */
  readonly expectRead?: (file: StubFile) => void;
  /** For files that are brought before they are opened; absent: none are. */
  readonly siblingsOf?: SiblingsOf;
  readonly clock?: Clock;
}

export interface NativeProblem {
  readonly fileId: number | undefined;
  readonly message: string;
  readonly cause: unknown;
}

/** Since the start. Who caused how much recall is told by `RecallEngine.requesters`. */
export interface NativeCounters {
  /** Questions that came to the main thread, by group. */
  readonly opens: number;
  readonly accesses: number;
  readonly allowed: number;
  readonly denied: number;
  /** Denied because of a verdict. */
  readonly refused: number;
  /** Whose requester was gone when the answer came. */
  readonly gone: number;
  /** Denied because their deadline passed. */
  readonly overdue: number;
  /** Being answered now. */
  readonly pending: number;
  /** Writers let in. */
  readonly intents: number;
  readonly discards: number;
}
