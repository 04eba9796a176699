/**
 * The directories of a tree (docs/native.md, "Places"): made when it is attached for the first time, found again later,
 * dissolved when it becomes an ordinary directory. Only while nothing is mounted over TREE. Every step can be repeated
 * after a crash: which remote and state belong to a tree is written before the first of its files is moved.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  rmdirSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { ebbError, toEbbError } from '../base/errors.ts';
import { decodeName } from '../base/name.ts';
import { isOursAlone } from '../base/ours-alone.ts';
import { openSqliteStubCatalog } from '../catalog/stubs-sqlite/catalog.ts';
import { renameEntry } from '../sys/entries.ts';
import { AT_FDCWD } from '../sys/fd.ts';
import { makePath } from '../sys/make-path.ts';
import { isTreeId } from '../tree/layout.ts';
import type { MarkSeal } from '../tree/mark.ts';
import { readPrivate, refusal, replacePrivate } from '../tree/private-file.ts';
import { requireNoStubs } from './marked-files.ts';
import { epochName } from './tree-epoch.ts';
import { checkPlace, isPlaceKnown, writePlace } from './tree-place.ts';
import { mayHaveSealed, sealOf } from './tree-seal.ts';

const format = 1;
const secretBytes = 32;
const ebbName = '.ebb';
/** What users see; stubs on their way; poison. */
const parts = ['data', 'new', 'poison'] as const;
const factsName = 'tree.json';
const secretName = 'secret';
/** Stubs of a rehearsal (src/daemon/native/rehearsal.ts), for a moment. */
export const rehearsalName = 'rehearsal';
/** It is the file system's: e2fsck(8) wants it where it is. */
const lostAndFound = 'lost+found';

export interface TreeRequest {
  /** Absolute real path of the directory. */
  readonly tree: string;
  /** Identity without credentials; undefined: the one it belongs to. */
  readonly remote: string | undefined;
  /** Holds one directory for each tree. Undefined: where this tree's is, else `stateDefault`. */
  readonly stateParent: string | undefined;
  readonly stateDefault: string;
}

export interface TreePlaces {
  readonly treeId: string;
  readonly remote: string;
  readonly ebbDirectory: string;
  readonly stateDirectory: string;
  /** It was an ordinary directory before. */
  readonly isNew: boolean;
}

interface TreeFacts {
  readonly format: number;
  readonly treeId: string;
  readonly remote: string;
  readonly stateDirectory: string;
  /** Which secret it is (tree-seal.ts). Absent in what older Ebbs wrote. */
  readonly seal?: string;
}

/**
 * Makes a tree of a directory, or finds out which one it is, and moves what users put beside it into it. Throws EEXIST
 * when it belongs to another remote, is a copy of a tree or a name is taken, EINVAL when a remote must be named,
 * EUCLEAN, EPROTO, ENOENT (its state or its catalog is gone), EACCES (others can read its secret, or made or can enter
 * its `.ebb`), EBUSY (a mount point is in it), and what the file system says.
 */
export function prepareTree(request: TreeRequest): TreePlaces {
  const { tree } = request;
  const ebbDirectory = path.join(tree, ebbName);
  const known = readFacts(ebbDirectory);
  const facts = known ?? newFacts(request);
  const { treeId, remote, stateDirectory } = facts;
  if (request.remote !== undefined && request.remote !== remote) {
    throw ebbError('EEXIST', `${tree} belongs to ${remote}, not to ${request.remote}`);
  }
  if (known === undefined) {
    makeState(stateDirectory);
    if (!isThere(ebbDirectory)) mkdirSync(ebbDirectory, { mode: 0o700 });
    writePlace(stateDirectory, ebbDirectory);
    writeFacts(ebbDirectory, sealed(facts));
  } else {
    checkState(facts, ebbDirectory, request.stateParent);
    checkPlace(stateDirectory, tree, ebbDirectory);
    requireCatalog(stateDirectory, tree);
    if (known.seal === undefined) writeFacts(ebbDirectory, sealed(facts));
  }
  for (const part of parts) {
    const directory = path.join(ebbDirectory, part);
    if (existsSync(directory)) continue;
    mkdirSync(directory, { mode: 0o700 });
    if (part === 'data') copyOwner(tree, directory);
  }
  moveEntries(tree, path.join(ebbDirectory, 'data'), [ebbName, lostAndFound]);
  return { treeId, remote, ebbDirectory, stateDirectory, isNew: known === undefined };
}

/** A tree that nothing serves. */
export interface KnownTree extends TreePlaces {
  /** False: it may be a copy (tree-place.ts), in which no mark is right. */
  readonly isPlaceKnown: boolean;
}

