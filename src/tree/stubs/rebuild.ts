/**
 * `ebb rebuild` of a native tree: finds the stubs again without the catalog, by walking the data through the private
 * mount and believing their marks as far as they are certain (marked-facts.ts). Nobody may be at work in the tree.
 */
import { freeId, StubChange } from '../../base/stub-facts.ts';
import type { StubFacts } from '../../base/stub-facts.ts';
import { readdirSync } from 'node:fs';
import type { Dirent } from 'node:fs';

import { toEbbError } from '../../base/errors.ts';
import { decodeName } from '../../base/name.ts';
import { OpenFlag, openFd } from '../../sys/fd.ts';
import { handleAt, handleOf, openByHandle } from '../../sys/handle.ts';
import { fileStatus } from '../../sys/stat.ts';
import type { MarkSeal } from '../mark.ts';
import { inspectMarked } from './marked-facts.ts';

export interface FoundStub extends StubFacts {
  readonly lost: boolean;
  readonly accessedAtMs: number;
}

/** The part of the catalog that a rebuild needs. */
export interface StubRebuildTarget {
  byHandle(handle: Uint8Array): unknown;
  get(id: number): unknown;
  reserveIds(count: number): number;
  insert(records: readonly FoundStub[]): void;
  continueIdsAfter(id: number): void;
  flush(): void;
}

export interface StubRebuildReport {
  readonly stubs: number;
  readonly residentBytes: number;
  /** Taken for the user's own. */
  readonly dirty: number;
  /** Files with a mark that is not used, the first `ignoredListMax` of them by path in the data. */
  readonly ignored: readonly { readonly path: string; readonly why: string }[];
  readonly ignoredCount: number;
}

export interface StubRebuildOptions {
  /** The root of the data on the private mount. */
  readonly rootFd: number;
  readonly seal: MarkSeal;
  readonly hasPoison: boolean;
  readonly target: StubRebuildTarget;
}

const batchSize = 1_000;
const ignoredListMax = 1_000;
/** Ids of deleted stubs may be in logs and on the way; the new catalog goes on far above what was found. */
const idGap = 2 ** 32;

/** Fills a new, empty catalog. Throws what it throws, and EIO. */
export async function rebuildStubs(options: StubRebuildOptions): Promise<StubRebuildReport> {
  const { target } = options;
  const ignored: { path: string; why: string }[] = [];
  /** Handles of files with several names. */
  const seen = new Set<string>();
  let [stubs, residentBytes, dirty, ignoredCount, highestId] = [0, 0, 0, 0, 0];
  let batch: FoundStub[] = [];
  const store = (): void => {
    insertAll(target, batch);
    batch = [];
  };
  for await (const { path, found } of walk(options)) {
    if ('why' in found) {
      ignoredCount += 1;
      if (ignored.length < ignoredListMax) ignored.push({ path, why: found.why });
      continue;
    }
    const inode = Buffer.from(found.stub.handle).toString('latin1');
    if (seen.has(inode)) continue;
    if (found.isLinked) seen.add(inode);
    stubs += 1;
    residentBytes += found.stub.residentBytes;
    dirty += found.stub.change === StubChange.clean ? 0 : 1;
    highestId = Math.max(highestId, found.stub.id);
    if (batch.push(found.stub) >= batchSize) store();
  }
  store();
  target.continueIdsAfter(highestId + idGap);
  target.flush();
  return { stubs, residentBytes, dirty, ignored, ignoredCount };
}

/** A stub that had lost its record got another id (recordAdopted), but its mark may say the one of another stub. */
function insertAll(target: StubRebuildTarget, stubs: readonly FoundStub[]): void {
  try {
    target.insert(stubs);
  } catch (error) {
    if (toEbbError(error).code !== 'EEXIST') throw error;
    for (const stub of stubs) {
      target.insert([{ ...stub, id: freeId(target, stub.id) }]);
    }
  }
}

type Found = { readonly stub: FoundStub; readonly isLinked: boolean } | { readonly why: string };

/** Directories are opened by handle: users make paths that are longer than a call takes. */
async function* walk(
  options: StubRebuildOptions,
): AsyncGenerator<{ readonly path: string; readonly found: Found }> {
  const { rootFd } = options;
  const waiting = [{ prefix: '', handle: handleOf(rootFd).handle }];
  for (let at = waiting.pop(); at !== undefined; at = waiting.pop()) {
    using directory = openByHandle(rootFd, at.handle, OpenFlag.rdonly | OpenFlag.directory);
    for (const entry of entriesOf(directory.fd)) {
      const path = at.prefix + decodeName(entry.name);
      if (entry.isDirectory()) {
        waiting.push({ prefix: `${path}/`, handle: handleAt(directory.fd, entry.name) });
      }
      if (!entry.isFile()) continue;
      const found = inspect(options, directory.fd, entry.name);
      if (found !== undefined) yield { path, found };
    }
    // Other work gets its turn between directories.
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function entriesOf(fd: number): Dirent<Buffer>[] {
  try {
    return readdirSync(`/proc/self/fd/${fd}`, { withFileTypes: true, encoding: 'buffer' });
  } catch (error) {
    throw toEbbError(error);
  }
}

/** Undefined: a file of the user's. */
function inspect(
  options: StubRebuildOptions,
  directoryFd: number,
  name: Uint8Array,
): Found | undefined {
  try {
    const flags = OpenFlag.rdonly | OpenFlag.nofollow | OpenFlag.nonblock | OpenFlag.noatime;
    using fd = openFd(name, flags, 0, directoryFd);
    const marked = inspectMarked(fd.fd, options.seal, options.hasPoison);
    if (marked === undefined || 'why' in marked) return marked;
    const { mtime, nlink } = fileStatus(fd.fd);
    const stub = { ...marked.facts, lost: false, accessedAtMs: mtime.seconds * 1_000 };
    return { stub, isLinked: nlink > 1 };
  } catch (error) {
    return { why: toEbbError(error).message };
  }
}
