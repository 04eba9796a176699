/**
 * Entry point behind `ebb rebuild`: `node rebuild.ts [--dry-run] CACHE_DIRECTORY` makes the catalog of a cache anew
 * from the marks on its files, and prints one `RebuildResult` as JSON.
 *
 * The new catalog is built beside the old one and put in its place only when it is complete; the old one is kept
 * as `catalog.sqlite.old`. Whoever holds the cache's lock is alone: a daemon refuses to start meanwhile.
 */
import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { openSqliteCatalog } from '../catalog/sqlite/catalog.ts';
import { ebbError, toEbbError } from '../base/errors.ts';
import { catalogPath, identifyTree, lockCache, treePath } from '../tree/layout.ts';
import { rebuildCatalog } from '../tree/rebuild.ts';
import type { RebuildResult } from './helper-api.ts';

/** SQLite keeps these beside a database in WAL mode (sqlite.org/walformat.html). */
const companions = ['', '-wal', '-shm'];

/** Rebuilds, or with `dryRun` only makes sure that it could be done. Never throws. */
export async function rebuild(cacheDirectory: string, dryRun: boolean): Promise<RebuildResult> {
  try {
    return await rebuildLocked(cacheDirectory, dryRun);
  } catch (error) {
    const { code, message } = toEbbError(error);
    return { ok: false, error: message, code, exitCode: code === 'EBUSY' ? 3 : 1 };
  }
}

async function rebuildLocked(cacheDirectory: string, dryRun: boolean): Promise<RebuildResult> {
  const remote = remoteOf(cacheDirectory);
  using lock = lockCache(cacheDirectory);
  const identity = identifyTree(cacheDirectory, remote);
  if (lock.fd < 0 || dryRun) return { ok: true, files: 0, residentBytes: 0, skipped: 0 };
  const current = catalogPath(cacheDirectory);
  const fresh = `${current}.new`;
  for (const suffix of companions) rmSync(fresh + suffix, { force: true });
  const report = await build(fresh, cacheDirectory, identity);
  // The log of the old database first: beside the new one it would be applied to it.
  for (const suffix of companions.toReversed()) {
    if (existsSync(current + suffix)) renameSync(current + suffix, `${current}.old${suffix}`);
  }
  renameSync(fresh, current);
  const { contents, residentBytes, ignoredCount } = report;
  return { ok: true, files: contents, residentBytes, skipped: ignoredCount };
}

async function build(
  file: string,
  cacheDirectory: string,
  identity: Parameters<typeof rebuildCatalog>[2],
): ReturnType<typeof rebuildCatalog> {
  using catalog = openSqliteCatalog(file);
  return await rebuildCatalog(catalog, cacheDirectory, identity);
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
