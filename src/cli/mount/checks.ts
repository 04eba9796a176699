/** What can be known to be wrong before a daemon is started. Each problem is a sentence with a way out. */
import { lstatSync, readdirSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ebbError } from '../../base/errors.ts';
import { isEbbMount, mountAt, readMountInfo } from '../../base/mount-info.ts';
import { isInside, isRunning, readRunRecords } from '../../base/run-directory.ts';
import { absolutePath } from '../target.ts';
import { UsageError } from '../verb.ts';

/**
 * The remote as the daemon wants it: an http(s) URL as it is, or an absolute path of a directory that exists.
 * Throws UsageError (not a remote) or EbbError (no such directory). Messages never show credentials.
 */
export function checkRemote(remote: string): string {
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(remote)?.[1]?.toLowerCase();
  if (scheme === undefined) return checkDirectoryRemote(absolutePath(remote), remote);
  if (scheme === 'file') return checkDirectoryRemote(pathOfFileUrl(remote), remote);
  if (scheme !== 'http' && scheme !== 'https') {
    throw new UsageError(`Ebb mounts http://, https:// and directories, not ${scheme}://`);
  }
  if (!URL.canParse(remote) || new URL(remote).hostname === '') {
    throw new UsageError(
      'the remote is not a valid URL; it should look like https://example.org/pub/',
    );
  }
  const { hash } = new URL(remote);
  if (hash !== '') throw new UsageError(`the remote URL must not have a fragment (${hash})`);
  return remote;
}

/** Throws UsageError for what names no file of this machine. */
function pathOfFileUrl(remote: string): string {
  try {
    return absolutePath(fileURLToPath(remote));
  } catch {
    throw new UsageError('a file: remote should look like file:///srv/pub');
  }
}

function checkDirectoryRemote(directory: string, typed: string): string {
  const found = statSync(directory, { throwIfNoEntry: false });
  if (found === undefined) {
    const hint = /^[\w.-]+\.[a-z]{2,}(\/|$)/i.test(typed)
      ? `; did you mean https://${typed} ?`
      : '';
    throw ebbError('ENOENT', `The remote directory ${directory} does not exist${hint}`);
  }
  if (!found.isDirectory())
    throw ebbError('ENOTDIR', `The remote ${directory} is not a directory.`);
  return realpathSync(directory);
}

/**
 * The mount point's real path. Throws EbbError with a sentence when nothing can be mounted there; says by `note`
 * what is only remarkable.
 */
export function checkMountPoint(typed: string, note: (sentence: string) => void): string {
  const absolute = absolutePath(typed);
  const mounted = mountAt(readMountInfo(), absolute);
  if (mounted !== undefined && isEbbMount(mounted)) throw alreadyMounted(absolute);
  let found: ReturnType<typeof lstatSync>;
  let real: string;
  try {
    real = realpathSync(absolute);
    found = lstatSync(real);
  } catch (error) {
    throw notUsable(absolute, (error as { code?: unknown }).code);
  }
  if (found === undefined || !found.isDirectory()) {
    throw ebbError('ENOTDIR', `The mount point ${absolute} is not a directory.`);
  }
  if (readRunRecords().some((record) => record.mountPoint === real && isRunning(record))) {
    throw alreadyMounted(real);
  }
  const own = readdirSync(real).length;
  if (own > 0) note(`note: ${real} is not empty; its own ${own} entries are hidden while mounted`);
  return real;
}

function alreadyMounted(mountPoint: string): Error {
  const live = readRunRecords().some((one) => one.mountPoint === mountPoint && isRunning(one));
  return live
    ? ebbError(
        'EBUSY',
        `${mountPoint} is mounted already; take it away with: ebb umount ${mountPoint}`,
      )
    : ebbError(
        'ENOTCONN',
        `A dead mount is on ${mountPoint}; clean it up with: ebb umount ${mountPoint}`,
      );
}

function notUsable(mountPoint: string, code: unknown): Error {
  if (code === 'ENOENT') {
    return ebbError(
      'ENOENT',
      `${mountPoint} does not exist; create it with: mkdir -p ${mountPoint}`,
    );
  }
  if (code === 'ENOTCONN') {
    return ebbError(
      'ENOTCONN',
      `A dead mount is on ${mountPoint}; remove it with: umount -l ${mountPoint}`,
    );
  }
  return ebbError('EACCES', `The mount point ${mountPoint} cannot be used (${String(code)}).`);
}

/**
 * A daemon must never read its own mount: it would wait for itself. Nor may what it keeps show up at its remote:
 * reading that would make more of it without end. `remote`, `mountPoint`: as the checks above gave them;
 * `cacheDirectory`: where the cache is, or is going to be. Throws UsageError.
 */
export function checkNoLoop(remote: string, mountPoint: string, cacheDirectory: string): void {
  checkCachePlace(cacheDirectory, mountPoint);
  const realCache = realPathToBe(cacheDirectory);
  if (remote.startsWith('/')) {
    if (isInside(remote, mountPoint) || isInside(mountPoint, remote)) {
      throw new UsageError(
        `the mount point ${mountPoint} and the remote ${remote} lie within each other`,
      );
    }
    if (isInside(remote, realCache) || isInside(realCache, remote)) {
      throw new UsageError(
        `the cache ${cacheDirectory} and the remote ${remote} lie within each other; ` +
          'name another cache with --cache-dir',
      );
    }
  }
}

/** The part of it that holds for images, too. */
export function checkCachePlace(cacheDirectory: string, mountPoint: string): void {
  const realCache = realPathToBe(cacheDirectory);
  if (isInside(mountPoint, realCache) || isInside(realCache, mountPoint)) {
    throw new UsageError(
      `the cache ${cacheDirectory} and the mount point ${mountPoint} lie within each other`,
    );
  }
}

/** Where symlinks lead to, also of what is not there yet. */
function realPathToBe(file: string): string {
  try {
    return realpathSync(file);
  } catch {
    const parent = path.dirname(file);
    return parent === file ? file : path.join(realPathToBe(parent), path.basename(file));
  }
}
