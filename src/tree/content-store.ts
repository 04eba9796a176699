/**
 * The tree: local files by content id. Owns the cache directory, the descriptors and the loaded contents; claims
 * become durable through the residency log (durability.ts). Decisions: docs/decisions/0003-flat-tree.md.
 *
 * All of it is for one thread. A loaded content is one object for as long as anybody holds it; whoever shares
 * `residency.buffer` with another thread must hold the content that long, too.
 */
import { mkdirSync, unlinkSync } from 'node:fs';

import { assert } from '../base/assert.ts';
import { ebbError, toEbbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import { OpenFlag, openFd } from '../sys/fd.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { Seek, seek } from '../sys/io.ts';
import { fileStatus } from '../sys/stat.ts';
import { filesystemStatus } from '../sys/statfs.ts';
import { syncFilesystemAsync } from '../sys/writeback.ts';
import { truncateFile } from './truncate.ts';
import type { ResidencyLog, ResidencyRow } from './durability.ts';
import { identityOf, sameIdentity } from './identity.ts';
import {
  contentDirectory,
  contentPath,
  identifyTree,
  lockCache,
  makeDirectories,
  treePath,
} from './layout.ts';
import type { TreeIdentity } from './layout.ts';
import {
  KeptContents,
  commitFailedMessage,
  recordedResidency,
  syncFailedMessage,
} from './kept-contents.ts';
import type { KeptContentsOptions, StoreLimits } from './kept-contents.ts';
import type { ContentIdentity } from './local-content.ts';
import { MarkKeeper } from './mark-keeper.ts';
import { Residency, chunkBytesDefault, chunkBytesFor } from './residency.ts';
import { Room } from './room.ts';
import { StoredContent } from './stored-content.ts';
import type { StoredFacts } from './stored-content.ts';

export interface TreeProblem {
  readonly kind:
    | 'not ours'
    | 'sync failed'
    | 'commit failed'
    | 'mark failed'
    | 'bad record'
    | 'old catalog';
  /** Undefined when it concerns many. */
  readonly contentId: number | undefined;
  /** A sentence for the log and `ebb explain`. */
  readonly message: string;
  readonly cause: unknown;
}

export interface TreeOptions {
  /** The remote, without credentials: a cache belongs to one remote. */
  readonly remote: string;
  /** The catalog's row of a content. */
  readonly lookup: (id: number) => StoredFacts | undefined;
  /** Puts residency into the catalog; durable when it returns. */
  readonly commit: (rows: readonly ResidencyRow[]) => void;
  /** Once something is to be released, before that is recorded. */
  readonly beforeFreeing?: () => void;
  readonly onProblem: (problem: TreeProblem) => void;
  readonly limits?: StoreLimits;
  /** For tests of fault handling. */
  readonly syncData?: (fd: number) => Promise<void>;
}

/**
 * Left free for the catalog: without room for its log nothing could be released, so nothing would ever be free again.
 */
export const reservedBytesDefault = 8 * 1024 * 1024;

/** More runs of chunks of one file are not looked at. */
const runsMax = 4_096;

/** O_NONBLOCK: an open of a file that is just being released fails with EAGAIN instead of waiting for the lease. */
const openFlags = OpenFlag.nofollow | OpenFlag.nonblock;

export class ContentStore implements AsyncDisposable {
  readonly directory: string;
  readonly identity: TreeIdentity;
  readonly marks: MarkKeeper;
  readonly #lock: OwnedFd;
  readonly #options: TreeOptions;
  readonly #kept: KeptContents<StoredContent>;

  constructor(directory: string, options: TreeOptions, identity: TreeIdentity, lock: OwnedFd) {
    this.directory = directory;
    this.identity = identity;
    this.#lock = lock;
    this.#options = options;
    this.marks = new MarkKeeper(treePath(directory), identity, (contentId, message, cause) =>
      options.onProblem({ kind: 'mark failed', contentId, message, cause }),
    );
    const { limits } = options;
    this.#kept = new KeptContents({
      open: (id) => this.#openVerified(id, OpenFlag.rdwr),
      room: new Room(directory, limits?.reservedBytes ?? reservedBytesDefault, 'cache'),
      record: this.#record(),
      limits,
      syncData: options.syncData,
    });
  }

  get log(): ResidencyLog<StoredContent> {
    return this.#kept.log;
  }

  /**
   * Makes the stub of a content that the catalog does not have yet: full size, no blocks. It gets its mark with its
   * first claim: an unmarked file claims nothing, and a rebuild passes it over. A file that a crash left under
   * this id is replaced. Put `factsOf` of the result into the catalog before using it.
   * Throws ENOSPC, EDQUOT, EFBIG, EROFS, EIO.
   */
  create(id: number, key: string, version: string, sizeBytes: number): StoredContent {
    assert(this.#kept.get(id) === undefined, `content ${id} exists`);
    const chunkBytes = chunkBytesFor(
      sizeBytes,
      this.#options.limits?.chunkBytes ?? chunkBytesDefault,
    );
    const residency = Residency.create(sizeBytes, chunkBytes);
    const fd = this.#createFile(id);
    try {
      truncateFile(fd.fd, sizeBytes);
      const facts = { id, key, version, sizeBytes, handle: identityOf(fd.fd), pinned: false };
      const content = this.#load(facts, residency);
      content.isSound = true;
      // It is about to be written.
      this.#kept.descriptors.adopt(id, fd);
      return content;
    } catch (error) {
      fd.close();
      unlinkSync(contentPath(this.directory, id));
      throw toEbbError(error);
    }
  }

  /** The content, as the catalog has it; undefined when it has none. Its file is opened on first use. */
  get(id: number): StoredContent | undefined {
    const loaded = this.#kept.get(id);
    if (loaded !== undefined) return loaded;
    const facts = this.#options.lookup(id);
    if (facts === undefined) return undefined;
    const residency = recordedResidency(facts, (message, cause) =>
      this.#options.onProblem({ kind: 'bad record', contentId: id, message, cause }),
    );
    return this.#load(facts, residency);
  }

  /** A row for the catalog: what is durable of a content that was just created. */
  factsOf(content: StoredContent): StoredFacts {
    const { key, version, sizeBytes, handle, pinned, residency } = content;
    const { chunkBytes } = residency;
    return { key, version, sizeBytes, chunkBytes, handle, pinned, ...emptyRow(content) };
  }

  /** Removes the local file. The catalog has forgotten the content before. */
  async delete(id: number): Promise<void> {
    await this.#kept.drop(id);
    try {
      unlinkSync(contentPath(this.directory, id));
    } catch (error) {
      const known = toEbbError(error);
      if (known.code !== 'ENOENT') throw known;
    }
  }

  /** Blocks on disk. Throws ENOENT, EIO. */
  allocatedBytes(id: number): number {
    return fileStatus(contentPath(this.directory, id)).allocatedBytes;
  }

  /**
   * A descriptor for the kernel (FUSE passthrough): O_RDONLY, verified, owned by the caller. Throws EIO when the
   * file is not ours (delete the content and make it anew), EBUSY while it is being released (`releaseSettled`).
   */
  openForPassthrough(id: number): OwnedFd {
    return this.#openVerified(id, OpenFlag.rdonly);
  }

  /** Room on the file system of the cache. */
  space(): { readonly availableBytes: number; readonly totalBytes: number } {
    const { availableBytes, totalBytes } = filesystemStatus(this.directory);
    return { availableBytes, totalBytes };
  }

  /** syncfs(2) of the cache's file system, without blocking the thread. Rejects with EIO, ENOSPC, EDQUOT. */
  async sync(): Promise<void> {
    using fd = openFd(this.directory, OpenFlag.rdonly | OpenFlag.directory);
    await syncFilesystemAsync(fd.fd);
  }

  setPinned(content: StoredContent, pinned: boolean): void {
    content.pinned = pinned;
    const facts = this.#options.lookup(content.id);
    using use = this.#kept.use(content);
    if (facts !== undefined) this.marks.write(content, facts, use.fd);
  }

  /** See `KeptContents.beginRelease`. */
  beginRelease(content: StoredContent): Disposable | undefined {
    return this.#kept.beginRelease(content);
  }

  /** Resolves when no release of this content is under way: opening it before would be EBUSY. */
  releaseSettled(id: number): Promise<void> {
    return this.#kept.gate.opened(id);
  }

  /** For release.ts: the verified file, past the gate of `beginRelease`. */
  openForRelease(content: StoredContent): OwnedFd {
    return this.#openChecked(content, OpenFlag.rdwr);
  }

  /** For release.ts: puts rows into the catalog, durably. */
  commit(rows: readonly ResidencyRow[]): void {
    this.#options.beforeFreeing?.();
    this.#options.commit(rows);
  }

  /** Orderly end: commits what is queued, closes everything, gives the lock back. Rejects when the commit failed. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.log.flush();
    } finally {
      this.abandon();
    }
  }

  /** Closes everything without committing. */
  abandon(): void {
    this.#kept.abandon();
    this.#lock.close();
  }

  #createFile(id: number): OwnedFd {
    const path = contentPath(this.directory, id);
    const flags = OpenFlag.rdwr | OpenFlag.creat | OpenFlag.excl | openFlags;
    for (;;) {
      try {
        return openFd(path, flags, 0o600);
      } catch (error) {
        const { code } = toEbbError(error);
        if (code === 'ENOENT') mkdirSync(contentDirectory(this.directory, id), { mode: 0o700 });
        else if (code === 'EEXIST') unlinkSync(path);
        else throw error;
      }
    }
  }

  #load(facts: ContentIdentity, residency: Residency): StoredContent {
    const content = new StoredContent(facts, residency, this.#kept);
    this.#kept.add(content);
    return content;
  }

  #openVerified(id: number, access: number): OwnedFd {
    const content = this.get(id);
    if (content === undefined) throw ebbError('ENOENT', `There is no content ${id}.`);
    this.#kept.requireNotReleasing(content);
    const fd = this.#openChecked(content, access);
    content.isSound ??= hasNoHoles(fd.fd, content.residency);
    if (content.isSound) return fd;
    fd.close();
    throw this.#disown(content, 'not all is in it that the catalog says', undefined);
  }

  /** Opens by path and believes only what has the identity and size that the catalog knows. */
  #openChecked(content: StoredContent, access: number): OwnedFd {
    const path = contentPath(this.directory, content.id);
    let fd: OwnedFd;
    try {
      fd = openFd(path, access | openFlags);
    } catch (error) {
      const { code } = toEbbError(error);
      if (code !== 'ENOENT' && code !== 'ELOOP') throw error;
      throw this.#disown(content, `${path} is missing`, error);
    }
    const status = fileStatus(fd.fd);
    if (!sameIdentity(identityOf(fd.fd), content.handle)) {
      fd.close();
      throw this.#disown(content, `${path} is not the file that Ebb made`, undefined);
    }
    if (status.sizeBytes !== content.sizeBytes) {
      fd.close();
      throw this.#disown(content, `${path} has changed its size`, undefined);
    }
    return fd;
  }

  /** The file at the content's path is not ours: none of its bytes will be used. */
  #disown(content: StoredContent, why: string, cause: unknown): EbbError {
    content.lose();
    const message =
      `The cache file of ${content.key} cannot be used: ${why}. ` +
      'Its content must be recalled into a new file.';
    this.#options.onProblem({ kind: 'not ours', contentId: content.id, message, cause });
    try {
      this.#options.commit([emptyRow(content)]);
    } catch (error) {
      const text = 'That a cache file is missing could not be recorded.';
      this.#options.onProblem({
        kind: 'commit failed',
        contentId: content.id,
        message: text,
        cause: error,
      });
    }
    return ebbError('EIO', message, { cause, retryable: false });
  }

  #record(): KeptContentsOptions<StoredContent>['record'] {
    const { commit, onProblem } = this.#options;
    return {
      commit,
      mark: (content, row, fd) => this.marks.write(content, row, fd),
      syncFailed: ({ id, key }, cause) => {
        const message = syncFailedMessage(key, 'cache');
        onProblem({ kind: 'sync failed', contentId: id, message, cause });
      },
      commitFailed: (cause) => {
        const message = commitFailedMessage;
        onProblem({ kind: 'commit failed', contentId: undefined, message, cause });
      },
    };
  }
}

