/** What the native front end is told: policy at open and verdicts for requesters. Defaults: policy.ts. */

/** What a requester gets of files that are not wholly here. */
export type NativeVerdict =
  /** Ranges with read-ahead; the policy at open applies. */
  | 'allow'
  /** Exactly the chunks asked for; no read-ahead, no whole files. */
  | 'exact'
  /** The whole file at open. */
  | 'whole'
  /** Nothing: the call fails. */
  | { readonly deny: 'EPERM' | 'EIO' | 'EBUSY' | 'EAGAIN' };

export interface VerdictRule {
  /** Glob over the base name of the executable, or over its whole path when it has a slash. */
  readonly executable: string;
  readonly verdict: NativeVerdict;
}

export interface NativePolicy {
  /** Files up to this size come whole at open. */
  readonly wholeFileMaxBytes: number;
  /** Files with an x bit up to this size come whole at open, and all others when a part of them is mapped. */
  readonly executableWholeMaxBytes: number;
  /** Base names of programs that look for holes: on trees without poison they get whole files at open. */
  readonly holeProbers: readonly string[];
  /** First match wins; the user's rules stand before the defaults. */
  readonly verdicts: readonly VerdictRule[];
  /** A question that is not answered by then is answered EIO. 1 .. */
  readonly deadlineMs: number;
}