/**
 * The tree that a directory is while nothing serves it; undefined: none. Throws EUCLEAN, EPROTO, ENOENT (its state is
 * gone), EEXIST (a copy).
 */
export function knownTree(tree: string): KnownTree | undefined {
  const ebbDirectory = path.join(tree, ebbName);
  const facts = readFacts(ebbDirectory);
  if (facts === undefined) return undefined;
  const { treeId, remote, stateDirectory } = facts;
  checkState(facts, ebbDirectory, undefined);
  return {
    treeId,
    remote,
    ebbDirectory,
    stateDirectory,
    isNew: false,
    isPlaceKnown: isPlaceKnown(stateDirectory, tree, ebbDirectory),
  };
}

/** The 32 bytes that seal the tree's marks. EUCLEAN when they are not 32, EACCES when others can read them. */
export function readSecret(stateDirectory: string): Uint8Array {
  const file = path.join(stateDirectory, secretName);
  const secret = readPrivate(file, secretBytes);
  if (secret.length === secretBytes) return Uint8Array.from(secret);
  throw refusal('EUCLEAN', `${file} is damaged: it has ${secret.length} bytes`);
}

function sealed(facts: TreeFacts): TreeFacts {
  return { ...facts, seal: sealOf(secretOf(facts)) };
}

function secretOf({ treeId, stateDirectory }: TreeFacts): MarkSeal {
  return { treeId, secret: readSecret(stateDirectory) };
}

export function stubCatalogPath(stateDirectory: string): string {
  return path.join(stateDirectory, 'catalog.sqlite');
}

/**
 * Throws ENOENT when a tree has lost its catalog. An empty one in its place would know nothing of the stubs that users
 * moved, and of those in directories that are complete by then.
 */
export function requireCatalog(stateDirectory: string, tree: string): void {
  const file = stubCatalogPath(stateDirectory);
  if ((statSync(file, { throwIfNoEntry: false })?.size ?? 0) > 0) return;
  throw ebbError(
    'ENOENT',
    `the catalog of this tree is gone: there is no ${file}. First: ebb rebuild ${tree}, which makes it anew from ` +
      'the marks on the files',
  );
}

/**
 * An ordinary directory again: all files back to where they were, nothing of Ebb left. Throws EBUSY when a stub is
 * among them, EEXIST when a name in its root is taken outside of it, ENOTEMPTY when a crash left files in the staging
 * directory, which may be a user's; nothing was done then. Opens no file of the tree: its daemon would wait for itself.
 */
export async function dissolveTree(
  tree: string,
  { treeId, stateDirectory }: Pick<TreePlaces, 'treeId' | 'stateDirectory'>,
): Promise<void> {
  const ebbDirectory = path.join(tree, ebbName);
  const data = path.join(ebbDirectory, 'data');
  const staging = path.join(ebbDirectory, 'new');
  await requireNoStubs(ebbDirectory, { treeId, secret: readSecret(stateDirectory) });
  if (readdirSync(staging).length > 0) {
    throw ebbError('ENOTEMPTY', `${staging} is not empty: it may be a user's`);
  }
  if (hasOwnName(data)) throw ebbError('EEXIST', ownNameProblem);
  leaveLostAndFound(tree, data);
  moveEntries(data, tree, []);
  copyOwner(data, tree);
  rmdirSync(data);
  rmdirSync(staging);
  for (const part of ['poison', 'times', rehearsalName, epochName, `${epochName}.new`]) {
    rmSync(path.join(ebbDirectory, part), { recursive: true, force: true });
  }
  rmSync(path.join(ebbDirectory, factsName));
  rmdirSync(ebbDirectory);
  rmSync(stateDirectory, { recursive: true, force: true });
}

/** Of a tree with a `.ebb` of a user's in its root. */
export const ownNameProblem =
  "the name .ebb in the root of a tree is Ebb's when the tree is an ordinary directory again: rename it first";

/** `data`: the root of a tree's data. */
export function hasOwnName(data: string): boolean {
  return lstatSync(path.join(data, ebbName), { throwIfNoEntry: false }) !== undefined;
}

/** A remote that is the root of a file system has one, and the tree's own file system may have another. */
function leaveLostAndFound(tree: string, data: string): void {
  if (!existsSync(path.join(tree, lostAndFound))) return;
  try {
    rmdirSync(path.join(data, lostAndFound));
  } catch (error) {
    const { code } = toEbbError(error);
    if (code === 'ENOENT') return;
    throw ebbError(
      'EEXIST',
      `${lostAndFound} is taken by the file system: rename the tree's first`,
    );
  }
}

/**
 * Whether there is a `.ebb`. The directory around it may belong to a user, who could have made one: what is in it is
 * believed and written only when nobody else had a hand in it. Throws EACCES.
 */
