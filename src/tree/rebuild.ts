/**
 * `ebb rebuild`: finds the contents of a tree again without the catalog.
 *
 * What a mark claims was on stable storage when the mark was written, so it is believed; but a chunk must also be
 * allocated on the disk, and nothing beyond the mark is ever believed, however many blocks a file has. Names are not
 * rebuilt: they come back with the next listing, and a file of the same key and version adopts its content.
 */
import { readdirSync } from 'node:fs';
import path from 'node:path';

import { EbbError, toEbbError } from '../base/errors.ts';
import { Errno } from '../base/errno.ts';
import { OpenFlag, openFd } from '../sys/fd.ts';
import { Seek, seek } from '../sys/io.ts';
import { fileStatus } from '../sys/stat.ts';
import { identityOf } from './identity.ts';
import { contentPath, treePath } from './layout.ts';
import type { TreeIdentity } from './layout.ts';
import { readMarkAttribute } from './mark-attribute.ts';
import { decodeMark } from './mark.ts';
import type { Mark } from './mark.ts';
import { Residency } from './residency.ts';

/** A content as the catalog keeps it. */
export interface FoundContent {
  readonly id: number;
  readonly key: string;
  readonly version: string;
  readonly sizeBytes: number;
  readonly chunkBytes: number;
  readonly bitmap: Uint8Array;
  readonly residentBytes: number;
  readonly complete: boolean;
  readonly handle: Uint8Array;
  readonly accessedAtMs: number;
  readonly pinned: boolean;
  readonly lost: boolean;
}

export type ScanResult =
  | { readonly path: string; readonly content: FoundContent }
  /**
   * `why`: why the file is not used, in a few words. `isNobodys`: a file of this tree by its name that has no mark, or
   * one that was never this file's, so that it can never be used again.
   */
  | { readonly path: string; readonly why: string; readonly isNobodys: boolean };

