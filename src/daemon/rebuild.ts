/**
 * Entry point behind `ebb rebuild`: `node rebuild.ts [--dry-run] DIRECTORY` makes the catalog of a cache, or of a tree
 * that is not attached, anew from the marks on its files, and prints one `RebuildResult` as JSON.
 *
 * The new catalog is built beside the old one and put in its place only when it is complete; the old one is kept
 * as `catalog.sqlite.old`. A crash in between leaves no catalog: a tree is not attached then, and is rebuilt again.
 * Whoever holds the lock is alone: a daemon refuses to start meanwhile.
 */
import { existsSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { knownTree, readSecret, stubCatalogPath } from '../attach/tree-layout.ts';
import type { KnownTree } from '../attach/tree-layout.ts';
import { keepEpoch } from '../attach/tree-epoch.ts';
import { isCopy, writePlace } from '../attach/tree-place.ts';
import { openSqliteStubCatalog } from '../catalog/stubs-sqlite/catalog.ts';
import { openSqliteCatalog } from '../catalog/sqlite/catalog.ts';
import { systemClock } from '../base/clock.ts';
import { ebbError, toEbbError } from '../base/errors.ts';
import { OpenFlag, openFd } from '../sys/fd.ts';
import { tryLock } from '../sys/lease.ts';
import { CatalogStamp } from '../tree/catalog-stamp.ts';
import { catalogPath, identifyTree, lockCache, treePath } from '../tree/layout.ts';
import { rebuildCatalog } from '../tree/rebuild.ts';
import { rebuildStubs } from '../tree/stubs/rebuild.ts';
import type { StubRebuildReport, StubRebuildTarget } from '../tree/stubs/rebuild.ts';
import { StubAccess } from '../tree/stubs/stub-access.ts';
import type { RebuildResult } from './helper-api.ts';

/** SQLite keeps these beside a database in WAL mode (sqlite.org/walformat.html). */
const companions = ['', '-wal', '-shm'];

const noCatalog: StubRebuildTarget = {
  byHandle: () => undefined,
  get: () => undefined,
  reserveIds: () => 1,
  insert: () => undefined,
  continueIdsAfter: () => undefined,
  flush: () => undefined,
};

/** Rebuilds, or with `dryRun` only makes sure that it could be done. Never throws. */
export async function rebuild(directory: string, dryRun: boolean): Promise<RebuildResult> {
  try {
    const found = statSync(directory, { throwIfNoEntry: false });
    if (found?.isDirectory() === false) throw ebbError('ENOTDIR', `${directory} is no directory.`);
    const tree = knownTree(directory);
    if (tree === undefined) return await rebuildCache(directory, dryRun);
    return await rebuildTree(directory, tree, dryRun);
  } catch (error) {
    const { code, message } = toEbbError(error);
    return { ok: false, error: message, code, exitCode: code === 'EBUSY' ? 3 : 1 };
  }
}

async function rebuildCache(cacheDirectory: string, dryRun: boolean): Promise<RebuildResult> {
  const remote = remoteOf(cacheDirectory);
  using lock = lockCache(cacheDirectory);
  const identity = identifyTree(cacheDirectory, remote);
  if (lock.fd < 0 || dryRun) return { ok: true, files: 0, residentBytes: 0, skipped: 0 };
  const { contents, residentBytes, ignoredCount } = await replace(
    catalogPath(cacheDirectory),
    async (fresh) => {
      using catalog = openSqliteCatalog(fresh);
      const report = await rebuildCatalog(catalog, cacheDirectory, identity);
      // From now on the one that it replaces is an older one.
      new CatalogStamp(cacheDirectory, catalog, systemClock).renew();
      return report;
    },
  );
  return { ok: true, files: contents, residentBytes, skipped: ignoredCount };
}

/** Nothing watches the tree, and its lock keeps it so: its files are read where they are. */
async function rebuildTree(
  directory: string,
  { ebbDirectory, stateDirectory, treeId, isPlaceKnown }: KnownTree,
  dryRun: boolean,
): Promise<RebuildResult> {
  const seal = { treeId, secret: readSecret(stateDirectory) };
  const flags = OpenFlag.rdonly | OpenFlag.directory | OpenFlag.nofollow;
  using root = openFd(path.join(ebbDirectory, 'data'), flags);
  if (!tryLock(root.fd)) throw ebbError('EBUSY', 'The tree is attached: ebb umount it first.');
  const { hasReflinks: hasPoison } = new StubAccess(root.fd);
  const rebuildInto = async (target: StubRebuildTarget): Promise<StubRebuildReport> => {
    const report = await rebuildStubs({ rootFd: root.fd, seal, hasPoison, target });
    // A mark is of one inode: in a copy none is believed, and it must not become the tree.
    if (!isPlaceKnown && report.stubs === 0 && report.ignoredCount > 0) throw isCopy(directory);
    return report;
  };
  if (dryRun) {
    if (!isPlaceKnown) await rebuildInto(noCatalog);
    return { ok: true, files: 0, residentBytes: 0, skipped: 0 };
  }
  const { stubs, residentBytes, ignoredCount } = await replace(
    stubCatalogPath(stateDirectory),
    async (fresh) => {
      using target = openSqliteStubCatalog(fresh);
      const report = await rebuildInto(target);
      keepEpoch(target, ebbDirectory);
      return report;
    },
  );
  if (!isPlaceKnown) writePlace(stateDirectory, ebbDirectory);
  return { ok: true, files: stubs, residentBytes, skipped: ignoredCount };
}

/** `build` makes the file `fresh`, which becomes `current`. */
async function replace<Report>(
  current: string,
  build: (fresh: string) => Promise<Report>,
): Promise<Report> {
  const fresh = `${current}.new`;
  for (const suffix of companions) rmSync(fresh + suffix, { force: true });
  const report = await build(fresh);
  // The log of the old database must not be beside the new one: it would be applied to it. The old one goes first:
  // without its log it would claim what was released since.
  for (const suffix of companions) {
    if (existsSync(current + suffix)) renameSync(current + suffix, `${current}.old${suffix}`);
  }
  renameSync(fresh, current);
  return report;
}

/** Whose cache it is. Throws ENOENT for directories that are no cache: nothing is made up here. */
function remoteOf(cacheDirectory: string): string {
  const file = path.join(cacheDirectory, 'ebb-tree.json');
  const complete = [file, path.join(cacheDirectory, 'secret'), treePath(cacheDirectory)];
  const missing = complete.find((one) => !existsSync(one));
  if (missing !== undefined) {
    throw ebbError('ENOENT', `${cacheDirectory} is not a cache of Ebb: there is no ${missing}.`);
  }
  try {
    const { remote } = JSON.parse(readFileSync(file, 'utf8')) as { remote?: unknown };
    if (typeof remote === 'string') return remote;
  } catch {
    // Said below.
  }
  throw ebbError('EUCLEAN', `${file} is damaged; without it nobody knows whose cache this is.`);
}

if (import.meta.main) {
  const words = process.argv.slice(2);
  const directory = words.find((word) => !word.startsWith('--')) ?? '.';
  const result = await rebuild(path.resolve(directory), words.includes('--dry-run'));
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
