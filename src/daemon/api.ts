/**
 * The control API's types: all that the CLI knows of the daemon. HTTP+JSON over a unix socket (0600).
 * Answers that take time are NDJSON: one JSON value per line, the last one `{ "done": ... }`.
 *
 *   GET  /v1/status                       -> MountStatus, of a tree TreeStatus
 *   GET  /v1/ls?path=P                    -> NDJSON of FileInfo, in order of the names' bytes; lists P if that is due
 *   GET  /v1/ls?path=P&recursive=1&deep=D -> NDJSON of FileInfo, depth first, a directory before what is in it: what
 *                                            is known, or (D = 1) all, listing every directory whose turn it is
 *        ...&brief=1                      -> of FileInfo at least what BriefFileInfo has (trees: no more than that)
 *   GET  /v1/ls?path=P&self=1             -> NDJSON of one FileInfo: the entry itself
 *   GET  /v1/du?path=P&deep=0|1           -> DiskUsage of what is known, or of all (as above)
 *   GET  /v1/explain?path=P               -> Explanation
 *   POST /v1/get      PathsRequest        -> NDJSON of Progress, last { done: ActionResult }
 *   POST /v1/release  PathsRequest        -> NDJSON of Progress, last { done: ActionResult }
 *   POST /v1/pin | /v1/unpin PathsRequest -> NDJSON, last { done: ActionResult }
 *   POST /v1/verify   PathsRequest        -> NDJSON of Progress, last { done: ActionResult }
 *   GET  /v1/top                          -> Top
 *   GET  /v1/log?follow=0|1&lines=N       -> NDJSON of LogRecord
 *   POST /v1/refresh  PathsRequest        -> NDJSON of Progress (directories, too), last { done: ActionResult }
 *   POST /v1/handles  HandleRequest       -> HandleAnswer: a token for the file, whatever its name will be
 *   GET  /v1/handles/TOKEN                -> the content; one `Range: bytes=` is heeded (206, 416)
 *   GET  /v1/handles/TOKEN?stat=1         -> FileInfo with the path of now
 *   DELETE /v1/handles/TOKEN              -> {}: this and all other tokens of the file are revoked
 *   POST /v1/stop     { lazy: boolean }   -> StopResult
 *   POST /v1/restart  {}                  -> {}: another daemon takes this one's place at once
 *   POST /v1/detach   DetachRequest       -> NDJSON of Progress, last { done: DetachResult }; trees only
 *   GET  /metrics                         -> OpenMetrics text
 *
 * Errors: HTTP 4xx/5xx with `ApiError`; once NDJSON has begun, an `ApiError` as the last line. Paths are relative
 * to the mount point, '' is the root; bytes that are not UTF-8 are in the lossless form of base/name.ts (in query
 * strings: base/percent.ts). Sizes in bytes, times in ms since 1970.
 */

import type { AttachProblem } from './start-api.ts';

/** Three-letter states as DMF users know them. */
export type FileState = 'REG' | 'DUL' | 'DIR' | 'PAR' | 'OFL' | 'UNM' | 'MIG' | 'ERR' | '-';

export interface ApiError {
  readonly error: string;
  /** Name of the errno, e.g. `ENOENT`. */
  readonly code: string;
  readonly retryable: boolean;
}

export interface TokenStatus {
  /** The second part of every token that was given out here (base/handle-token.ts). */
  readonly tokenTag: string;
  /** Tokens that were made up, revoked, or of what is gone. */
  readonly tokensRefused: number;
}

export interface HandleRequest {
  readonly path: string;
}

export interface HandleAnswer {
  readonly token: string;
}

export interface MountStatus extends TokenStatus {
  readonly kind: 'mount';
  readonly mountPoint: string;
  /** Without credentials. */
  readonly remote: string;
  readonly cacheDirectory: string;
  /** The daemon's; another one after a restart. */
  readonly pid: number;
  readonly supervisorPid: number;
  /** Daemons that served this mount before. */
  readonly restarts: number;
  readonly version: string;
  /** Of the mount. */
  readonly startedAtMs: number;
  readonly passthrough: boolean;
  readonly privileged: boolean;
  readonly files: number;
  readonly directories: number;
  readonly remoteBytes: number;
  readonly residentBytes: number;
  readonly cacheLimitBytes: number | null;
  readonly minFreeBytes: number | null;
  readonly openFiles: number;
  /** File handles that the kernel brought and that meant nothing (any more). */
  readonly handlesRefused: number;
  readonly recallsInFlight: number;
  readonly recalledBytes: number;
  readonly remoteReachable: boolean;
  readonly lastError: string | null;
}

/** `ebb status` of an attached tree. */
export interface TreeStatus extends TokenStatus {
  readonly kind: 'tree';
  /** The tree's directory: named as in `MountStatus`, because it is a mount point while it is attached. */
  readonly mountPoint: string;
  /** Without credentials. */
  readonly remote: string;
  /** Secret, lock and catalog of this tree. */
  readonly stateDirectory: string;
  /** Of the tree's file system: `xfs`, `btrfs`, `ext4`. */
  readonly fileSystem: string;
  /** The daemon's; another one after a restart. */
  readonly pid: number;
  readonly supervisorPid: number;
  /** How often the supervisor had to start the daemon again. */
  readonly restarts: number;
  readonly version: string;
  /** Of the supervisor. */
  readonly startedAtMs: number;
  /** Files that came from the remote, wherever users moved them. */
  readonly stubs: number;
  /** Of them: the user's own content now. */
  readonly dirty: number;
  /** Of them: wholly here. */
  readonly complete: number;
  readonly remoteBytes: number;
  readonly residentBytes: number;
  readonly cacheLimitBytes: number | null;
  readonly minFreeBytes: number | null;
  readonly recallsInFlight: number;
  readonly recalledBytes: number;
  /** Events of the kernel that wait for an answer. */
  readonly waiting: number;
  /** Permission events that the main thread has answered; what the event thread answers alone is not in it. */
  readonly events: number;
  readonly remoteReachable: boolean;
  readonly lastError: string | null;
}

