/**
 * The conformance suite of the Remote contract (src/remote/remote.ts). Every remote and every
 * wrapper runs it; a fixture says what its origin can do. Parts: remote-listing.ts,
 * remote-reading.ts, remote-concurrency.ts.
 */
import { describe } from 'node:test';
import type { Remote, Timestamp } from '../../src/remote/remote.ts';
import { concurrencyConformance } from './remote-concurrency.ts';
import { listingConformance } from './remote-listing.ts';
import { readingConformance } from './remote-reading.ts';

export interface PutOptions {
  readonly mode?: number;
  readonly mtime?: Timestamp;
}

export interface RemoteFeatures {
  /** `mode` is exact. */
  readonly modes: boolean;
  /** Symlinks are objects (and not followed). */
  readonly symlinks: boolean;
  /** `stat` gives mtime to the nanosecond; false: to the second. */
  readonly nanosecondMtime: boolean;
  /** Listings tell exact size and version; false: only `stat` does. */
  readonly exactListings: boolean;
  readonly emptyDirectories: boolean;
  /** Names that start with a dot are listed. */
  readonly dotFiles: boolean;
  /** Names that are not UTF-8 can be listed and read. */
  readonly arbitraryNames: boolean;
  /** A file of 5 GiB can be made at the origin quickly (`putSparse`). */
  readonly hugeFiles: boolean;
  /**
   * Every replaced file shows another version at once, even with equal size within the same second.
   */
  readonly exactVersions: boolean;
}

export const allFeatures: RemoteFeatures = {
  modes: true,
  symlinks: true,
  nanosecondMtime: true,
  exactListings: true,
  emptyDirectories: true,
  dotFiles: true,
  arbitraryNames: true,
  hugeFiles: true,
  exactVersions: true,
};

/** An origin that tests can change, and the remote that shows it. */
export interface RemoteFixture extends AsyncDisposable {
  readonly remote: Remote;
  readonly features: RemoteFeatures;
  /** Creates or replaces a file (atomically: as a new file); makes the directories above it. */
  put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<void>;
  putDirectory(key: string): Promise<void>;
  /** Needed with `features.symlinks`. */
  putSymlink?(key: string, target: string): Promise<void>;
  /** Needed with `features.hugeFiles`: zeros, except `tail` as the last bytes. */
  putSparse?(key: string, sizeBytes: number, tail: Uint8Array): Promise<void>;
  /** Where the origin has hard links: a further name of the file `target`. */
  putLink?(key: string, target: string): Promise<void>;
  remove(key: string): Promise<void>;
}

export interface ConformanceOptions {
  /** Of the whole suite's large cases: bytes of the big file; at least 5 MiB. Default 9 MiB + 3. */
  readonly bigFileBytes?: number;
  /** Entries of the large directory. Default 3,000. */
  readonly manyEntries?: number;
  /** Random ranges tried. Default 60. */
  readonly randomRanges?: number;
}

export type MakeFixture = () => Promise<RemoteFixture>;

/**
 * Declares the suite's tests for one implementation. `makeFixture` is called once per part, for an
 * empty origin.
 */
export function remoteConformance(
  name: string,
  makeFixture: MakeFixture,
  options: ConformanceOptions = {},
): void {
  void describe(`remote conformance: ${name}`, { timeout: 120_000 }, () => {
    listingConformance(makeFixture, options);
    readingConformance(makeFixture, options);
    concurrencyConformance(makeFixture, options);
  });
}
