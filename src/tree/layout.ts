/**
 * The files of a cache directory, and taking possession of it.
 *
 *   <cache>/lock           flock(2) of the one daemon; holds its pid for the message to the second one
 *   <cache>/secret         0600, 32 random bytes: seals the marks
 *   <cache>/handle-secret  0600: makes file handles and tokens (handle-secret.ts)
 *   <cache>/ebb-tree.json  format, tree id, remote
 *   <cache>/stamp          tells the newest catalog from older ones (catalog-stamp.ts)
 *   <cache>/catalog.sqlite the catalog (opened by the daemon)
 *   <cache>/tree/<n>/<id>  the contents; n: the id divided by 4,096, hexadecimal
 */
import { randomBytes, randomUUID } from 'node:crypto';
import {
  existsSync,
  fstatSync,
  lstatSync,
  readFileSync,
  readdirSync,
  rmSync,
  rmdirSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';

import { ebbError, toEbbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import { OpenFlag, openFd } from '../sys/fd.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { tryLock } from '../sys/lease.ts';
import { makePath } from '../sys/make-path.ts';
import { filesystemStatus } from '../sys/statfs.ts';
import { handleSecretName } from './handle-secret.ts';
import { replacePrivate } from './private-file.ts';

const treeFormat = 1;
const secretBytes = 32;
const treeFactsName = 'ebb-tree.json';
/**
 * Contents per directory. Ids of one listing follow each other, so a walk fills one directory after the other: spread
 * over many at once, ext4 places each directory's inodes in a group of its own, and creating costs twice the time.
 */
const directoryIds = 4_096;

export interface TreeIdentity {
  readonly treeId: string;
  /** Without credentials; a cache belongs to one remote for ever. */
  readonly remote: string;
  readonly secret: Uint8Array;
}

export function catalogPath(cacheDirectory: string): string {
  return path.join(cacheDirectory, 'catalog.sqlite');
}

export function treePath(cacheDirectory: string): string {
  return `${cacheDirectory}/tree`;
}

/** The directory that holds the content's file; made with the first one. */
export function contentDirectory(cacheDirectory: string, id: number): string {
  return `${treePath(cacheDirectory)}/${Math.floor(id / directoryIds).toString(16)}`;
}

export function contentPath(cacheDirectory: string, id: number): string {
  return `${contentDirectory(cacheDirectory, id)}/${id}`;
}

/** What was there before a start: only what it has made itself may go with it. */
export type Former = 'nothing' | 'empty directory' | 'something';

/**
 * Makes the directories that are missing; returns what was there. Throws EACCES, ENOSPC, EROFS, ENOTDIR, and ENOTEMPTY
 * where somebody else has what Ebb would take for its own.
 */
export function makeDirectories(cacheDirectory: string): Former {
  requireDirectory(cacheDirectory);
  requireNothingOfOthers(cacheDirectory);
  const former = formerOf(cacheDirectory);
  try {
    makePath(cacheDirectory, 0o700);
    makePath(treePath(cacheDirectory), 0o700);
  } catch (error) {
    throw directoryError(cacheDirectory, error);
  }
  return former;
}

function formerOf(cacheDirectory: string): Former {
  if (lstatSync(cacheDirectory, { throwIfNoEntry: false }) === undefined) return 'nothing';
  return isEmptyDirectory(cacheDirectory) ? 'empty directory' : 'something';
}

function requireDirectory(cacheDirectory: string): void {
  let isOther: boolean;
  try {
    const status = statSync(cacheDirectory, { throwIfNoEntry: false });
    isOther = status !== undefined && !status.isDirectory();
  } catch (error) {
    throw directoryError(cacheDirectory, error);
  }
  if (!isOther) return;
  const message = `The cache directory ${cacheDirectory} is no directory: name another one.`;
  throw ebbError('ENOTDIR', message, { retryable: false });
}

/** What a daemon empties or writes over, and how it is left by a start that went no further. */
const takenOver: Readonly<Record<string, (file: string) => boolean>> = {
  lock: (file) => lstatSync(file).isFile() && /^\d{0,10}\n?$/.test(readFileSync(file, 'latin1')),
  spool: isEmptyDirectory,
  tree: isEmptyDirectory,
};

/** A cache says that it is one before anything is put into it. */
function requireNothingOfOthers(cacheDirectory: string): void {
  if (existsSync(path.join(cacheDirectory, treeFactsName))) return;
  for (const [name, isAsWeLeaveIt] of Object.entries(takenOver)) {
    const file = path.join(cacheDirectory, name);
    if (lstatSync(file, { throwIfNoEntry: false }) === undefined || isAsWeLeaveIt(file)) continue;
    throw ebbError(
      'ENOTEMPTY',
      `${cacheDirectory} is not a cache of Ebb, and has something else called ${name} in it: name an empty directory.`,
      { retryable: false },
    );
  }
}

function isEmptyDirectory(file: string): boolean {
  return lstatSync(file).isDirectory() && readdirSync(file).length === 0;
}

/** Why a directory cannot be made, better than mkdir says it (Node reports ENOENT on a read-only file system). */
function directoryError(cacheDirectory: string, error: unknown): EbbError {
  let existing = path.resolve(cacheDirectory);
  while (!existsSync(existing)) existing = path.dirname(existing);
  const known = toEbbError(error, 'EIO');
  const where = `The cache directory ${cacheDirectory} cannot be made`;
  if (filesystemStatus(existing).readOnly) {
    return ebbError('EROFS', `${where}: its file system is read-only.`, { cause: error });
  }
  return ebbError(known.code, `${where}: ${known.message}`, { cause: error });
}

/**
 * After a start that went no further (a mistyped URL): the cache belongs to no remote yet, and what was made for it
 * goes. Its lock is held, its catalog is closed. Content, of which the catalog may have been lost, stays as it is.
 */
export function removeUnused(cacheDirectory: string, former: Former): void {
  if (!isEmptyDirectory(treePath(cacheDirectory))) return;
  rmSync(path.join(cacheDirectory, treeFactsName), { force: true });
  if (former === 'something') return;
  const catalog = path.basename(catalogPath(cacheDirectory));
  // Who waits for the lock makes all of it anew: it goes last.
  const names = [catalog, `${catalog}-wal`, `${catalog}-shm`, handleSecretName, 'secret', 'lock'];
  for (const name of names) rmSync(path.join(cacheDirectory, name), { force: true });
  const directories = [path.join(cacheDirectory, 'spool'), treePath(cacheDirectory)];
  if (former === 'nothing') directories.push(cacheDirectory);
  for (const directory of directories) {
    try {
      rmdirSync(directory);
    } catch {
      // It is not there, or somebody else has put something into it.
    }
  }
}

/** Takes the lock for as long as the descriptor is open. Throws EBUSY with a sentence that names the holder. */
export function lockCache(cacheDirectory: string): OwnedFd {
  const lockPath = path.join(cacheDirectory, 'lock');
  for (;;) {
    const lock = openFd(lockPath, OpenFlag.rdwr | OpenFlag.creat | OpenFlag.nofollow, 0o600);
    if (!tryLock(lock.fd)) {
      lock.close();
      const pid = readFileSync(lockPath, 'latin1').trim();
      throw ebbError(
        'EBUSY',
        `Another daemon (pid ${/^\d+$/.test(pid) ? pid : 'unknown'}) uses the cache ${cacheDirectory}.`,
        { retryable: false },
      );
    }
    if (isStillAt(lock, lockPath)) {
      writeFileSync(lockPath, `${process.pid}\n`);
      return lock;
    }
    // Who had it took the cache away.
    lock.close();
  }
}

function isStillAt({ fd }: OwnedFd, file: string): boolean {
  const there = statSync(file, { bigint: true, throwIfNoEntry: false });
  return there !== undefined && there.ino === fstatSync(fd, { bigint: true }).ino;
}

/**
 * Reads who this tree is, or makes it up on first use; holds the lock already. Throws EEXIST when the cache
 * belongs to another remote, EPROTO when a newer Ebb made it, EUCLEAN when its files make no sense.
 */
export function identifyTree(cacheDirectory: string, remote: string): TreeIdentity {
  const secret = readOrCreate(path.join(cacheDirectory, 'secret'), () => randomBytes(secretBytes));
  if (secret.length !== secretBytes) {
    throw ebbError(
      'EUCLEAN',
      `${cacheDirectory}/secret is damaged: it has ${secret.length} bytes.`,
    );
  }
  const file = path.join(cacheDirectory, treeFactsName);
  const made = (): Uint8Array => {
    const facts = { format: treeFormat, treeId: randomUUID(), remote };
    return Buffer.from(`${JSON.stringify(facts, undefined, 2)}\n`);
  };
  const { format, treeId, remote: owner } = parseFacts(readOrCreate(file, made), file);
  if (format > treeFormat) {
    throw ebbError('EPROTO', `The cache ${cacheDirectory} was made by a newer Ebb (${format}).`);
  }
  if (owner !== remote) {
    throw ebbError('EEXIST', `The cache ${cacheDirectory} belongs to ${owner}, not to ${remote}.`);
  }
  return { treeId, remote, secret: Uint8Array.from(secret) };
}

interface TreeFacts {
  readonly format: number;
  readonly treeId: string;
  readonly remote: string;
}

/** Whether it has the form of what `randomUUID` gives. */
export function isTreeId(value: unknown): value is string {
  return typeof value === 'string' && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(value);
}

function parseFacts(bytes: Uint8Array, file: string): TreeFacts {
  try {
    const facts = JSON.parse(Buffer.from(bytes).toString()) as Partial<TreeFacts>;
    const { format, treeId, remote } = facts;
    if (typeof format === 'number' && isTreeId(treeId) && typeof remote === 'string') {
      return { format, treeId, remote };
    }
  } catch {
    // Said below.
  }
  throw ebbError(
    'EUCLEAN',
    `${file} is damaged. If the cache may start empty, remove its directory.`,
  );
}

/** Appears whole or not at all. */
function readOrCreate(file: string, make: () => Uint8Array): Uint8Array {
  try {
    return readFileSync(file);
  } catch (error) {
    if (toEbbError(error).code !== 'ENOENT') throw toEbbError(error);
  }
  try {
    const bytes = make();
    replacePrivate(file, bytes);
    return bytes;
  } catch (error) {
    throw toEbbError(error);
  }
}
