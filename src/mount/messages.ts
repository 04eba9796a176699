/**
 * What the FUSE thread and the daemon's main thread say to each other. The FUSE thread answers from the catalog
 * and from resident content by itself; everything that needs the remote, the catalog's writer or the tree is a
 * `ToMain`. Main answers READs, and LOOKUPs that waited for a listing, straight to the kernel and everything else with
 * a `ToThread`.
 */
import type { Requester } from '../recall/recall.ts';

/** Requests that are answered by `{ kind: 'answer', id }`. */
export type Question =
  /** Bring the listing of a directory into the catalog. */
  | {
      readonly kind: 'list';
      readonly directoryId: number;
      /** What is looked for there. */
      readonly name?: Uint8Array;
      /** Main may answer the LOOKUP itself (`answered`); the `resent` of its call. */
      readonly resent?: boolean;
    }
  /** Make a file's facts exact; `withContent`: who asks will read it next, so one GET may bring both. */
  | { readonly kind: 'resolve'; readonly nodeId: number; readonly withContent?: true }
  /** Ask whether the file is still the version we know (errno ESTALE: look the name up again). */
  | { readonly kind: 'revalidate'; readonly nodeId: number }
  /** Make a file ready to be opened. */
  | { readonly kind: 'open'; readonly nodeId: number };

export interface Opened {
  /** Residency of the content (tree/residency.ts), shared memory. */
  readonly residency: SharedArrayBuffer;
  /** A descriptor of the local file, open for reading, now owned by the FUSE thread. */
  readonly descriptor: number;
}

/** A question on behalf of the kernel's request `unique`. */
export type Asked = Question & {
  readonly id: number;
  readonly unique: number;
  readonly requester: Requester;
  /** The kernel has interrupted the request already, while it waited for another answer. */
  readonly isInterrupted?: true;
};

export type ToMain =
  | Asked
  /** A signal came for the requester of question `id`: it may not want to wait any more. */
  | { readonly kind: 'interrupted'; readonly id: number }
  | {
      /** A READ of bytes that are not all here: main recalls and answers the kernel itself. */
      readonly kind: 'read';
      readonly unique: number;
      readonly resent: boolean;
      readonly nodeId: number;
      readonly streamId: number;
      readonly offsetBytes: number;
      readonly sizeBytes: number;
      readonly requester: Requester;
    }
  | { readonly kind: 'interruptRead'; readonly unique: number }
  /** A file that a former daemon opened is read: its content is wanted, as an `offer`. */
  | { readonly kind: 'missing'; readonly nodeId: number }
  /** A sequential reader was served from what is here: read-ahead may go on. */
  | {
      readonly kind: 'consumed';
      readonly nodeId: number;
      readonly streamId: number;
      readonly offsetBytes: number;
      readonly sizeBytes: number;
      readonly requester: Requester;
    }
  | { readonly kind: 'endStream'; readonly streamId: number }
  /** Contents whose last open was closed, with when (ms since 1970). */
  | { readonly kind: 'accessed'; readonly accesses: readonly (readonly [number, number])[] }
  /** A tree walker was seen: these are likely next. */
  | {
      readonly kind: 'prefetch';
      readonly directoryIds: readonly number[];
      /** Files whose exact facts are wanted. */
      readonly factIds: readonly number[];
      /** Small files whose content is wanted. */
      readonly contentIds: readonly number[];
      readonly requester: Requester;
    }
  /** The thread has taken in what came before `ping`. */
  | { readonly kind: 'pong' }
  /** The thread no longer has what one `opened` gave it. */
  | { readonly kind: 'dropped'; readonly nodeId: number }
  | { readonly kind: 'quiesced'; readonly nodeId: number; readonly openCount: number };

export type ToThread =
  | { readonly kind: 'answer'; readonly id: number; readonly errno: 0; readonly opened?: Opened }
  /** errno > 0 */
  | { readonly kind: 'answer'; readonly id: number; readonly errno: number }
  /** Main has answered the kernel's request of question `id`. */
  | { readonly kind: 'answered'; readonly id: number }
  /** A content that may be opened soon. */
  | { readonly kind: 'offer'; readonly nodeId: number; readonly opened: Opened }
  /** Facts of a node changed: forget what is remembered of it. */
  | { readonly kind: 'factsChanged'; readonly nodeId: number }
  /** A directory was listed again; with `namesChanged` its names are not what they were. */
  | {
      readonly kind: 'directoryChanged';
      readonly directoryId: number;
      readonly namesChanged: boolean;
    }
  /** Let go of a content (it is to be released); answered by `quiesced`. Opens wait until `resume`. */
  | { readonly kind: 'quiesce'; readonly nodeId: number }
  | { readonly kind: 'resume'; readonly nodeId: number }
  /** Report accesses collected so far. */
  | { readonly kind: 'reportAccesses' }
  /** Answered by `pong`. */
  | { readonly kind: 'ping' };

/** What the FUSE thread needs to know at its start (structured-cloneable). */
export interface ThreadSettings {
  readonly catalogPath: string;
  readonly cacheDirectory: string;
  readonly ttlMs: number;
  readonly fileMode: number;
  readonly directoryMode: number;
  readonly uid: number;
  readonly gid: number;
  readonly passthrough: boolean;
  /** Descriptor of the file of handle-table.ts; undefined: open files end with this daemon. */
  readonly handleTable: number | undefined;
  /** The same of scan-log.ts. */
  readonly scanLog: number | undefined;
  /** The same of request-journal.ts. */
  readonly requestJournal: number | undefined;
  /** The daemon before this one did not die of somebody's SIGKILL. */
  readonly predecessorFailed: boolean;
  /** Daemons that served this connection before. Above 0 there is one to be taken over. */
  readonly predecessors: number;
  readonly startedAtSeconds: number;
  /** One 32-bit word, written by the thread: how many files programs have open. */
  readonly openCount: SharedArrayBuffer;
  /** One 32-bit word, written by the thread: file handles of the kernel that were refused. */
  readonly staleHandles: SharedArrayBuffer;
  /** See `Generations`. */
  readonly generationKey: Uint8Array;
}
