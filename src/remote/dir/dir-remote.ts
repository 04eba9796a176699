/**
 * Another directory as the remote: local, or any network filesystem that is mounted.
 *
 * - Symlinks are objects of kind `symlink`; none is followed (walk.ts). Pipes, sockets and devices
 *   are listed as kind `other`, so that `explain` can say what they are; reading one is EOPNOTSUPP.
 * - Every buffer is verified against the version (fstat) before it is promised to the sink. A write
 *   moves the times before it moves bytes, so a check after the read sees every write whose bytes
 *   the read could have seen. Where attributes come by a network they are asked for anew: the kernel
 *   would give old ones together with new bytes.
 * - Holes are read, not looked up with SEEK_DATA: where the origin is itself managed (a placeholder
 *   whose content comes on read), lseek reports a hole where there is content. Zeros are believed
 *   only from read(2).
 * - Extended attributes of the `user.` namespace are shown on local filesystems only (xattrs.ts). There modes allow
 *   nobody what an access control list does not (access-list.ts).
 * - Filesystems mounted below the root are crossed. What was seen as a mount point and is none any
 *   more fails with EIO instead of looking empty.
 * - Bytes are read straight into the sink's memory. An aborted read therefore rejects only when the
 *   pread under way has returned: otherwise the kernel would still write into memory that its owner
 *   uses for something else.
 * - Small ranges of local files are read at once (at-once.ts).
 * - It never has all threads of the pool (pool-share.ts), however many calls do not come back.
 */
import { read as readCallback } from 'node:fs';
import type { BigIntStats } from 'node:fs';
import { sleep } from '../../base/deadline.ts';
import { ebbError, toEbbError } from '../../base/errors.ts';
import { abandonOnAbort } from '../abortable.ts';
import { deliver, rangeEnd } from '../deliver.ts';
import type { ByteSource } from '../deliver.ts';
import { linkSignals } from '../linked-signal.ts';
import type {
  CallOptions,
  ListingBatch,
  ObjectAttributes,
  RangeSink,
  ReadOptions,
  ReadyRange,
  Remote,
} from '../remote.ts';
import { modeWithin } from './access-list.ts';
import { AtOnce, isSmallRange } from './at-once.ts';
import type { Descriptor } from './descriptor.ts';
import { attributesOf, blindForMs, kindOf, versionOf } from './facts.ts';
import { DirectoryListing, linkTarget } from './listing.ts';
import { PoolShare } from './pool-share.ts';
import { closeWhenOpen, ReadyFiles } from './ready-files.ts';
import { isSameRoot, RemoteRoot } from './root.ts';
import { SubmountGuard } from './submounts.ts';
import { find, findAtOnce, openContent, originError } from './walk.ts';
import type { FoundObject } from './walk.ts';
import { accessListOf, xattrsOf } from './xattrs.ts';

/** One pread: large enough to be cheap, small enough that an abort does not wait long for it. */
const readMaxBytes = 4 * 1024 * 1024;

export interface DirectoryRemoteOptions {
  /** What `onRoot` said when it was opened before: another directory is an error. */
  readonly expectedRoot?: string | undefined;
  /** It is not known which one it was, but that it had names: an empty directory is an error. */
  readonly hadNames?: boolean;
  /** Called with what tells the directory from all others (`RemoteRoot.name`), whenever it was opened. */
  readonly onRoot?: (root: string) => void;
  /** For that error: what has another directory taken for the remote. */
  readonly otherRootHint?: string;
}

/**
 * Opens the directory at the absolute `path` as a remote. Throws ENOENT, ENOTDIR, EACCES; EIO when it is not the
 * expected one. Symlinks in `path` itself are followed.
 */
export async function openDirectoryRemote(
  path: string,
  { expectedRoot, hadNames = false, onRoot, otherRootHint }: DirectoryRemoteOptions = {},
): Promise<Remote> {
  if (!path.startsWith('/')) throw ebbError('EINVAL', `${path} is not an absolute path.`);
  try {
    const root = await RemoteRoot.identify(path);
    const isOther = expectedRoot !== undefined && !isSameRoot(expectedRoot, root.name);
    if (isOther || (hadNames && (await root.isEmpty()))) {
      const what = isOther ? 'another directory than before' : 'empty, which it was not before';
      const why = `it is ${what}; is its filesystem not mounted?`;
      const hint = otherRootHint === undefined ? '' : ` ${otherRootHint}`;
      throw ebbError('EIO', why + hint, { retryable: true });
    }
    onRoot?.(root.name);
    return new DirectoryRemote(root);
  } catch (error) {
    const { code, message } = toEbbError(error);
    throw ebbError(code, `The directory ${path} cannot be opened as a remote: ${message}`, {
      cause: error,
    });
  }
}

interface OpenFile {
  readonly content: Descriptor;
  readonly stats: BigIntStats;
  /** Asking for its attributes does not wait. */
  readonly isLocal: boolean;
  /** Small ranges are read at once as far as they can be. */
  readonly isQuick: boolean;
}

