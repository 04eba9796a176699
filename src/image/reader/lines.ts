/**
 * What is asked of the reader of images, and what it says: one JSON object a line. Names are strings in the form of
 * base/name.ts. All of it is made from untrusted bytes: who shows it to a person makes it harmless first.
 */
import type { ErrnoCode } from '../../base/errno.ts';
import type { FileType, SuperblockFacts, Timestamp } from '../../ext4/contract.ts';
import type { ReplayFacts, ReplayOptions } from '../../ext4/journal/replay.ts';
import type { Container, Selection } from '../container/open-image.ts';
import type { Partition, PartitionTable } from '../container/partition.ts';

export interface ImageRequest {
  readonly action: 'info' | 'check' | 'ls' | 'cat' | 'cp';
  readonly selection: Selection;
  readonly journal: NonNullable<ReplayOptions['journal']>;
  /** Inside the image, from its root. */
  readonly paths: readonly string[];
  /** `cp`: an absolute path of this machine. */
  readonly destination?: string;
  /** `ls`: with all below. */
  readonly recursive?: boolean;
  /** `cp`: replaces what is there. */
  readonly force?: boolean;
}

export interface ImageInfo {
  readonly sizeBytes: number;
  readonly container: Container;
  readonly diskSizeBytes: number;
  readonly table: PartitionTable | null;
  /** Where the file system is; null when that is not clear, see `problem`. */
  readonly place: {
    readonly offsetBytes: number;
    readonly sizeBytes: number;
    readonly partition: Partition['number'] | null;
  } | null;
  readonly filesystem:
    | (Omit<SuperblockFacts, 'features' | 'backup'> & {
        readonly features: readonly string[];
        readonly backup: NonNullable<SuperblockFacts['backup']> | null;
        readonly freeBlocks: number;
        readonly freeInodes: number;
        readonly replay: ReplayFacts;
      })
    | null;
  /** Why there is no file system to speak of. */
  readonly problem: string | null;
}

export interface ImageEntry {
  readonly path: string;
  readonly type: Exclude<FileType, 'unknown'>;
  readonly inode: number;
  readonly mode: number;
  readonly links: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  readonly mtime: Timestamp;
  /** Of a symlink. */
  readonly target?: string;
  readonly device?: { readonly major: number; readonly minor: number };
}

export interface ImageError {
  /** '' when it is about the image as a whole. */
  readonly path: string;
  readonly code: ErrnoCode;
  readonly message: string;
  /** Not done on purpose: it would not be safe. */
  readonly refused: boolean;
}

export interface ImageProgress {
  readonly path: string;
  readonly files: number;
  readonly bytes: number;
}

/** What `check` or `cp` did; the last line. */
export interface ImageDone {
  readonly exitCode: 0 | 1 | 2 | 3;
  readonly files: number;
  readonly directories: number;
  readonly bytes: number;
  /** `cp`: attributes that could not be set where they went to. */
  readonly attributesLost: number;
}

export type ImageLine =
  | { readonly info: ImageInfo }
  | { readonly entry: ImageEntry }
  | { readonly error: ImageError }
  | { readonly progress: ImageProgress }
  | { readonly done: ImageDone };

/** Where the reader says things. Synchronous: it may block until somebody listens. */
export interface ReaderOutput {
  line(line: ImageLine): void;
  /** Content, for `cat`. */
  data(bytes: Uint8Array): void;
}
