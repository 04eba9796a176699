/**
 * The tree's real files, for the control API: found name by name through the private mount, so that no event is raised
 * and no symlink leads out. What a file is says the catalog, by the file's handle; nothing is opened but directories.
 */
import { openDirectory, readEntries } from '../../attach/local-directory.ts';
import { ebbError, toEbbError } from '../../base/errors.ts';
import { decodeName, encodeName } from '../../base/name.ts';
import type { StubCatalog, StubRecord } from '../../catalog/stub-catalog.ts';
import { readSymlink } from '../../sys/entries.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { encodedHandleAt } from '../../sys/handle.ts';
import { fileStatus, fileStatusAt } from '../../sys/stat.ts';
import type { FileStatus } from '../../sys/stat.ts';
import type { PathsRequest } from '../api.ts';
import { fixedDirectory, globPathMatcher } from '../glob.ts';

/** Recursive verbs go no deeper; each level keeps one descriptor. */
const depthMax = 1_024;
/** Entries looked at before others of this thread get their turn: about a millisecond. */
const entriesPerTurn = 64;
/** Names of one directory that are sorted in memory. */
const namesMax = 10_000_000;

export interface TreeEntry {
  /** Relative to the tree, '' for its root. */
  readonly path: string;
  readonly kind: 'file' | 'directory' | 'symlink' | 'other';
  readonly status: FileStatus;
  /** Of files that came from the remote, wherever they are now. */
  readonly record: StubRecord | undefined;
  readonly target: string | undefined;
}

const S_IFMT = 0o170000;
const kinds: ReadonlyMap<number, TreeEntry['kind']> = new Map([
  [0o100000, 'file'],
  [0o040000, 'directory'],
  [0o120000, 'symlink'],
]);

export class TreeFiles {
  readonly #rootFd: number;
  readonly #catalog: StubCatalog;

  constructor(rootFd: number, catalog: StubCatalog) {
    this.#rootFd = rootFd;
    this.#catalog = catalog;
  }

  /** The entry of a path. Throws ENOENT with the path in the sentence. */
  entry(path: string): TreeEntry {
    if (path === '') return this.#root();
    const slash = path.lastIndexOf('/');
    const name = encodeName(path.slice(slash + 1));
    try {
      using directory = this.#directory(slash < 0 ? '' : path.slice(0, slash));
      return this.#look(directory.fd, name, path);
    } catch (thrown) {
      const { code, message } = toEbbError(thrown);
      if (code === 'ENOENT') throw ebbError('ENOENT', `${path}: no such file or directory`);
      throw ebbError(code, `${path}: ${message}`);
    }
  }

  /** What is in a directory, in order of the names' bytes. What goes meanwhile is left out. */
  async *children(path: string, signal: AbortSignal): AsyncGenerator<TreeEntry> {
    using directory = this.#directory(path);
    const names: Buffer[] = [];
    for await (const { name } of readEntries(directory.fd)) {
      if (names.push(name) > namesMax) throw ebbError('EFBIG', `${path}: too many names`);
    }
    names.sort((left, right) => Buffer.compare(left, right));
    const prefix = path === '' ? '' : `${path}/`;
    for (const [index, name] of names.entries()) {
      if (index % entriesPerTurn === 0) await otherWork(signal);
      const entry = this.#lookIfThere(directory.fd, name, prefix + decodeName(name));
      if (entry !== undefined) yield entry;
    }
  }

  /** Everything below, depth first, a directory before its entries. Memory: the names of one branch. */
  async *below(path: string, signal: AbortSignal, depth = 0): AsyncGenerator<TreeEntry> {
    if (depth > depthMax) {
      throw ebbError('ELOOP', `${path}: more than ${depthMax} directories deep`);
    }
    try {
      for await (const entry of this.children(path, signal)) {
        yield entry;
        if (entry.kind === 'directory') yield* this.below(entry.path, signal, depth + 1);
      }
    } catch (error) {
      // Users may take directories away while they are walked.
      if (depth === 0 || toEbbError(error).code !== 'ENOENT') throw error;
    }
  }

  /** The files that a request names: literal paths, directories as all that is below, and patterns; each inode once. */
  async *files(request: PathsRequest, signal: AbortSignal): AsyncGenerator<TreeEntry> {
    const seen = new Set<number>();
    const fresh = ({ kind, record }: TreeEntry): boolean => {
      if (kind !== 'file') return false;
      if (record === undefined) return true;
      if (seen.has(record.id)) return false;
      seen.add(record.id);
      return true;
    };
    for (const path of request.paths) {
      const entry = this.entry(path);
      if (fresh(entry)) yield entry;
      if (entry.kind !== 'directory') continue;
      for await (const one of this.below(path, signal)) if (fresh(one)) yield one;
    }
    for (const glob of request.globs ?? []) {
      for await (const one of this.matching(glob, signal)) if (fresh(one)) yield one;
    }
  }

  /** What a pattern names, of any kind. Only what its fixed directories hold is looked at. */
  async *matching(glob: string, signal: AbortSignal): AsyncGenerator<TreeEntry> {
    const fixed = fixedDirectory(glob);
    if (this.entry(fixed).kind !== 'directory') return;
    const matchesGlob = globPathMatcher(glob);
    for await (const entry of this.below(fixed, signal)) if (matchesGlob(entry.path)) yield entry;
  }

  #root(): TreeEntry {
    const status = fileStatus(this.#rootFd);
    return { path: '', kind: 'directory', status, record: undefined, target: undefined };
  }

  #directory(path: string): OwnedFd {
    const directory = openDirectory(this.#rootFd, path);
    if (directory === undefined) throw ebbError('ENOENT', `${path}: no such directory`);
    return directory;
  }

  #lookIfThere(directoryFd: number, name: Uint8Array, path: string): TreeEntry | undefined {
    try {
      return this.#look(directoryFd, name, path);
    } catch (error) {
      if (toEbbError(error).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  #look(directoryFd: number, name: Uint8Array, path: string): TreeEntry {
    const status = fileStatusAt(directoryFd, name);
    const kind = kinds.get(status.mode & S_IFMT) ?? 'other';
    const record =
      kind === 'file' ? this.#catalog.byHandle(encodedHandleAt(directoryFd, name)) : undefined;
    const target = kind === 'symlink' ? decodeName(readSymlink(directoryFd, name)) : undefined;
    return { path, kind, status, record, target };
  }
}

async function otherWork(signal: AbortSignal): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  signal.throwIfAborted();
}