/** Goes through all files of a tree. The caller holds the cache's lock. Yields one result per file. */
export async function* scanTree(
  cacheDirectory: string,
  identity: TreeIdentity,
): AsyncGenerator<ScanResult> {
  const tree = treePath(cacheDirectory);
  for (const directory of readdirSync(tree, { withFileTypes: true })) {
    if (!directory.isDirectory()) continue;
    for (const name of readdirSync(path.join(tree, directory.name))) {
      const file = path.join(tree, directory.name, name);
      yield inspectFile(cacheDirectory, file, identity);
    }
    // Other work gets its turn between directories.
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** The part of the catalog that a rebuild needs. */
export interface RebuildTarget {
  restoreOrphans(contents: readonly FoundContent[]): void;
  continueIdsAfter(id: number): void;
}

export interface RebuildReport {
  readonly contents: number;
  readonly residentBytes: number;
  readonly ignored: readonly { readonly path: string; readonly why: string }[];
  readonly ignoredCount: number;
}

const batchSize = 1_000;
const ignoredListMax = 1_000;
const newerFormat = 'format of a newer Ebb';
/**
 * Ids that were given to names without content are not in the tree, but handles with them may be around (NFS). So
 * the new catalog goes on far above the highest id that was found.
 */
const idGap = 2 ** 32;

/** Fills a new, empty catalog from the tree. Throws what the catalog throws. */
export async function rebuildCatalog(
  catalog: RebuildTarget,
  cacheDirectory: string,
  identity: TreeIdentity,
): Promise<RebuildReport> {
  const ignored: { path: string; why: string }[] = [];
  let [contents, residentBytes, ignoredCount, highestId] = [0, 0, 0, 0];
  let batch: FoundContent[] = [];
  const store = (): void => {
    catalog.restoreOrphans(batch);
    batch = [];
  };
  for await (const result of scanTree(cacheDirectory, identity)) {
    highestId = Math.max(highestId, idOf(path.basename(result.path)) ?? 0);
    if ('why' in result) {
      ignoredCount += 1;
      if (ignored.length < ignoredListMax) ignored.push(result);
      continue;
    }
    contents += 1;
    residentBytes += result.content.residentBytes;
    if (batch.push(result.content) >= batchSize) store();
  }
  store();
  catalog.continueIdsAfter(highestId + idGap);
  return { contents, residentBytes, ignored, ignoredCount };
}

function idOf(name: string): number | undefined {
  const id = Number(name);
  return /^[1-9]\d*$/.test(name) && Number.isSafeInteger(id) ? id : undefined;
}

/** The content id that a file of the tree has by its place and name; undefined for what is none of ours. */
export function contentIdOf(cacheDirectory: string, file: string): number | undefined {
  const id = idOf(path.basename(file));
  return id !== undefined && contentPath(cacheDirectory, id) === file ? id : undefined;
}

/** What one file of the tree is. Changes nothing; never throws for what the file is. */
export function inspectFile(
  cacheDirectory: string,
  file: string,
  identity: TreeIdentity,
): ScanResult {
  const unused = (why: string, isNobodys = false): ScanResult => ({ path: file, why, isNobodys });
  const id = contentIdOf(cacheDirectory, file);
  if (id === undefined) return unused('not a file of Ebb');
  try {
    using fd = openFd(file, OpenFlag.rdonly | OpenFlag.nofollow | OpenFlag.nonblock);
    const bytes = readMarkAttribute(fd.fd);
    if (bytes === undefined) return unused('no mark', true);
    const handle = identityOf(fd.fd);
    const reading = decodeMark(bytes, handle, identity);
    if (!reading.ok) {
      return unused(`mark not believed: ${reading.refusal}`, reading.refusal !== newerFormat);
    }
    const { mark } = reading;
    if (mark.contentId !== id)
      return unused(`mark not believed: it is of content ${mark.contentId}`, true);
    if (mark.key === null) return unused('key too long for the mark');
    const status = fileStatus(fd.fd);
    if (status.sizeBytes !== mark.sizeBytes) return unused('size changed');
    const residency = claimedAndAllocated(mark, fd.fd);
    const accessedAtMs = status.mtime.seconds * 1_000;
    return { path: file, content: contentOf(mark, mark.key, handle, residency, accessedAtMs) };
  } catch (error) {
    return unused(toEbbError(error).message);
  }
}

/** What the mark claims, minus every chunk with a hole in it. */
function claimedAndAllocated(mark: Mark, fd: number): Residency {
  const none = Residency.create(mark.sizeBytes, mark.chunkBytes);
  if (mark.bitmap === null) return none;
  let residency: Residency;
  try {
    residency = Residency.decode(mark.bitmap, mark.sizeBytes, mark.chunkBytes);
  } catch (error) {
    if (error instanceof EbbError) return none;
    throw error;
  }
  let offset = 0;
  while (offset < mark.sizeBytes) {
    const hole = seek(fd, offset, Seek.hole);
    if (hole < 0) return none;
    if (hole >= mark.sizeBytes) break;
    const data = seek(fd, hole, Seek.data);
    if (data < 0 && data !== -Errno.ENXIO) return none;
    const end = data < 0 ? mark.sizeBytes : data;
    const { first, count } = residency.chunksOf(hole, end - hole);
    residency.unmark(first, count);
    offset = end;
  }
  return residency;
}

function contentOf(
  mark: Mark,
  key: string,
  handle: Uint8Array,
  residency: Residency,
  accessedAtMs: number,
): FoundContent {
  return {
    id: mark.contentId,
    key,
    version: mark.version,
    sizeBytes: mark.sizeBytes,
    chunkBytes: mark.chunkBytes,
    bitmap: residency.encode(),
    residentBytes: residency.residentBytes,
    complete: residency.complete,
    handle,
    accessedAtMs,
    pinned: mark.pinned,
    lost: false,
  };
}
