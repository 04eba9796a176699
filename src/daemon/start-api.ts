/** What starts a mount or attaches a tree: the options that it is handed, and what it answers. */
import type { RunRecord } from '../base/run-directory.ts';
import type { HttpRemoteOptions } from '../remote/http/options.ts';

/** How a remote is reached: the same for mounts and trees. */
export interface RemoteAccess extends Pick<
  HttpRemoteOptions,
  | 'user'
  | 'password'
  | 'bearerToken'
  | 'headers'
  | 'proxy'
  | 'caFile'
  | 'clientCertificateFile'
  | 'clientKeyFile'
  | 'insecure'
  | 'connectTimeoutMs'
  | 'connections'
> {
  /** A recall that has not brought a reader's bytes by then ends in EIO. Default 60,000. */
  readonly deadlineMs?: number;
  readonly retries?: number;
  readonly readAheadMaxBytes?: number;
  readonly limitBytesPerSecond?: number;
}

/**
 * What `ebb mount` hands to the daemon: one line of JSON on the daemon's standard input. The daemon answers with
 * one line of JSON (`StartResult`) on descriptor 3 once it serves or has failed, then closes it.
 */
export interface MountOptions extends RemoteAccess {
  /** `http://`, `https://`, or an absolute directory path. May contain `user:password@` (never shown again). */
  readonly remote: string;
  readonly mountPoint: string;
  /** Absolute; undefined = default: /var/cache/ebb/<name> for root, $XDG_CACHE_HOME/ebb/<name> else. */
  readonly cacheDirectory?: string;
  /** Release least recently used content above this many allocated bytes. */
  readonly cacheSizeBytes?: number;
  /** Release when the cache's file system has less free than this. */
  readonly minFreeBytes?: number;
  /** How long listings and versions are trusted; 0 = ask the remote on every open. Default 60,000. */
  readonly ttlMs?: number;
  readonly fileMode?: number;
  readonly directoryMode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly passthrough?: boolean;
  /** Other users may look in. Default: for root true, else false. */
  readonly allowOther?: boolean;
  /** Nothing on the mount can be executed. Default false. */
  readonly noExec?: boolean;
  /** Exchanges the handle secret first: every file handle and token given out so far is stale. Default false. */
  readonly newHandles?: boolean;
  /** Use fusermount3 even as root (tests; containers without CAP_SYS_ADMIN). */
  readonly unprivileged?: boolean;
  /** Of the supervisor: another daemon waits with its code loaded. Default true. */
  readonly standby?: boolean;
  readonly logLevel?: 'debug' | 'info' | 'warn' | 'error';
  readonly foreground?: boolean;
}

/** Why a service or a helper program did nothing. */
export interface Failure {
  readonly ok: false;
  readonly error: string;
  readonly code: string;
  readonly exitCode: 1 | 2 | 3;
}

export type StartResult =
  | {
      readonly ok: true;
      readonly run: RunRecord;
      readonly files: number;
      readonly directories: number;
    }
  | Failure;

/** What a program gets of files that are not wholly here: as src/native/options.ts has it. */
export type RequesterVerdict =
  | 'allow'
  | 'exact'
  | 'whole'
  | { readonly deny: 'EPERM' | 'EIO' | 'EBUSY' | 'EAGAIN' };

export interface RequesterRule {
  /** Glob over the base name of the executable, or over its whole path when it has a slash. */
  readonly executable: string;
  readonly verdict: RequesterVerdict;
}

/**
 * What `ebb attach` hands to src/supervisor/main.ts: one line of JSON on its standard input. The supervisor answers
 * on descriptor 3: any number of lines `{ "progress": AttachProgress }`, then one line `AttachStartResult` once users
 * can see the tree or once it has failed; then it closes the descriptor.
 */
export interface AttachOptions extends RemoteAccess {
  /** Absolute real path of a directory on xfs, btrfs or ext4. */
  readonly tree: string;
  /** As in `MountOptions`. Undefined: the one that the tree belongs to. */
  readonly remote?: string;
  /** Absolute; holds one directory per tree. Default: where the tree's state is, else /var/lib/ebb/trees. */
  readonly stateDirectory?: string;
  /** Release least recently used content above this many resident bytes. */
  readonly cacheSizeBytes?: number;
  /** Release when the tree's file system has less free than this. */
  readonly minFreeBytes?: number;
  /** Where the remote gives none. Default 0644 and 0755. */
  readonly fileMode?: number;
  readonly directoryMode?: number;
  /** Where the remote gives none. Default 0. */
  readonly uid?: number;
  readonly gid?: number;
  /** Default: src/native/policy.ts. */
  readonly wholeFileMaxBytes?: number;
  readonly executableWholeMaxBytes?: number;
  /** First match wins; they stand before the defaults. */
  readonly rules?: readonly RequesterRule[];
  /** The directory that is the remote may be another one than before. */
  readonly remoteMoved?: boolean;
  /** As in `MountOptions`. */
  readonly standby?: boolean;
  readonly logLevel?: 'debug' | 'info' | 'warn' | 'error';
  readonly foreground?: boolean;
}

/** How far the names of the remote were brought in. */
export interface AttachProgress {
  /** Directories that are done. */
  readonly directories: number;
  readonly stubs: number;
  /** Sum of the stubs' sizes. */
  readonly bytes: number;
  /** The directory done last. */
  readonly path: string;
}

/** Something of the remote that could not be brought in; the rest was. */
export interface AttachProblem {
  readonly path: string;
  readonly error: string;
}

export type AttachStartResult =
  | {
      readonly ok: true;
      readonly run: RunRecord;
      readonly supervisorPid: number;
      /** Of this attaching: names that were brought in now, not those of an earlier one. */
      readonly directories: number;
      readonly stubs: number;
      readonly symlinks: number;
      readonly remoteBytes: number;
      /** Files that were in the tree already under a name that the remote has, too: they stay what they are. */
      readonly kept: number;
      /** Names that the remote has and the file system cannot hold. */
      readonly skipped: number;
      /** Directories of the remote that could not be listed: the tree is attached without them (exit code 1). */
      readonly failed: number;
      /** The first hundred of `kept`, `skipped` and `failed`, a sentence each. */
      readonly problems: readonly AttachProblem[];
    }
  | Failure;
