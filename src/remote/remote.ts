/**
 * The contract every remote fulfils. A remote is where content also lives: an HTTP directory, another
 * directory, later S3, SFTP, WebDAV. One conformance suite (test/conformance/remote.ts) runs over all.
 *
 * Rules that hold for every implementation and wrapper:
 * - Keys are relative paths of names joined with `/`, without leading or trailing slash; the root is `''`.
 *   Names are strings in the lossless form of `base/name.ts` (valid UTF-8 as itself, other bytes as lone
 *   surrogates U+DC80..U+DCFF, as Python's surrogateescape does).
 * - Failures are thrown as `EbbError` (base/errors.ts): an errno chosen on purpose, a sentence, the cause,
 *   and whether a retry may help. ENOENT: the remote says that the object is not there. ESTALE: the remote
 *   holds another version than the one asked for. EACCES: 401/403. EIO: everything it cannot vouch for
 *   (short body, wrong Content-Range, HTML where a file was promised).
 * - Nothing is retried inside a remote; that is the wrapper's job (`remote/retry.ts`).
 * - Every method takes an AbortSignal and returns soon after it fired (rejecting with its reason).
 * - All methods may be called concurrently.
 */

export type ObjectKind = 'file' | 'directory' | 'symlink' | 'other';

/** Points in time are split because a Number cannot hold nanoseconds since 1970 exactly. */
export interface Timestamp {
  readonly seconds: number;
  /** 0 .. 999,999,999 */
  readonly nanoseconds: number;
}

/** What is known of an object. Absent means unknown, never a guess. */
export interface ObjectAttributes {
  readonly kind: ObjectKind;
  /** Exact size. Absent where the remote does not tell (chunked answers, listings that round). */
  readonly sizeBytes?: number;
  /** Exact modification time as far as the remote keeps it (HTTP: whole seconds). Absent if only rounded. */
  readonly mtime?: Timestamp;
  /** Modification time as the listing showed it, when it is known to be rounded (nginx: to the minute). */
  readonly roundedMtime?: Timestamp;
  /**
   * The version of the content, in a canonical form that this remote chose; equal strings mean equal bytes,
   * as far as the remote can tell. Absent in listings that do not show enough (then `stat` does).
   */
  readonly version?: string;
  /** Permission bits 0o0000..0o7777, where the remote has them. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Symlink target, raw, for kind `symlink`. */
  readonly target?: string;
  /**
   * Of a file with several names: equal for all of them, in this remote and while the version stays. Absent where there
   * is one name, or where the remote cannot tell.
   */
  readonly link?: string;
  /** Extended attributes of the `user.` namespace, where the remote has them. */
  readonly xattrs?: ReadonlyMap<string, Uint8Array>;
}

export interface ListedObject extends ObjectAttributes {
  /** One path component: not empty, not `.` or `..`, without `/` and NUL, at most 255 bytes. */
  readonly name: string;
}

/** A name that the listing showed but that no Linux directory can hold, or that could not be understood. */
export interface SkippedName {
  readonly raw: string;
  readonly why: string;
}

export interface ListingBatch {
  readonly objects: readonly ListedObject[];
  readonly skipped: readonly SkippedName[];
}

export interface CallOptions {
  readonly signal: AbortSignal;
}

/** Where the bytes of one `read` go. The remote fills memory that the receiver owns: no copy in between. */
export interface RangeSink {
  /**
   * Called once, before the first byte, with what the answer's own headers say (exact size, version, mtime).
   * May throw to refuse the content (the remote then stops and rejects with that error).
   */
  head(attributes: ObjectAttributes): void;
  /** Memory for the next bytes; never empty. Valid until the matching `filled`. */
  buffer(): Uint8Array;
  /** The first `countBytes` (> 0) of the last `buffer()` now hold content. A promise means: wait (backpressure). */
  filled(countBytes: number): void | Promise<void>;
}

export interface ReadOptions extends CallOptions {
  /** First byte. 0 <= offsetBytes. */
  readonly offsetBytes: number;
  /** Number of bytes; `undefined` means to the end (the only choice where the size is unknown). */
  readonly lengthBytes: number | undefined;
  /**
   * Only bytes of this version may be delivered: another version is ESTALE before any byte reached the sink.
   * `undefined`: whatever is current; `sink.head` learns which version it was.
   */
  readonly version: string | undefined;
}

/** What `Remote.readReady` is asked for. */
export type ReadyRange = [key: string, version: string, into: Uint8Array, offsetBytes: number];

export interface Remote {
  /** `http`, `dir`, `memory`: for messages. */
  readonly kind: string;
  /** For messages; never contains credentials. */
  readonly displayName: string;
  /**
   * False while it is known that the remote ignores ranges (HTTP 200 to ranged requests for several objects): only
   * whole reads are possible then. Starts true; may change (per remote, on evidence) at any time. A single object of
   * which the remote gives no ranges is EOPNOTSUPP of `read`.
   */
  readonly supportsRanges: boolean;
  /**
   * Lists one directory. The iteration ends normally only when the listing is complete; a listing that broke
   * off throws, so that absence is never inferred from it. ENOTDIR when it is no directory or the answer is
   * not a listing.
   */
  list(key: string, options: CallOptions): AsyncIterable<ListingBatch>;
  /** Exact attributes of one object (HTTP: HEAD, or a one-byte GET where HEAD is refused). */
  stat(key: string, options: CallOptions): Promise<ObjectAttributes>;
  /**
   * Delivers exactly `[offsetBytes, offsetBytes + lengthBytes)` of one version, in order, and resolves after
   * the last `filled` was awaited. Rejects with EIO (retryable) when the answer is shorter, longer, shifted or
   * otherwise not what was asked; bytes already passed to `filled` were at the right place of the right version.
   * Where ranges are not supported, a read from 0 without length works; others reject with EOPNOTSUPP.
   */
  read(key: string, sink: RangeSink, options: ReadOptions): Promise<void>;
  /**
   * Somebody will probably `read` this version in a moment: what can be got ready for that without moving content may
   * be. Never throws, never waits, and a `read` after it does and says what it would have without it. Absent: there is
   * nothing to get ready.
   */
  expect?(key: string, version: string): void;
  /**
   * Fills all of `into` with bytes of this version from `offsetBytes` on, in the calling thread, from what `expect` has
   * got ready; checked as those of `read`. False: this cannot be done, or not without waiting, whatever the reason; a
   * `read` says more. A promise: it is being got ready; to be asked again when that has settled. Never throws or
   * rejects.
   */
  readReady?(...range: ReadyRange): boolean | Promise<void>;
  /**
   * Whether an object of this version and size is there now, as `stat` would say, by what can be looked up in the
   * calling thread without waiting. False says nothing: a `stat` does. Never throws.
   */
  hasNow?(key: string, version: string, sizeBytes: number): boolean;
  /** Frees connections. Calls under way reject. */
  close(): Promise<void>;
}
