/** One directory, read in batches: however large it is, only one batch is in memory. */
import type { BigIntStats } from 'node:fs';
import { lstat as lstatCallback } from 'node:fs';
import { readlink } from 'node:fs/promises';
import { ebbError, toEbbError } from '../../base/errors.ts';
import { decodeName } from '../../base/name.ts';
import { DirectoryEntryType, readEntries } from '../../sys/directory-entries.ts';
import type { DirectoryEntry } from '../../sys/directory-entries.ts';
import { OpenFlag } from '../../sys/fd.ts';
import { joinKey } from '../key.ts';
import type { ListedObject, ListingBatch, ObjectAttributes, ObjectKind } from '../remote.ts';
import { Descriptor } from './descriptor.ts';
import type { PoolShare } from './pool-share.ts';
import type { RemoteRoot } from './root.ts';
import { find } from './walk.ts';
import type { Found } from './walk.ts';

/** Entries per batch; also how many are asked for their attributes at once. */
const batchObjectsMax = 256;
/** As glibc's readdir(3): about a thousand short names. */
const entriesBytes = 32 * 1024;

export interface DirectoryListingOptions {
  readonly root: RemoteRoot;
  readonly key: string;
  /**
   * Makes attributes of what lstat(2) said; `path` reaches the object (its last name not to be
   * followed).
   */
  readonly describe: (stats: BigIntStats, path: Buffer) => Promise<ObjectAttributes>;
  readonly threads: PoolShare;
  /** Called for every directory on another device than this one. */
  readonly onMountPoint: (key: string) => void;
}

export class DirectoryListing implements Disposable {
  readonly #options: DirectoryListingOptions;
  readonly #found: Found;
  readonly #directory: Descriptor;
  readonly #memory = new Uint8Array(entriesBytes);
  /** Read, and not looked at yet. */
  #entries: DirectoryEntry[] = [];

  private constructor(options: DirectoryListingOptions, found: Found, directory: Descriptor) {
    this.#options = options;
    this.#found = found;
    this.#directory = directory;
  }

  /** Throws ENOTDIR when `key` is no directory, and what open(2) throws. */
  static async open(options: DirectoryListingOptions): Promise<DirectoryListing> {
    const found = await find(options.root, options.key);
    try {
      if (!found.stats.isDirectory())
        throw ebbError('ENOTDIR', `${options.key} is not a directory.`);
      const flags = OpenFlag.rdonly | OpenFlag.directory;
      const directory = await Descriptor.open(Buffer.from(found.handle.path), flags);
      return new DirectoryListing(options, found, directory);
    } catch (error) {
      found[Symbol.dispose]();
      throw error;
    }
  }

  /** The next entries (never none), or undefined at the end. Not to be called concurrently. */
  async next(): Promise<ListingBatch | undefined> {
    for (;;) {
      if (this.#entries.length === 0) {
        const entries = await this.#read();
        if (entries === undefined) return undefined;
        this.#entries = entries;
      }
      const entries = this.#entries.splice(0, batchObjectsMax);
      const objects = await this.#describe(entries);
      if (objects.length > 0) return { objects, skipped: [] };
    }
  }

  [Symbol.dispose](): void {
    this.#directory[Symbol.dispose]();
    this.#found[Symbol.dispose]();
  }

  async #read(): Promise<DirectoryEntry[] | undefined> {
    try {
      return await readEntries(this.#directory.fd, this.#memory);
    } catch (error) {
      // As node:fs throws it: what it means here is for `originError` to say.
      throw new Error(toEbbError(error).message, { cause: error });
    }
  }

  /**
   * On a local file system files are looked at all at once, which takes two thirds of the time: what may not answer is
   * what else is mounted, and that is on directories.
   */
  async #describe(entries: readonly DirectoryEntry[]): Promise<ListedObject[]> {
    const { root, threads } = this.#options;
    const isLocal = root.isLocal && this.#found.stats.dev === root.device;
    const isSafe = ({ type }: DirectoryEntry): boolean =>
      isLocal && (type === DirectoryEntryType.file || type === DirectoryEntryType.symlink);
    const look = (entry: DirectoryEntry): Promise<ListedObject | undefined> => this.#entry(entry);
    const others = entries.filter((entry) => !isSafe(entry));
    const safe = others.length === 0 ? entries : entries.filter(isSafe);
    const looks = Promise.all(safe.map(look));
    if (others.length === 0) return present(await looks);
    const otherLooks = threads.each(others, look);
    // No call is under way any more when this rejects: the descriptor is closed then.
    await Promise.allSettled([looks, otherLooks]);
    return present([...(await looks), ...(await otherLooks)]);
  }

  /** undefined when the entry was removed since its name was read. */
  async #entry(entry: DirectoryEntry): Promise<ListedObject | undefined> {
    const path = this.#found.handle.entry(entry.name);
    const name = decodeName(entry.name);
    try {
      const stats = await lstat(path);
      if (stats.isDirectory() && stats.dev !== this.#found.stats.dev) {
        this.#options.onMountPoint(joinKey(this.#options.key, name));
      }
      return { ...(await this.#options.describe(stats, path)), name };
    } catch (error) {
      if (toEbbError(error).code === 'ENOENT') return undefined;
      // One that fails (a dead mount, a damaged inode, no right to look) hides no other.
      const kind = kindsThatStand.get(entry.type);
      if (kind === undefined) throw error;
      return { name, kind };
    }
  }
}

function present(described: readonly (ListedObject | undefined)[]): ListedObject[] {
  return described.filter((object) => object !== undefined);
}

/** Kinds that are worth something without attributes: a symlink without its target is not. */
const kindsThatStand: ReadonlyMap<number, ObjectKind> = new Map([
  [DirectoryEntryType.file, 'file'],
  [DirectoryEntryType.directory, 'directory'],
]);

/** fs.lstat without the promise layer, which costs twice as much of the main thread. */
function lstat(path: Buffer): Promise<BigIntStats> {
  return new Promise((resolve, reject) => {
    lstatCallback(path, { bigint: true }, (error, stats) => {
      if (error === null) resolve(stats);
      else reject(error);
    });
  });
}

/**
 * The target of a symlink in the lossless form of base/name.ts. Throws EIO (retryable) when something else has taken
 * its place since it was looked at.
 */
export async function linkTarget(path: Buffer): Promise<string> {
  try {
    return decodeName(await readlink(path, { encoding: 'buffer' }));
  } catch (error) {
    if (toEbbError(error).code !== 'EINVAL') throw error;
    const message = 'A symlink was replaced while it was asked about.';
    throw ebbError('EIO', message, { cause: error, retryable: true });
  }
}
