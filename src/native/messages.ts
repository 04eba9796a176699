/**
 * What the event thread and the daemon's main thread say to each other. The thread answers by itself what needs
 * neither the remote nor the tree; all else is a question, which main answers straight to the kernel.
 */
import type { JournalPlace } from './change-journal.ts';
import type { SeenAsker } from './opener.ts';

/**
 * Descriptors of the three fanotify groups (docs/native.md), non-blocking, and of their journal. Whoever made them
 * closes them.
 */
export interface NativeGroups {
  /** PRE_CONTENT class: FAN_PRE_ACCESS. */
  readonly access: number;
  /** PRE_CONTENT class: FAN_OPEN_PERM. */
  readonly open: number;
  /** NOTIF class, FAN_REPORT_FID: FAN_MODIFY, FAN_CLOSE_WRITE, FAN_DELETE_SELF. */
  readonly changes: number;
  /** What was read of `changes` and is not recorded (change-journal.ts). */
  readonly changeJournal: number;
}

/** An event that the kernel holds somebody for. Its descriptor is main's from now on: answer, then close. */
export interface Question {
  readonly kind: 'question';
  readonly group: 'access' | 'open';
  /** Of the event; also what the answer names. */
  readonly descriptor: number;
  /** `encodeHandle` of the file. */
  readonly handle: Uint8Array;
  /** False: it has a record and no mark of the tree. */
  readonly isMarked: boolean;
  readonly tid: number;
  /** Access only: what is about to be used, in pages; not clamped to the file. Undefined: not told. */
  readonly range: { readonly offsetBytes: number; readonly countBytes: number } | undefined;
  /** Access only: who asks, where the thread knows that (opener.ts). */
  readonly seen: SeenAsker | undefined;
}

/** What users did to a file, as far as anybody needs to know. */
export interface Changed {
  readonly kind: 'changed';
  /** `encodeHandle` of the file. */
  readonly handle: Uint8Array;
  readonly modified: boolean;
  readonly closedForWriting: boolean;
  readonly deleted: boolean;
  /** Of its event, in the journal; undefined: it is not there. */
  readonly atBytes: number | undefined;
}

/** All changes that were read together have been told: once they are recorded they are struck out of the journal. */
export interface ChangesTold {
  readonly kind: 'changesTold';
  readonly place: JournalPlace;
}

export type ToMain =
  /** Something comes: that main wakes up takes longer than it takes to find out what. */
  | { readonly kind: 'awake' }
  | Question
  | Changed
  | ChangesTold
  /** Events of the change group were lost. */
  | { readonly kind: 'overflow' }
  /** All changes that were queued when `sync` was taken in have been sent. */
  | { readonly kind: 'synced'; readonly id: number }
  /** A reader was served from what is here: read-ahead may go on. */
  | {
      readonly kind: 'consumed';
      readonly fileId: number;
      readonly tid: number;
      readonly offsetBytes: number;
      readonly countBytes: number;
    }
  /** All chunks are here, and the shared state says neither `settled` nor `settling`. */
  | { readonly kind: 'complete'; readonly fileId: number }
  /** A known file was opened; at most once a minute. ms since 1970. */
  | {
      readonly kind: 'touched';
      readonly fileId: number;
      readonly tid: number;
      readonly atMs: number;
    }
  /** Somebody is opening a file that comes by ranges, and will probably read one at once. */
  | { readonly kind: 'opening'; readonly fileId: number }
  /** Something that should not happen did; the event was denied. */
  | { readonly kind: 'problem'; readonly message: string };

/** The shared word of a known file, written by main only. */
export const KnownState = {
  /** Main has forgotten the file: ask. */
  dead: 0,
  /** Ranges whose chunks are set may be used. */
  ranges: 1,
  /** Everything may be used: complete and durable, or the user's own. Ignore marks may be set. */
  settled: 2,
  /** As `ranges`; main knows that all chunks are here, and it will be `settled` when that is durable. */
  settling: 3,
} as const;
export type KnownState = (typeof KnownState)[keyof typeof KnownState];

export type ToThread =
  | {
      readonly kind: 'know';
      readonly fileId: number;
      readonly handle: Uint8Array;
      /** tree/residency.ts. */
      readonly residency: SharedArrayBuffer;
      /** One 32-bit word: `KnownState`. */
      readonly state: SharedArrayBuffer;
      /** Main has counted a use of it (ms since 1970); -Infinity: nobody has used it yet. */
      readonly touchedAtMs: number;
    }
  | { readonly kind: 'forget'; readonly handle: Uint8Array }
  /** An ordinary mount, no layer of another one (layers.ts): `uniqueMountId`. */
  | { readonly kind: 'mount'; readonly uniqueId: bigint }
  /** Send all changes that are queued now, then `synced`. */
  | { readonly kind: 'sync'; readonly id: number }
  /** From now on leave permission events where they are: their requesters wait. False: read them again. */
  | { readonly kind: 'hold'; readonly isHeld: boolean }
  /** Ask nothing any more: deny (EIO) instead. Main is stopping. */
  | { readonly kind: 'refuse' };

/** What the thread needs to know at its start (structured-cloneable). */
export interface ThreadSettings {
  readonly groups: NativeGroups;
  /** See shared-words.ts. */
  readonly pending: SharedArrayBuffer;
}
