/** What the recall engine is given: its collaborators, hooks and limits. */
import type { Clock } from '../base/clock.ts';
import type { EbbError } from '../base/errors.ts';
import type { Remote } from '../remote/remote.ts';
import type { ContentFile } from '../tree/content.ts';
import type { RecallLimits } from './limits.ts';
import type { EnsureOptions, FlightView, Reserve } from './recall.ts';

/** What may be done for a request: everything, only the chunks asked for, or nothing (the error says why). */
export type Verdict = 'allow' | 'exact' | EbbError;

export interface RecallEvent {
  readonly kind: 'started' | 'finished' | 'failed' | 'cancelled';
  readonly flight: FlightView;
  /** Since the request was started at the remote; 0 for flights that never were. */
  readonly durationMs: number;
  /** Set for `failed`. */
  readonly error: EbbError | undefined;
}

export interface RecallEngineOptions {
  readonly remote: Remote;
  readonly clock?: Clock;
  readonly limits?: Partial<RecallLimits>;
  /**
   * Asks the release policy for space before a flight starts, and again when a write found the disk full.
   * Throws or rejects as `Reserve` says.
   */
  readonly reserve?: Reserve;
  /** Asked once per `ensure` that needs content. Default: allow. */
  readonly verdict?: (
    file: ContentFile,
    offsetBytes: number,
    lengthBytes: number,
    options: EnsureOptions,
  ) => Verdict;
  /** For the log. Must not throw. */
  readonly onEvent?: (event: RecallEvent) => void;
  /** The remote said that this version is gone (ESTALE) or the object is (ENOENT): look at it again. */
  readonly onStale?: (file: ContentFile, error: EbbError) => void;
  /** Retries made by the wrapper of the remote, to be counted in `totals`. */
  readonly remoteRetries?: () => number;
}
