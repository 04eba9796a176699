/**
 * What a mount's supervisor and its daemons say to each other, over the IPC channel that Node gives a child process.
 * When one of them is gone, the other one's channel closes.
 */
import type { Opaque } from './messages.ts';

/** Changes of this file, or of what is inherited, that the other side would not understand get a new number. */
export const mountProtocolVersion = 1;

/** Descriptor numbers in the daemon. Standard input, output and error come first; the fourth is the channel. */
export const MountInherited = {
  channel: 3,
  /** The file of src/mount/handle-table.ts: what the kernel has open. */
  handles: 4,
  /** The file of src/mount/scan-log.ts: which names programs were given that read a directory. */
  scans: 5,
  /** First daemon: a socket, through which it sends /dev/fuse. Successors: /dev/fuse itself. */
  link: 6,
  /** The file of src/mount/request-journal.ts: which requests daemons died of. Only if `start` says so. */
  requests: 7,
} as const;

/** A mount that a daemon has made, as its successors find it. INIT is not said twice: what it agreed on is here. */
export interface Established {
  readonly mountPoint: string;
  readonly isPrivileged: boolean;
  readonly kernelMinor: number;
  /** Decimal: 64 bits. */
  readonly flags: string;
  readonly maxWriteBytes: number;
  readonly maxReadaheadBytes: number;
  /** Which directory the remote is (`onRoot` of src/remote/dir/dir-remote.ts); absent: none. */
  readonly remoteRoot?: string | undefined;
}

export type ToMountDaemon =
  | {
      readonly kind: 'start';
      readonly protocol: typeof mountProtocolVersion;
      /** What `ebb mount` sent. */
      readonly line: string;
      readonly supervisorPid: number;
      /** Of the supervisor. */
      readonly startedAtMs: number;
      /** Daemons before this one. */
      readonly restarts: number;
      /** Absent in what older supervisors say. */
      readonly hasRequestJournal?: boolean;
      /** The last daemon that took requests did not die of somebody's SIGKILL. */
      readonly predecessorFailed?: boolean;
      /** Undefined: mount it. */
      readonly established?: Established;
    }
  /** Somebody wants the mount to be taken away, now, whoever uses it. */
  | { readonly kind: 'stop' };

export type ToMountSupervisor =
  /** Everything is loaded: `start` would be obeyed at once. */
  | { readonly kind: 'warm' }
  /** INIT was answered, and /dev/fuse is in the socket. */
  | { readonly kind: 'mounted'; readonly established: Established }
  /** All is opened, and the kernel's requests are taken from now on. */
  | { readonly kind: 'takingOver' }
  /** It answers the kernel. `facts` go to `ebb mount`. */
  | { readonly kind: 'ready'; readonly facts: Opaque }
  | {
      readonly kind: 'failed';
      readonly error: string;
      readonly code: string;
      readonly exitCode: 1 | 2 | 3;
    }
  /** It still does its work; every `aliveEveryMs` (watchdog.ts). */
  | { readonly kind: 'alive' }
  /** Somebody wants another daemon in the place of this one. What it had to write down is written. */
  | { readonly kind: 'restart' };