function isThere(ebbDirectory: string): boolean {
  const found = lstatSync(ebbDirectory, { throwIfNoEntry: false });
  if (found === undefined) return false;
  if (found.isDirectory() && isOursAlone(found)) return true;
  throw refusal(
    'EACCES',
    `${ebbDirectory} is not a directory that only user ${process.geteuid?.()} owns and enters (mode 0700)`,
    'If a tree was attached here, put its owner and mode right; else move it away.',
  );
}

function readFacts(ebbDirectory: string): TreeFacts | undefined {
  const file = path.join(ebbDirectory, factsName);
  if (!isThere(ebbDirectory) || !existsSync(file)) return undefined;
  const facts = parseFacts(readFileSync(file, 'utf8'));
  if (facts === undefined) {
    throw ebbError('EUCLEAN', `${file} is damaged; without it nobody knows what the tree is.`);
  }
  if (facts.format <= format) return facts;
  throw ebbError('EPROTO', `${ebbDirectory} was made by a newer Ebb (${facts.format}).`);
}

function parseFacts(text: string): TreeFacts | undefined {
  try {
    const facts = JSON.parse(text) as Partial<TreeFacts>;
    const { treeId, remote, stateDirectory, seal } = facts;
    if (
      typeof facts.format === 'number' &&
      isTreeId(treeId) &&
      typeof remote === 'string' &&
      typeof stateDirectory === 'string' &&
      (seal === undefined || typeof seal === 'string')
    ) {
      const known = { format: facts.format, treeId, remote, stateDirectory };
      return seal === undefined ? known : { ...known, seal };
    }
  } catch {
    // Damaged.
  }
  return undefined;
}

function newFacts({ tree, remote, stateParent, stateDefault }: TreeRequest): TreeFacts {
  if (remote === undefined) {
    throw ebbError('EINVAL', `${tree} was never attached: name the remote, too`);
  }
  const treeId = randomUUID();
  return { format, treeId, remote, stateDirectory: path.join(stateParent ?? stateDefault, treeId) };
}

function makeState(stateDirectory: string): void {
  makePath(stateDirectory, 0o700);
  const secret = path.join(stateDirectory, secretName);
  try {
    writeFileSync(secret, randomBytes(secretBytes), { mode: 0o600, flag: 'wx', flush: true });
    openSqliteStubCatalog(stubCatalogPath(stateDirectory))[Symbol.dispose]();
  } catch (error) {
    rmSync(stateDirectory, { recursive: true, force: true });
    throw error;
  }
}

function checkState(facts: TreeFacts, ebbDirectory: string, stateParent: string | undefined): void {
  const { stateDirectory, seal } = facts;
  if (stateParent !== undefined && path.dirname(stateDirectory) !== stateParent) {
    throw ebbError('EINVAL', `the state of this tree is in ${path.dirname(stateDirectory)}`);
  }
  const secret = path.join(stateDirectory, secretName);
  if (!existsSync(secret)) {
    throw ebbError(
      'ENOENT',
      `the state of this tree is gone: there is no ${secret}. Put the state directory back from a copy`,
    );
  }
  const found = secretOf(facts);
  const isRight =
    seal === undefined
      ? mayHaveSealed(found, path.join(ebbDirectory, 'data'))
      : seal === sealOf(found);
  if (!isRight) {
    throw refusal('EUCLEAN', `${secret} is not the one that sealed the marks of this tree`);
  }
}

function writeFacts(ebbDirectory: string, facts: TreeFacts): void {
  const file = path.join(ebbDirectory, factsName);
  replacePrivate(file, `${JSON.stringify(facts, undefined, 2)}\n`);
}

/** Users see the mode and the owner of the directory that shows its content. */
function copyOwner(from: string, to: string): void {
  const { mode, uid, gid } = lstatSync(from);
  chownSync(to, uid, gid);
  chmodSync(to, mode & 0o7777);
}

function moveEntries(from: string, to: string, staysBehind: readonly string[]): void {
  const names = readdirSync(from, { encoding: 'buffer' }).filter(
    (name) => !staysBehind.includes(decodeName(name)),
  );
  for (const name of names) {
    try {
      renameEntry(AT_FDCWD, inDirectory(from, name), AT_FDCWD, inDirectory(to, name), 'keep');
    } catch (thrown) {
      const { code, message } = toEbbError(thrown);
      const what = `${path.join(from, decodeName(name))} cannot be moved to ${to}`;
      const why = code === 'EEXIST' ? 'the name is taken there' : message;
      throw ebbError(code, `${what}: ${why}`, { cause: thrown });
    }
  }
}

function inDirectory(directory: string, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${directory}/`), name]);
}
