/**
 * What the control server asks of the daemon: one function per endpoint of ../api.ts. The server does the
 * protocol (parsing, validation, limits, errors, back-pressure); a handler only answers.
 *
 * Paths arrive relative to the mount point, normalized: no leading or trailing slash, no `.`, `..` or empty
 * component; '' is the root. Every `signal` fires when the client went away or the server closes: stop working
 * then. Handlers reject with EbbError; anything else becomes EIO.
 */
import type {
  ActionResult,
  BriefFileInfo,
  DetachRequest,
  DetachResult,
  DiskUsage,
  Explanation,
  FileInfo,
  LogRecord,
  MountStatus,
  PathsRequest,
  Progress,
  StopResult,
  Top,
  TreeStatus,
} from '../api.ts';
import type { MetricFamily } from './open-metrics.ts';

export interface LsRequest {
  readonly path: string;
  /** What is known below, depth first, a directory before its entries. Not together with `self`. */
  readonly recursive: boolean;
  /** With `recursive`: lists every directory below that was never listed, or not lately. */
  readonly deep: boolean;
  /** With `recursive`: more than `BriefFileInfo` is not asked for. */
  readonly brief: boolean;
  /** The entry itself instead of what is in it. */
  readonly self: boolean;
}

export interface DuRequest {
  readonly path: string;
  /** As in `LsRequest`. */
  readonly deep: boolean;
}

export interface LogRequest {
  readonly follow: boolean;
  /** At most this many old records first. 0 .. 100,000. */
  readonly lines: number;
}

/** Progress while it works; what it returns becomes the last line, `{ "done": ... }`. */
export type Action<Result = ActionResult> = AsyncGenerator<Progress, Result, void>;

/** The content behind a token. */
export interface TokenContent {
  readonly sizeBytes: number;
  /** Both within the file. The pieces are valid until the next one is asked for. */
  read(
    range: { readonly offsetBytes: number; readonly lengthBytes: number },
    signal: AbortSignal,
  ): AsyncIterable<Uint8Array>;
}

/**
 * Handle tokens. All but `issue` reject with EACCES for a token that was not given out here or was revoked, ESTALE when
 * its file is gone.
 */
export interface HandleHandlers {
  issue(path: string, signal: AbortSignal): Promise<string>;
  revoke(token: string): Promise<void>;
  info(token: string): Promise<FileInfo>;
  open(token: string, signal: AbortSignal): Promise<TokenContent>;
}

export interface ControlHandlers {
  status(signal: AbortSignal): Promise<MountStatus | TreeStatus>;
  /** A file's or symlink's path yields that entry; a directory's its entries in order of their names' bytes. */
  ls(request: LsRequest, signal: AbortSignal): AsyncIterable<FileInfo | BriefFileInfo>;
  du(request: DuRequest, signal: AbortSignal): Promise<DiskUsage>;
  explain(path: string, signal: AbortSignal): Promise<Explanation>;
  get(request: PathsRequest, signal: AbortSignal): Action;
  release(request: PathsRequest, signal: AbortSignal): Action;
  pin(request: PathsRequest, signal: AbortSignal): Action;
  unpin(request: PathsRequest, signal: AbortSignal): Action;
  verify(request: PathsRequest, signal: AbortSignal): Action;
  top(signal: AbortSignal): Promise<Top>;
  log(request: LogRequest, signal: AbortSignal): AsyncIterable<LogRecord>;
  refresh(request: PathsRequest, signal: AbortSignal): Action;
  /**
   * Unmounts. Resolves `{ stopped: true }` when the mount is gone; the process must end only after the answer
   * was sent (`ControlServer.close` waits for that).
   */
  stop(request: { readonly lazy: boolean }, signal: AbortSignal): Promise<StopResult>;
  /** Another daemon takes over. This one is killed after the answer was sent. */
  restart(): Promise<void>;
  /** Of trees only: ends serving. The process ends only after the answer was sent, as with `stop`. */
  detach?(request: DetachRequest, signal: AbortSignal): Action<DetachResult>;
  /** Of mounts only. */
  readonly handles?: HandleHandlers;
  metrics(signal: AbortSignal): Promise<readonly MetricFamily[]>;
}
