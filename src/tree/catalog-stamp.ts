/**
 * Whether a catalog is the newest one of its cache. An older one, put back from a backup, claims what was released
 * since, and those files are the same inodes with holes in them. So before blocks are freed the file `stamp` is made
 * anew, and the catalog knows which inode it is: the kernel's handle, which no copying brings back.
 *
 * The catalog keeps the last two: a crash between its transaction and the rename leaves the one before.
 */
import { closeSync, fsyncSync, openSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';

import type { Clock } from '../base/clock.ts';
import { toEbbError } from '../base/errors.ts';
import { OpenFlag, openFd } from '../sys/fd.ts';
import type { OwnedFd } from '../sys/fd.ts';
import type { ResidencyRow } from './durability.ts';
import { identityOf } from './identity.ts';
import { Residency } from './residency.ts';

const stampName = 'stamp';
const settingName = 'stamp';
/** A copy of the catalog of a running daemon is told from it when it is older than this. */
export const stampMsMax = 60_000;

/** Of a catalog; `setSetting` is durable when it returns. */
export interface StampRecord {
  setting(name: string): string | undefined;
  setSetting(name: string, value: string): void;
}

/** Of a catalog. */
export interface Claims {
  contents(
    afterId: number,
    limit: number,
  ): readonly { readonly id: number; readonly sizeBytes: number; readonly chunkBytes: number }[];
  commitResidency(rows: readonly ResidencyRow[]): void;
}

const pageRows = 1_000;

/** From now on the catalog says of no content that anything of it is here. */
export function forgetClaims(catalog: Claims): void {
  for (let afterId = 0; ;) {
    const page = catalog.contents(afterId, pageRows);
    const last = page.at(-1);
    if (last === undefined) return;
    afterId = last.id;
    catalog.commitResidency(
      page.map(({ id, sizeBytes, chunkBytes }) => {
        const empty = Residency.create(sizeBytes, chunkBytes);
        const { residentBytes, complete } = empty;
        return { id, bitmap: empty.encode(), residentBytes, complete };
      }),
    );
  }
}

/** For the one who holds the cache's lock. */
export class CatalogStamp {
  readonly #directory: string;
  readonly #record: StampRecord;
  readonly #clock: Clock;
  #renewedAtMs = -Infinity;

  constructor(directory: string, record: StampRecord, clock: Clock) {
    this.#directory = directory;
    this.#record = record;
    this.#clock = clock;
  }

  /** False: another catalog of this cache has freed something since. Throws EACCES, EIO. */
  get isNewest(): boolean {
    const there = this.#identity();
    const known = this.#record.setting(settingName);
    return known === undefined ? there === undefined : known.split(' ').includes(there ?? 'none');
  }

  /**
   * Before anything is freed. Does nothing while the last one is young, nor where no file can be made any more: to free
   * something is worth more then. Throws what the catalog says, or EIO.
   */
  renew(): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#renewedAtMs < stampMsMax) return;
    const fresh = `${this.#path}.new`;
    rmSync(fresh, { force: true });
    const former = this.#identity();
    using fd = createUnlessFull(fresh);
    if (fd === undefined) return;
    const one = hex(identityOf(fd.fd));
    this.#record.setSetting(settingName, former === undefined ? one : `${former} ${one}`);
    try {
      renameSync(fresh, this.#path);
      fsyncSync(fd.fd);
      syncDirectory(this.#directory);
    } catch (error) {
      throw toEbbError(error);
    }
    this.#renewedAtMs = nowMs;
  }

  get #path(): string {
    return path.join(this.#directory, stampName);
  }

  #identity(): string | undefined {
    try {
      using fd = openFd(this.#path, OpenFlag.rdonly | OpenFlag.nofollow | OpenFlag.nonblock);
      return hex(identityOf(fd.fd));
    } catch (error) {
      const known = toEbbError(error);
      if (known.code === 'ENOENT') return undefined;
      throw known;
    }
  }
}

function createUnlessFull(file: string): OwnedFd | undefined {
  try {
    return openFd(file, OpenFlag.rdwr | OpenFlag.creat | OpenFlag.excl, 0o600);
  } catch (error) {
    const known = toEbbError(error);
    if (known.code === 'ENOSPC' || known.code === 'EDQUOT') return undefined;
    throw known;
  }
}

function hex(identity: Uint8Array): string {
  return Buffer.from(identity).toString('hex');
}

function syncDirectory(directory: string): void {
  const fd = openSync(directory, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
