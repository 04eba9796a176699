/**
 * Files that have a mark, wherever users put them. What the catalog says is not asked: it may have lost records, and a
 * stub that nobody knows must not become a file.
 */
import { ebbError, toEbbError } from '../base/errors.ts';
import { decodeName } from '../base/name.ts';
import { joinKey } from '../remote/key.ts';
import { OpenFlag, openFd } from '../sys/fd.ts';
import { handleAt } from '../sys/handle.ts';
import type { FileHandle } from '../sys/handle.ts';
import type { MarkSeal } from '../tree/mark.ts';
import { markAt, mayBeStub } from '../tree/stubs/stub-mark.ts';
import { openDirectory, readEntries } from './local-directory.ts';
import type { Place } from './place.ts';
import { Turns } from './turns.ts';

export interface MarkedFile {
  /** Below the directory that is walked. */
  readonly path: string;
  /** Until the next one is asked for. */
  readonly at: Place;
  readonly mark: Uint8Array;
  readonly handle: FileHandle;
}

/**
 * All below an open directory, no symlink followed, nothing opened but directories: no event is raised. What goes
 * meanwhile is left out.
 */
export async function* markedFiles(rootFd: number): AsyncGenerator<MarkedFile> {
  const turns = new Turns();
  const waiting = [''];
  for (let inside = waiting.pop(); inside !== undefined; inside = waiting.pop()) {
    using directory = openDirectory(rootFd, inside);
    if (directory === undefined) continue;
    for await (const entry of readEntries(directory.fd)) {
      await turns.pause();
      const path = joinKey(inside, decodeName(entry.name));
      if (entry.kind === 'directory') waiting.push(path);
      if (entry.kind !== 'file') continue;
      const found = markedFile({ fd: directory.fd, name: entry.name });
      if (found !== undefined) yield { path, ...found };
    }
  }
}

function markedFile(at: {
  readonly fd: number;
  readonly name: Uint8Array;
}): Omit<MarkedFile, 'path'> | undefined {
  try {
    const mark = markAt(at.fd, at.name);
    return mark === undefined ? undefined : { at, mark, handle: handleAt(at.fd, at.name) };
  } catch (error) {
    if (toEbbError(error).code === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * Throws EBUSY, naming one, when anything in a tree's directory is or may be a stub of the tree. Nobody may be at work
 * in it; who opened a file here would wait for himself (I8).
 */
export async function requireNoStubs(ebbDirectory: string, seal: MarkSeal): Promise<void> {
  const flags = OpenFlag.rdonly | OpenFlag.directory | OpenFlag.nofollow;
  using ebb = openFd(ebbDirectory, flags);
  for (const part of ['data', 'new']) {
    using directory = openFd(part, flags, 0, ebb.fd);
    for await (const { path, mark, handle } of markedFiles(directory.fd)) {
      if (!mayBeStub(mark, handle, directory.fd, seal)) continue;
      const shown = part === 'data' ? path : `.ebb/${part}/${path}`;
      throw ebbError('EBUSY', `${shown} has no content here that is known to be right`);
    }
  }
}
