/** One directory, read in batches: however large it is, only one batch is in memory. */
import type { BigIntStats, Dir } from 'node:fs';
import { lstat as lstatCallback } from 'node:fs';
import { opendir, readlink } from 'node:fs/promises';
import { ebbError, toEbbError } from '../../base/errors.ts';
import { decodeName } from '../../base/name.ts';
import { joinKey } from '../key.ts';
import type { ListedObject, ListingBatch, ObjectAttributes } from '../remote.ts';
import type { RemoteRoot } from './root.ts';
import { find } from './walk.ts';
import type { Found } from './walk.ts';

/** Entries per batch; also how many are asked for their attributes at once. */
const batchObjectsMax = 256;

export interface DirectoryListingOptions {
  readonly root: RemoteRoot;
  readonly key: string;
  /**
   * Makes attributes of what lstat(2) said; `path` reaches the object (its last name not to be
   * followed).
   */
  readonly describe: (stats: BigIntStats, path: Buffer) => Promise<ObjectAttributes>;
  /** Called for every directory on another device than this one. */
  readonly onMountPoint: (key: string, parentDevice: bigint) => void;
}

export class DirectoryListing implements AsyncDisposable {
  readonly #options: DirectoryListingOptions;
  readonly #found: Found;
  readonly #entries: Dir;

  private constructor(options: DirectoryListingOptions, found: Found, entries: Dir) {
    this.#options = options;
    this.#found = found;
    this.#entries = entries;
  }

  /** Throws ENOTDIR when `key` is no directory, and what open(2) throws. */
  static async open(options: DirectoryListingOptions): Promise<DirectoryListing> {
    const found = await find(options.root, options.key);
    try {
      if (!found.stats.isDirectory())
        throw ebbError('ENOTDIR', `${options.key} is not a directory.`);
      const entries = await opendir(found.handle.path, {
        // The typings know only text encodings; Node gives the bytes of names as Buffers
        // (fs.opendir).
        encoding: 'buffer' as BufferEncoding,
        bufferSize: batchObjectsMax,
      });
      return new DirectoryListing(options, found, entries);
    } catch (error) {
      found[Symbol.dispose]();
      throw error;
    }
  }

  /** The next entries (never none), or undefined at the end. Not to be called concurrently. */
  async next(): Promise<ListingBatch | undefined> {
    for (;;) {
      const names: Buffer[] = [];
      while (names.length < batchObjectsMax) {
        const entry = await this.#entries.read();
        if (entry === null) break;
        names.push(entry.name as unknown as Buffer);
      }
      if (names.length === 0) return undefined;
      const described = await Promise.all(names.map((name) => this.#entry(name)));
      const objects = described.filter((object) => object !== undefined);
      if (objects.length > 0) return { objects, skipped: [] };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#entries.close();
    this.#found[Symbol.dispose]();
  }

  /** undefined when the entry was removed since its name was read. */
  async #entry(nameBytes: Buffer): Promise<ListedObject | undefined> {
    const path = this.#found.handle.entry(nameBytes);
    const name = decodeName(nameBytes);
    try {
      const stats = await lstat(path);
      const parentDevice = this.#found.stats.dev;
      if (stats.isDirectory() && stats.dev !== parentDevice) {
        this.#options.onMountPoint(joinKey(this.#options.key, name), parentDevice);
      }
      return { ...(await this.#options.describe(stats, path)), name };
    } catch (error) {
      if (toEbbError(error).code === 'ENOENT') return undefined;
      throw error;
    }
  }
}

/** fs.lstat without the promise layer, which costs twice as much of the main thread. */
function lstat(path: Buffer): Promise<BigIntStats> {
  return new Promise((resolve, reject) => {
    lstatCallback(path, { bigint: true }, (error, stats) => {
      if (error === null) resolve(stats);
      else reject(error);
    });
  });
}

/** The target of a symlink in the lossless form of base/name.ts. */
export async function linkTarget(path: Buffer): Promise<string> {
  return decodeName(await readlink(path, { encoding: 'buffer' }));
}