class DirectoryRemote implements Remote {
  readonly kind = 'dir';
  readonly supportsRanges = true;
  readonly displayName: string;
  readonly #root: RemoteRoot;
  readonly #submounts: SubmountGuard;
  readonly #atOnce = new AtOnce();
  readonly #threads = new PoolShare();
  readonly #ready = new ReadyFiles<OpenFile>();
  readonly #closed = new AbortController();

  constructor(root: RemoteRoot) {
    this.displayName = root.path;
    this.#root = root;
    this.#submounts = new SubmountGuard(root);
  }

  async *list(key: string, options: CallOptions): AsyncIterable<ListingBatch> {
    using linked = linkSignals(options.signal, this.#closed.signal);
    const { signal } = linked;
    let step: Promise<unknown> = Promise.resolve();
    const take = <T>(work: () => Promise<T>): Promise<T> => {
      const promise = this.#asked(key, work, signal);
      step = promise;
      return abandonOnAbort(promise, signal);
    };
    const open = () => DirectoryListing.open(this.#listingOptions(key));
    const opening = this.#asked(key, open, signal);
    try {
      const listing = await abandonOnAbort(opening, signal);
      for (;;) {
        const batch = await take(() => listing.next());
        if (batch === undefined) break;
        yield batch;
        signal.throwIfAborted();
      }
      // What went away meanwhile may have cut the listing short.
      await take(() => this.#submounts.check(key));
    } finally {
      void disposeAfter(step, opening);
    }
  }

  async stat(key: string, options: CallOptions): Promise<ObjectAttributes> {
    using linked = linkSignals(options.signal, this.#closed.signal);
    const look = async (): Promise<ObjectAttributes> => {
      using found = await find(this.#root, key);
      const isLocal = this.#root.isLocal && found.stats.dev === this.#root.device;
      const stats = isLocal ? found.stats : await found.handle.statAnew();
      return await this.#describe(stats, found.path);
    };
    return await abandonOnAbort(this.#asked(key, look, linked.signal), linked.signal);
  }

  async read(key: string, sink: RangeSink, options: ReadOptions): Promise<void> {
    using linked = linkSignals(options.signal, this.#closed.signal);
    const { signal } = linked;
    const open = () => this.#openForReading(key, options.version);
    const opening = this.#asked(key, open, signal);
    const file = await abandonOnAbort(opening, signal).catch((error: unknown) => {
      void closeWhenOpen(opening);
      throw error;
    });
    using _content = file.content;
    const blindMs = blindForMs(file.stats.ctimeNs, Date.now());
    if (blindMs > 0) await sleep(blindMs, signal);
    const attributes = this.#attributesOf(file);
    const endBytes = rangeEnd(key, attributes.sizeBytes ?? 0, options);
    sink.head(attributes);
    const source = this.#source(key, file, options.lengthBytes, signal);
    await deliver(source, sink, { key, offsetBytes: options.offsetBytes, endBytes }, signal);
  }

  /**
   * Opens files that the kernel has in memory: that waits for no disk, and for no network, where what was seen at this
   * moment may be old at the next one.
   */
  expect(key: string, version: string): void {
    if (!this.#root.isLocal || this.#closed.signal.aborted) return;
    this.#ready.expect(key, version, async () => {
      using found = findAtOnce(this.#root, key);
      if (found === undefined) throw ebbError('EAGAIN', `${key} cannot be found at once.`);
      return await this.#openFound(key, version, found);
    });
  }

  readReady(...[key, version, into, offsetBytes]: ReadyRange): boolean | Promise<void> {
    const ready = this.#ready.look(key, version);
    if (ready === undefined || ready instanceof Promise) return ready ?? false;
    if (!ready.isQuick || !isSmallRange(into.length)) return false;
    if (blindForMs(ready.stats.ctimeNs, Date.now()) > 0) return false;
    try {
      const count = this.#atOnce.read(ready.content, into, offsetBytes, this.#root.isInMemory);
      return count === into.length && this.#versionNow(ready) === version;
    } catch {
      return false;
    }
  }

  /** On a local file system, of what the kernel has in memory. The version names the inode. */
  hasNow(key: string, version: string, sizeBytes: number): boolean {
    if (this.#closed.signal.aborted || !this.#root.hasStableInodes) return false;
    try {
      using found = findAtOnce(this.#root, key);
      if (found === undefined || kindOf(found.stats) !== 'file') return false;
      return found.stats.size === BigInt(sizeBytes) && versionOf(found.stats, true) === version;
    } catch {
      return false;
    }
  }

  close(): Promise<void> {
    this.#ready.closeAll();
    this.#closed.abort(ebbError('ESHUTDOWN', `The remote ${this.displayName} was closed.`));
    return Promise.resolve();
  }

  /** Runs system calls on the origin in the pool; what they throw becomes what the contract says. */
  async #asked<T>(key: string, work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    return await this.#threads.run(() => this.#said(key, work), signal);
  }

  async #said<T>(key: string, work: () => T | Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const explained = originError(error, key);
      // Absent, or only behind a mount point whose filesystem is gone?
      if (explained.code === 'ENOENT' || explained.code === 'ENOTDIR') {
        await this.#submounts.check(key).catch((failure: unknown) => {
          if (toEbbError(failure).code === 'EIO') throw failure;
        });
      }
      throw explained;
    }
  }

  async #describe(stats: BigIntStats, path: Buffer): Promise<ObjectAttributes> {
    const attributes = attributesOf(stats, this.#root.hasStableInodes);
    if (attributes.kind === 'symlink') return { ...attributes, target: await linkTarget(path) };
    const mayHaveXattrs = attributes.kind === 'file' || attributes.kind === 'directory';
    if (!mayHaveXattrs || !this.#root.isLocal || stats.dev !== this.#root.device) {
      return attributes;
    }
    const { user: xattrs, accessList } = xattrsOf(path);
    const allowed = within(attributes, accessList);
    return xattrs === undefined ? allowed : { ...allowed, xattrs };
  }

  #listingOptions(key: string) {
    return {
      root: this.#root,
      key,
      describe: (stats: BigIntStats, path: Buffer) => this.#describe(stats, path),
      threads: this.#threads,
      onMountPoint: (mountKey: string) => this.#submounts.note(mountKey),
    };
  }

  async #openForReading(key: string, version: string | undefined): Promise<OpenFile> {
    const ready = await this.#ready.take(key, version);
    if (ready !== undefined) {
      // Deleted or changed since: what is to be said of it is found out the long way.
      if (this.#versionNow(ready) === version) return ready;
      ready.content[Symbol.dispose]();
    }
    return await this.#openFile(key, version);
  }

  /** Of one that was got ready: it is on a local file system. */
  #versionNow({ content }: OpenFile): string {
    return versionOf(content.statNow(), this.#root.hasStableInodes);
  }

  async #openFile(key: string, version: string | undefined): Promise<OpenFile> {
    using found = await find(this.#root, key);
    return await this.#openFound(key, version, found);
  }

  async #openFound(
    key: string,
    version: string | undefined,
    found: FoundObject,
  ): Promise<OpenFile> {
    const kind = kindOf(found.stats);
    if (kind === 'directory') throw ebbError('EISDIR', `${key} is a directory.`);
    if (kind !== 'file') throw ebbError('EOPNOTSUPP', `${key} is a ${kind}, it has no content.`);
    const { stats } = found;
    if (version !== undefined && version !== versionOf(stats, this.#root.hasStableInodes))
      throw changed(key);
    const content = await openContent(found);
    const isLocal = this.#root.isLocal && stats.dev === this.#root.device;
    return { content, stats, isLocal, isQuick: isLocal && this.#atOnce.mayRead(content) };
  }

  /** As they were when it was opened; its access control list as it is. */
  #attributesOf({ content, stats, isLocal }: OpenFile): ObjectAttributes {
    const attributes = attributesOf(stats, this.#root.hasStableInodes);
    return isLocal ? within(attributes, accessListOf(content.fd)) : attributes;
  }

  #source(
    key: string,
    { content, stats: opened, isLocal, isQuick: mayBeQuick }: OpenFile,
    lengthBytes: number | undefined,
    signal: AbortSignal,
  ): ByteSource {
    const isQuick = mayBeQuick && isSmallRange(lengthBytes);
    const readInPool = (into: Uint8Array, offsetBytes: number): Promise<number> =>
      this.#asked(key, () => pread(content, into.subarray(0, readMaxBytes), offsetBytes), signal);
    const { hasStableInodes } = this.#root;
    const version = versionOf(opened, hasStableInodes);
    const check = (stats: BigIntStats): void => {
      if (versionOf(stats, hasStableInodes) !== version) throw changed(key);
    };
    return {
      readAt: (into, offsetBytes) =>
        (isQuick && this.#atOnce.read(content, into, offsetBytes, this.#root.isInMemory)) ||
        readInPool(into, offsetBytes),
      verify: () =>
        isLocal
          ? this.#said(key, () => check(content.statNow()))
          : this.#asked(key, async () => check(await content.statAnew()), signal),
    };
  }
}

/** The mode is that which the list leaves. */
function within(
  attributes: ObjectAttributes,
  accessList: Uint8Array | undefined,
): ObjectAttributes {
  const { mode } = attributes;
  if (accessList === undefined || mode === undefined) return attributes;
  return { ...attributes, mode: modeWithin(mode, accessList) };
}

function changed(key: string): Error {
  return ebbError('ESTALE', `${key} is no longer the version that was asked for.`);
}

/** fs.read without the promise layer's overhead; runs in the thread pool. */
function pread(content: Descriptor, into: Uint8Array, offsetBytes: number): Promise<number> {
  return new Promise((resolve, reject) => {
    readCallback(content.fd, into, 0, into.length, offsetBytes, (error, countBytes) => {
      if (error === null) resolve(countBytes);
      else reject(error);
    });
  });
}

/** Closes a listing once the step that may have been abandoned no longer uses it. Never throws. */
async function disposeAfter(step: Promise<unknown>, opening: Promise<Disposable>): Promise<void> {
  try {
    await Promise.allSettled([step]);
    (await opening)[Symbol.dispose]();
  } catch {
    // It was never opened, or the origin fails on close: nothing is left to free.
  }
}
