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
  /** It answers the kernel. `facts` go to `ebb mount`. */
  | { readonly kind: 'ready'; readonly facts: Opaque }
  | {
      readonly kind: 'failed';
      readonly error: string;
      readonly code: string;
      readonly exitCode: 1 | 2 | 3;
    }
  /** Somebody wants another daemon in the place of this one. What it had to write down is written. */
  | { readonly kind: 'restart' };
