/** The contract of the recall engine towards front ends and the control API. Implementation: engine.ts. */
import type { ContentFile } from '../tree/content.ts';

/** Who caused a recall. */
export interface Requester {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** In order of priority. */
export type Intent = 'demand' | 'readahead' | 'get' | 'prefetch';

/** What else needs room while somebody asks for it. */
export interface Traffic {
  /**
   * `otherBytes`: of recalls that were given room, not written yet. `writtenBytes`: by all recalls since the start.
   */
  readonly now?: () => { readonly otherBytes: number; readonly writtenBytes: number };
  /** A write was refused for lack of room. */
  readonly isRefused?: boolean;
}

/**
 * Makes sure that so many bytes fit into the tree. Throws or rejects with ENOSPC, EDQUOT; and with EAGAIN when there
 * is no room for `readahead` or `prefetch`: it must not take the last that somebody may ask for, and a guess must not
 * drive out what was used.
 */
export type Reserve = (bytes: number, intent: Intent, traffic?: Traffic) => void | Promise<void>;

export interface EnsureOptions {
  readonly intent: Intent;
  readonly requester: Requester;
  /** Fires when the requester gave up (FUSE INTERRUPT) or the daemon stops: the waiter rejects with EINTR. */
  readonly signal?: AbortSignal;
  /** Overrides the engine's default deadline. 0 < deadlineMs. */
  readonly deadlineMs?: number;
  /**
   * Identifies the reading stream (an open file), so that sequential readers get read-ahead and random readers
   * exactly their chunks. Absent: no read-ahead.
   */
  readonly streamId?: number;
  /**
   * Present: the promise may also resolve, after this was called, when the bytes of the range are in the file (checked,
   * and of the version) but their chunk is not resident yet. They stay there as long as somebody has the file open and
   * its content is not changed; nothing is claimed.
   */
  readonly onBytes?: () => void;
  /** Only the chunks of the range: no small files as a whole, no read-ahead. */
  readonly exact?: boolean;
}

export interface FlightView {
  readonly contentId: number;
  readonly key: string;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly doneBytes: number;
  readonly intent: Intent;
  readonly requester: Requester;
  readonly startedAtMs: number;
}

export interface RecallTotals {
  readonly requests: number;
  readonly recalledBytes: number;
  readonly failures: number;
  readonly retries: number;
  readonly waiting: number;
  readonly inFlight: number;
}

export interface Recall {
  /**
   * Resolves when every byte of `[offsetBytes, offsetBytes + lengthBytes)`, clamped to the file, is resident.
   * Concurrent calls share flights: a chunk is fetched once. Waiters resolve as soon as *their* chunks are
   * written. Rejects with EbbError: EINTR (signal), EIO (deadline, remote failed), ESTALE (the remote holds
   * another version), ENOENT, EACCES, ENOSPC, EDQUOT.
   */
  ensure(
    file: ContentFile,
    offsetBytes: number,
    lengthBytes: number,
    options: EnsureOptions,
  ): Promise<void>;
  /**
   * Brings bytes of one chunk at once, where the remote has them ready and nothing of the file is being recalled. True:
   * they are in the file, as `onBytes` says it, and `ensure` is to bring their chunk. False: `ensure` has to bring
   * them. A promise, which never rejects: to be asked again when it has settled. Throws what `ensure` would reject
   * with.
   */
  front(file: ContentFile, offsetBytes: number, lengthBytes: number): boolean | Promise<void>;
  /** Forgets a reading stream (the file was closed): its read-ahead stops. */
  endStream(streamId: number): void;
  /** Cancels everything for a content (its version is gone, or it is being released). Resolves when idle. */
  cancel(contentId: number): Promise<void>;
  /** True while any flight or waiter exists for the content. */
  isBusy(contentId: number): boolean;
  flights(): FlightView[];
  totals(): RecallTotals;
  close(): Promise<void>;
}
