/**
 * A directory of the tree, reached name by name on the private mount: no symlink that a user makes leads out of it,
 * and no access raises an event.
 */
import { freeId } from '../base/stub-facts.ts';
import type { StubFacts } from '../base/stub-facts.ts';
import type { Dirent } from 'node:fs';
import { opendir } from 'node:fs/promises';
import { EbbError, toEbbError } from '../base/errors.ts';
import { decodeName, encodeName } from '../base/name.ts';
import type { StubCatalog, StubRecord } from '../catalog/stub-catalog.ts';
import { splitKey } from '../remote/key.ts';
import { readSymlink } from '../sys/entries.ts';
import { OpenFlag, duplicateFd, openFd } from '../sys/fd.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { encodedHandleAt } from '../sys/handle.ts';
import type { StubStore } from '../tree/stubs/stub-store.ts';
import type { LocalEntry } from './reconcile.ts';
import type { Turns } from './turns.ts';

const directoryFlags = OpenFlag.rdonly | OpenFlag.directory | OpenFlag.nofollow;
const gone: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR', 'ELOOP']);
/** Names read from the kernel at once. */
const namesPerRead = 256;

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

/** Name (raw bytes) and kind of each entry, without `.` and `..`. The descriptor is not moved. */
export async function* readEntries(fd: number): AsyncGenerator<Dirent<Buffer>> {
  const entries = await opendir(`/proc/self/fd/${fd}`, {
    // The typings know only text encodings; Node gives the bytes of names as Buffers (fs.opendir).
    encoding: 'buffer' as BufferEncoding,
    bufferSize: namesPerRead,
  });
  for await (const entry of entries) yield entry as unknown as Dirent<Buffer>;
}

/** All entries with what reconciling needs to know of them. What goes meanwhile is left out. */
export async function readLocal(
  fd: number,
  parts: { readonly store: StubStore; readonly catalog: StubCatalog; readonly turns: Turns },
): Promise<Map<string, LocalEntry>> {
  const found = new Map<string, LocalEntry>();
  for await (const entry of readEntries(fd)) {
    await parts.turns.pause();
    try {
      found.set(decodeName(entry.name), localEntry(fd, entry, parts));
    } catch (error) {
      if (!(error instanceof EbbError && error.code === 'ENOENT')) throw error;
    }
  }
  return found;
}

function localEntry(
  fd: number,
  entry: Dirent<Buffer>,
  parts: { readonly store: StubStore; readonly catalog: StubCatalog },
): LocalEntry {
  if (entry.isDirectory()) return { kind: 'directory' };
  if (entry.isSymbolicLink()) {
    return { kind: 'symlink', target: decodeName(readSymlink(fd, entry.name)) };
  }
  if (!entry.isFile()) return { kind: 'other' };
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
