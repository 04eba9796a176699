/**
 * What supervisor and daemon say to each other, over the IPC channel that Node gives a child process. When one of
 * them is gone, the other one's channel closes: that is how a daemon learns that nobody would start it again.
 *
 * The supervisor knows nothing of remotes and catalogs: what it does not need itself is passed through.
 */

/** Changes of this file that an older supervisor would not understand get a new number. */
export const protocolVersion = 3;

/**
 * Descriptor numbers in the daemon. Standard input, output and error come first; the fourth is the channel.
 * All are shared with the supervisor: a group lives until both have closed it.
 */
export const Inherited = {
  channel: 3,
  /** FAN_PRE_ACCESS. */
  accessGroup: 4,
  /** FAN_OPEN_PERM. */
  openGroup: 5,
  /** FAN_REPORT_FID: changes. */
  changeGroup: 6,
  /** The private mount (O_PATH), whose root is TREE/.ebb. */
  privateMount: 7,
  /** Holds the tree's lock (flock) as long as either process lives. */
  lock: 8,
  /** Hangs up when nobody will start another supervisor (pledge.ts). */
  pledge: 9,
  /** That this process may read the groups (tenure.ts): held until it is dead. */
  tenure: 10,
  /** What was read of the change group and is not recorded (native/change-journal.ts). */
  changeJournal: 11,
} as const;

/** JSON that is passed on as it is. */
export type Opaque = Readonly<Record<string, unknown>>;

export type ToDaemon =
  | {
      readonly kind: 'start';
      readonly protocol: typeof protocolVersion;
      /** What `ebb attach` sent. */
      readonly options: Opaque;
      /** What the preparing process said. */
      readonly prepared: Opaque;
      readonly supervisorPid: number;
      /** Of the supervisor. */
      readonly startedAtMs: number;
      /** Daemons that died before this one. 0: nobody sees the tree yet. */
      readonly restarts: number;
      /** Where to listen for commands. */
      readonly socketPath: string;
      /** It understands `successor` and `replace`. Absent in what older supervisors say. */
      readonly canReplace?: boolean;
      /** There is a change journal among what is inherited. Absent in what older supervisors say. */
      readonly hasChangeJournal?: boolean;
    }
  /** The answer to `successor`: whether there is one. */
  | { readonly kind: 'successor'; readonly isReady: boolean }
  | { readonly kind: 'stopResult'; readonly id: number; readonly result: HideResult }
  /** Nobody can find the tree any more: deny what waits, close everything, exit with 0. */
  | { readonly kind: 'end' };

export type ToSupervisor =
  /** Everything is loaded: `start` would be obeyed at once. */
  | { readonly kind: 'warm' }
  | { readonly kind: 'progress'; readonly progress: Opaque }
  /** It answers events: the tree may be shown. `facts` go to `ebb attach`. */
  | {
      readonly kind: 'ready';
      /** Without credentials. */
      readonly remote: string;
      readonly stateDirectory: string;
      readonly facts: Opaque;
    }
  | {
      readonly kind: 'failed';
      readonly error: string;
      readonly code: string;
      readonly exitCode: 1 | 2 | 3;
    }
  /** It still does its work; every `aliveEveryMs` (watchdog.ts). */
  | { readonly kind: 'alive' }
  /** Somebody wants another daemon in the place of this one: start it, and say when it has loaded everything. */
  | { readonly kind: 'successor' }
  /** Nobody waits for an answer of this daemon, and it takes no more events: its successor may follow. */
  | { readonly kind: 'replace' }
  /** Somebody wants the tree to be taken away. Once it is, the daemon ends by itself. */
  | {
      readonly kind: 'stop';
      readonly id: number;
      readonly lazy: boolean;
      /** It is killed when it has not ended by then; undefined: it has work to do that takes its time. */
      readonly endMaxMs: number | undefined;
    };

export interface Holder {
  readonly pid: number;
  readonly command: string;
  readonly what: string;
}

export type HideResult =
  | { readonly stopped: true; readonly holders: readonly [] }
  /** Nothing was changed. */
  | { readonly stopped: false; readonly holders: readonly Holder[] };