/** Of what is claimed. A damaged catalog claims what is not here, and nothing else shows it. */
function hasNoHoles(fd: number, residency: Residency): boolean {
  return residency
    .runs()
    .slice(0, runsMax)
    .every((run) => {
      const { offsetBytes, lengthBytes } = residency.bytesOf(run);
      const hole = seek(fd, offsetBytes, Seek.hole);
      return hole < 0 || hole >= offsetBytes + lengthBytes;
    });
}

function emptyRow(content: StoredContent): ResidencyRow {
  const { sizeBytes, chunkBytes } = content.residency;
  const empty = Residency.create(sizeBytes, chunkBytes);
  const { residentBytes, complete } = empty;
  return { id: content.id, bitmap: empty.encode(), residentBytes, complete };
}

/**
 * Takes possession of a cache directory, made if missing. Throws EBUSY (another daemon uses it: the sentence says
 * which), EEXIST (it belongs to another remote), EPROTO (made by a newer Ebb), EUCLEAN, EACCES, EROFS, ENOSPC.
 */
export function openTree(cacheDirectory: string, options: TreeOptions): ContentStore {
  makeDirectories(cacheDirectory);
  const lock = lockCache(cacheDirectory);
  try {
    const identity = identifyTree(cacheDirectory, options.remote);
    return new ContentStore(cacheDirectory, options, identity, lock);
  } catch (error) {
    lock.close();
    throw error;
  }
}
