/**
 * What the helper programs print that some verbs run (src/cli/helper.ts): like api.ts, all that the CLI knows of them.
 */
import type { ImageRequest } from '../image/reader/lines.ts';
import type { Failure, RemoteAccess } from './start-api.ts';

export type {
  ImageDone,
  ImageEntry,
  ImageError,
  ImageInfo,
  ImageLine,
  ImageProgress,
  ImageRequest,
} from '../image/reader/lines.ts';

/** What `src/daemon/attach-check.ts` prints: whether a directory can be attached. Nothing was changed. */
export type AttachCheck =
  | {
      readonly ok: true;
      /** `xfs`, `btrfs` or `ext4`. */
      readonly fileSystem: string;
      /** It was attached before; undefined: it was not. */
      readonly remote: string | undefined;
    }
  | Failure;

/** What `ebb pool` asks of `src/daemon/pool.ts`. Paths are absolute. */
export type PoolRequest =
  | { readonly action: 'status' | 'umount'; readonly imagePath: string }
  | {
      readonly action: 'create';
      readonly imagePath: string;
      readonly sizeBytes: number;
      /** Even when so much is not free around it. */
      readonly overcommit: boolean;
      readonly mountPoint?: string;
    }
  | { readonly action: 'mount'; readonly imagePath: string; readonly mountPoint: string }
  | {
      readonly action: 'grow';
      readonly imagePath: string;
      readonly sizeBytes: number;
      readonly overcommit: boolean;
    }
  | { readonly action: 'destroy'; readonly imagePath: string; readonly force: boolean };

export type PoolResult =
  | {
      readonly ok: true;
      /** As it is now; null: destroyed. */
      readonly pool: {
        readonly imagePath: string;
        readonly sizeBytes: number;
        /** What it takes of the file system around it. */
        readonly allocatedBytes: number;
        readonly device: string | null;
        readonly mountPoint: string | null;
      } | null;
    }
  | Failure;

/** One finding of `ebb doctor`. */
export interface DoctorCheck {
  readonly name: string;
  readonly outcome: 'ok' | 'warn' | 'fail';
  /** What was found, in a few words. */
  readonly found: string;
  /** What the missing thing costs and what to do about it; absent when ok. */
  readonly advice?: string;
}

/** What `src/daemon/doctor.ts` prints. */
export interface DoctorReport {
  /** False when a mount cannot work here at all (some check is `fail`). */
  readonly canMount: boolean;
  readonly checks: readonly DoctorCheck[];
}

/** What `src/daemon/rebuild.ts` prints. */
export type RebuildResult =
  | {
      readonly ok: true;
      readonly files: number;
      readonly residentBytes: number;
      readonly skipped: number;
    }
  | Failure;

/** What `ebb image` writes to the standard input of `src/daemon/image/main.ts`, which answers with `ImageLine`s. */
export interface ImageHelperRequest {
  /** An absolute path, or an http or https URL. */
  readonly source: string;
  readonly access: RemoteAccess;
  readonly request: ImageRequest;
}