export interface FileInfo {
  readonly path: string;
  readonly kind: 'file' | 'directory' | 'symlink';
  readonly state: FileState;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** -1: not known yet; the listing does not tell it exactly, and only listing one directory asks for it. */
  readonly sizeBytes: number;
  readonly residentBytes: number;
  readonly mtimeMs: number;
  readonly pinned: boolean;
  /** Directories: true when nobody has listed this one yet, so that nothing below it is known. */
  readonly unlisted?: boolean;
  readonly target?: string;
}

/** What `brief` promises of a FileInfo. */
export type BriefFileInfo = Pick<FileInfo, 'path' | 'kind' | 'state' | 'unlisted'>;

export interface DiskUsage {
  readonly path: string;
  readonly files: number;
  readonly directories: number;
  readonly remoteBytes: number;
  readonly residentBytes: number;
  /** There is more at the remote: a directory was never listed, or the size of a file is not known yet. */
  readonly incomplete: boolean;
}

export interface PathsRequest {
  /** Literal paths; a directory means everything below it (refresh: its own listing). */
  readonly paths: readonly string[];
  /** Shell patterns (`*`, `?`, `[..]`, `**`), relative to the mount point. */
  readonly globs?: readonly string[];
  readonly dryRun?: boolean;
}

export interface Progress {
  readonly path: string;
  /** Of this file. */
  readonly doneBytes: number;
  readonly sizeBytes: number;
  /** Of the whole request. */
  readonly totalDoneBytes: number;
  readonly totalBytes: number;
  readonly filesDone: number;
  readonly filesTotal: number;
  /** Set when this file ended: `ok`, or why it was refused or failed, as a sentence. */
  readonly outcome?: 'ok' | { readonly code: string; readonly error: string };
  /** With `outcome`, of `get`: what was not here before. Else all of `doneBytes` was worked on. */
  readonly broughtBytes?: number;
  /** With `outcome`, of `refresh`. */
  readonly changes?: RefreshChanges;
}

/** What `ebb refresh` has found at the remote: how many names. */
export interface RefreshChanges {
  readonly new: number;
  /** With another version, kind or target. */
  readonly updated: number;
  readonly gone: number;
  /** Of trees: not as at the remote, because they are the user's own or maybe the last copy. */
  readonly kept: number;
  /** Of trees: the file system cannot hold them, or they are neither files, directories nor symlinks. */
  readonly leftOut: number;
  /** Of mounts: files that may have changed; they are asked about when they are next used. */
  readonly unsure: number;
}

export interface ActionResult {
  readonly ok: number;
  readonly failed: number;
  /** Refused for safety (open, pinned, not verifiable): exit code 3 when nothing else failed. */
  readonly refused: number;
  /** Of `get` those that were not here before. */
  readonly bytes: number;
  /** Of `get`: those of `ok` that were wholly here before. */
  readonly alreadyHere?: number;
  /** Of `refresh`. */
  readonly changes?: RefreshChanges;
}

export interface Explanation {
  readonly path: string;
  readonly state: FileState;
  /** One sentence a person can act on. */
  readonly summary: string;
  /** Facts, in order: label and value. */
  readonly facts: readonly (readonly [string, string])[];
}

export interface TopEntry {
  readonly pid: number;
  /** As ps(1) shows it as COMM; `[gone]`. `ebb top` shows all of the command line where it can. */
  readonly command: string;
  readonly uid: number;
  readonly recalls: number;
  readonly bytes: number;
  readonly path: string;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly doneBytes: number;
  readonly ageMs: number;
}

export interface Top {
  readonly nowMs: number;
  readonly live: readonly TopEntry[];
  /** Since the mount started, by requester, most bytes first. */
  readonly requesters: readonly {
    readonly pid: number;
    readonly command: string;
    readonly uid: number;
    readonly recalls: number;
    readonly bytes: number;
  }[];
  readonly bytesPerSecond: number;
}

export interface LogRecord {
  readonly timeMs: number;
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly message: string;
  readonly fields?: Readonly<Record<string, string | number | boolean | null>>;
}

export interface StopResult {
  readonly stopped: boolean;
  /** Who holds the mount when it is busy. */
  readonly holders: readonly {
    readonly pid: number;
    readonly command: string;
    readonly what: string;
  }[];
}

export interface DetachRequest {
  /**
   * True: everything is recalled, then the tree becomes an ordinary directory. False: what is here stays as it is,
   * hidden in TREE/.ebb, until the tree is attached again.
   */
  readonly recall: boolean;
}

export type DetachResult =
  /** Nothing of it can be read until it is attached again. */
  | { readonly outcome: 'kept'; readonly stubs: number; readonly residentBytes: number }
  /** An ordinary directory: Ebb has nothing to do with it any more. */
  | { readonly outcome: 'ordinary'; readonly files: number; readonly bytes: number }
  /** Somebody uses the tree: it is attached as before. */
  | { readonly outcome: 'busy'; readonly holders: StopResult['holders'] }
  /** Not everything could be recalled: the tree is attached as before, and nothing of it was lost. */
  | {
      readonly outcome: 'incomplete';
      readonly failed: number;
      /** The first hundred. */
      readonly problems: readonly AttachProblem[];
    };
