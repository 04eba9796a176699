/** What a crash left in the staging directory. */
import { hash } from 'node:crypto';
import { decodeName } from '../base/name.ts';
import { StubChange } from '../base/stub-facts.ts';
import type { StubCatalog, StubRecord } from '../catalog/stub-catalog.ts';
import { parentKey } from '../remote/key.ts';
import { readSymlink, removeFile } from '../sys/entries.ts';
import { OpenFlag, openFd } from '../sys/fd.ts';
import { encodedHandleAt } from '../sys/handle.ts';
import { fileStatus, fileStatusAt, sameTime } from '../sys/stat.ts';
import type { StubStore } from '../tree/stubs/stub-store.ts';
import { openDirectory, readEntries } from './local-directory.ts';
import type { NameEntry } from './local-directory.ts';
import { saveBeside } from './place.ts';
import type { Place } from './place.ts';
import { isAsItCame } from './untouched.ts';

export interface SweepParts {
  readonly store: StubStore;
  readonly catalog: StubCatalog;
  /** As in `PopulateParts`. */
  readonly usersRecorded?: (id: number) => Promise<() => boolean>;
}

const ownSymlinkPrefix = 'symlink-';

/**
 * The staging name of a symlink on its way to a name, or from it. `targets`: where the links lead that Ebb puts there.
 * What a crash leaves under such a name is Ebb's if it leads to one of them, else it may be a user's, who was quicker.
 * (A user's that leads where Ebb's does is not told from it here or anywhere.)
 */
export function symlinkName(unique: string, targets: readonly string[]): string {
  return [`${ownSymlinkPrefix}${unique}`, ...targets.map(digest)].join('-');
}

function isOwnSymlink(stagingFd: number, { kind, name: bytes }: NameEntry): boolean {
  const name = decodeName(bytes);
  if (kind !== 'symlink' || !name.startsWith(ownSymlinkPrefix)) return false;
  return name.includes(`-${digest(decodeName(readSymlink(stagingFd, bytes)))}`);
}

/** 128 bits; of the text as it is, as it may not be one that can be encoded. */
function digest(target: string): string {
  return hash('sha256', Buffer.from(target, 'utf16le')).slice(0, 32);
}

/**
 * Deletes the stubs and symlinks of an interrupted run that never got their names, and the stubs that lost them to a
 * new version. All else may be a user's, whom a crash between two renames left without his name: it gets one,
 * `ebb-saved-...`, in the directory that it came from, or in the tree's root. Nobody else is at work in the staging
 * directory.
 */
export async function sweepStaging(parts: SweepParts): Promise<void> {
  const { store, catalog } = parts;
  for await (const entry of readEntries(store.stagingFd)) {
    const at = { fd: store.stagingFd, name: entry.name };
    if (isOwnSymlink(at.fd, entry)) {
      removeFile(at.fd, at.name);
      continue;
    }
    const record =
      entry.kind === 'file' ? catalog.byHandle(encodedHandleAt(at.fd, at.name)) : undefined;
    if (record !== undefined) {
      if (await isDisposable(parts, at, record)) await remove(parts, at, record);
      else saveInDirectory(store, at, parentKey(record.key));
      continue;
    }
    const marked = entry.kind === 'file' ? markedAt(store, at) : undefined;
    if (marked === undefined) saveInDirectory(store, at, undefined);
    // What has a mark and was changed stays here: it cannot be read without a record, and its record would be wrong.
    else if (marked.isUntouched) removeFile(at.fd, at.name);
  }
}

async function isDisposable(
  { store, usersRecorded }: SweepParts,
  at: Place,
  { id, lost }: StubRecord,
): Promise<boolean> {
  await store.settled(id);
  // Last, as in DirectoryWork.
  const isStill = (await usersRecorded?.(id)) ?? (() => true);
  const file = store.get(id);
  if (file === undefined || lost || file.change !== StubChange.clean) return false;
  if (isAsItCame(store, at, file) && (!file.residency.complete || isStill())) return true;
  if (!store.unchanged(file)) await store.setChange(file, StubChange.dirty);
  return false;
}

async function remove(
  { store, catalog }: SweepParts,
  at: Place,
  { id, key }: StubRecord,
): Promise<void> {
  // A further name of a hard link: the file itself is in its place.
  const isLastName = fileStatusAt(at.fd, at.name).nlink === 1;
  removeFile(at.fd, at.name);
  if (!isLastName) return;
  await store.forget([id]);
  // Not as one that a user deleted: it may come back.
  catalog.setKnown([{ key, version: '', id: 0 }]);
}

interface Marked {
  /** As it was made, by the mark. */
  readonly isUntouched: boolean;
}

/** Undefined: not a stub. */
function markedAt(store: StubStore, at: Place): Marked | undefined {
  const flags = OpenFlag.rdonly | OpenFlag.nofollow | OpenFlag.nonblock | OpenFlag.noatime;
  using file = openFd(at.name, flags, 0, at.fd);
  const facts = store.factsOfMark(file.fd);
  if (facts === undefined) return undefined;
  const { sizeBytes, mtime } = fileStatus(file.fd);
  const recorded = { seconds: facts.mtimeSeconds, nanoseconds: facts.mtimeNanoseconds };
  const isSame = sizeBytes === facts.sizeBytes && sameTime(mtime, recorded);
  return { isUntouched: isSame && facts.change === StubChange.clean };
}

function saveInDirectory(store: StubStore, at: Place, key: string | undefined): void {
  using directory = openDirectory(store.rootFd, key ?? '') ?? openDirectory(store.rootFd, '');
  if (directory !== undefined) saveBeside(at, directory.fd);
}
