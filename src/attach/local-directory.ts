/**
 * A directory of the tree, reached name by name on the private mount: no symlink that a user makes leads out of it,
 * and no access raises an event.
 */
import { freeId } from '../base/stub-facts.ts';
import type { StubFacts } from '../base/stub-facts.ts';
import { toEbbError } from '../base/errors.ts';
import { decodeName, encodeName } from '../base/name.ts';
import type { StubCatalog, StubRecord } from '../catalog/stub-catalog.ts';
import { splitKey } from '../remote/key.ts';
import { DirectoryEntryType, readEntries as readMore } from '../sys/directory-entries.ts';
import type { DirectoryEntry } from '../sys/directory-entries.ts';
import { readSymlink } from '../sys/entries.ts';
import { OpenFlag, duplicateFd, openFd } from '../sys/fd.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { encodedHandleAt } from '../sys/handle.ts';
import { fileStatusAt } from '../sys/stat.ts';
import type { StubStore } from '../tree/stubs/stub-store.ts';
import type { LocalEntry } from './reconcile.ts';
import type { Turns } from './turns.ts';

const directoryFlags = OpenFlag.rdonly | OpenFlag.directory | OpenFlag.nofollow;
const gone: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR', 'ELOOP']);
/** As glibc's readdir(3): about a thousand short names. */
const entriesBytes = 32 * 1024;

/** Opens the directory that has the key's path. Undefined when users moved or deleted it. */
export function openDirectory(rootFd: number, key: string): OwnedFd | undefined {
  using stack = new DisposableStack();
  let directory = stack.use(duplicateFd(rootFd));
  try {
    for (const name of splitKey(key)) {
      const next = stack.use(openFd(encodeName(name), directoryFlags, 0, directory.fd));
      directory.close();
      directory = next;
    }
  } catch (error) {
    if (gone.has(toEbbError(error).code)) return undefined;
    throw error;
  }
  stack.move();
  return directory;
}

export type NameKind = 'file' | 'directory' | 'symlink' | 'other';

export interface NameEntry {
  readonly name: Uint8Array;
  readonly kind: NameKind;
}

/**
 * Name and kind of each entry, without `.` and `..`. The descriptor is not moved. Where the file system tells no kinds,
 * the entries are looked at, in this thread, and what goes meanwhile is left out.
 */
export async function* readEntries(fd: number): AsyncGenerator<NameEntry> {
  using directory = openFd('.', directoryFlags, 0, fd);
  const memory = new Uint8Array(entriesBytes);
  for (;;) {
    const entries = await readMore(directory.fd, memory).catch(unlessRemoved);
    if (entries === undefined) return;
    for (const entry of entries) {
      const kind = kindOf(directory.fd, entry);
      if (kind !== undefined) yield { name: entry.name, kind };
    }
  }
}

/** A directory that users removed has no entries. */
function unlessRemoved(error: unknown): undefined {
  if (toEbbError(error).code !== 'ENOENT') throw error;
}

const toldKinds: ReadonlyMap<number, NameKind> = new Map([
  [DirectoryEntryType.file, 'file'],
  [DirectoryEntryType.directory, 'directory'],
  [DirectoryEntryType.symlink, 'symlink'],
]);

/** Undefined: it has gone. */
function kindOf(fd: number, { name, type }: DirectoryEntry): NameKind | undefined {
  if (type !== DirectoryEntryType.unknown) return toldKinds.get(type) ?? 'other';
  try {
    return kindOfMode(fileStatusAt(fd, name).mode);
  } catch (error) {
    if (toEbbError(error).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** The bits of st_mode that tell the kind, and the kinds (inode(7)). */
const typeMask = 0o170000;
const kindsOfModes: ReadonlyMap<number, NameKind> = new Map([
  [0o100000, 'file'],
  [0o040000, 'directory'],
  [0o120000, 'symlink'],
]);

export function kindOfMode(mode: number): NameKind {
  return kindsOfModes.get(mode & typeMask) ?? 'other';
}

/** EINVAL, ELOOP, ENXIO: it was no symlink any more, or no file but a symlink, or a socket. */
const changedKind: ReadonlySet<string> = new Set(['EINVAL', 'ELOOP', 'ENXIO']);

/** All entries with what reconciling needs to know of them. What goes meanwhile is left out. */
export async function readLocal(
  fd: number,
  parts: { readonly store: StubStore; readonly catalog: StubCatalog; readonly turns: Turns },
): Promise<Map<string, LocalEntry>> {
  const found = new Map<string, LocalEntry>();
  for await (const entry of readEntries(fd)) {
    await parts.turns.pause();
    const name = decodeName(entry.name);
    try {
      found.set(name, localEntry(fd, entry, parts));
    } catch (error) {
      const { code } = toEbbError(error);
      if (changedKind.has(code)) found.set(name, { kind: 'other' });
      else if (code !== 'ENOENT') throw error;
    }
  }
  return found;
}

function localEntry(
  fd: number,
  entry: NameEntry,
  parts: { readonly store: StubStore; readonly catalog: StubCatalog },
): LocalEntry {
  if (entry.kind === 'directory') return { kind: 'directory' };
  if (entry.kind === 'symlink') {
    return { kind: 'symlink', target: decodeName(readSymlink(fd, entry.name)) };
  }
  if (entry.kind !== 'file') return { kind: 'other' };
  const record = parts.catalog.byHandle(encodedHandleAt(fd, entry.name));
  return { kind: 'file', record: record ?? adopt(fd, entry.name, parts) };
}

/** A stub that a crash left without a record gets one, from its mark. */
function adopt(
  fd: number,
  name: Uint8Array,
  { store, catalog }: { readonly store: StubStore; readonly catalog: StubCatalog },
): StubRecord | undefined {
  // A lease of somebody else (a file server's) must not make this wait: such a file is not one of ours.
  const flags = OpenFlag.rdonly | OpenFlag.nofollow | OpenFlag.nonblock | OpenFlag.noatime;
  let facts: StubFacts | undefined;
  try {
    using file = openFd(name, flags, 0, fd);
    facts = store.factsOfMark(file.fd);
  } catch (error) {
    if (toEbbError(error).code === 'EAGAIN') return undefined;
    throw error;
  }
  return facts && recordAdopted(catalog, facts);
}

/** Of a stub that was found without one. */
export function recordAdopted(catalog: StubCatalog, facts: StubFacts): StubRecord {
  const record = recordOf({ ...facts, id: freeId(catalog, facts.id) });
  catalog.insert([record]);
  return record;
}

/** What the catalog keeps of a stub that was just made or found. */
export function recordOf(facts: StubFacts): StubRecord {
  return { ...facts, lost: false, accessedAtMs: 0 };
}
