/**
 * The tree's real files, for the control API: found name by name through the private mount, so that no event is raised
 * and no symlink leads out. What a file is says the catalog, by the file's handle; nothing is opened but directories.
 */
import { kindOfMode, openDirectory, readEntries } from '../../attach/local-directory.ts';
import type { NameEntry, NameKind } from '../../attach/local-directory.ts';
import { ebbError, toEbbError } from '../../base/errors.ts';
import { decodeName, encodeName } from '../../base/name.ts';
import type { StubCatalog, StubRecord, StubState } from '../../catalog/stub-catalog.ts';
import { readSymlink } from '../../sys/entries.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { encodedHandleAt } from '../../sys/handle.ts';
import { fileStatus, fileStatusAt } from '../../sys/stat.ts';
import type { FileStatus } from '../../sys/stat.ts';
import type { PathsRequest } from '../api.ts';
import { fixedDirectory, globPathMatcher } from '../glob.ts';
import { namedFiles } from '../named-files.ts';

/** Recursive verbs go no deeper; each level keeps one descriptor. */
const depthMax = 1_024;
/** Entries looked at before others of this thread get their turn: about a millisecond. */
const entriesPerTurn = 64;
/** Names of one directory that are sorted in memory. */
const namesMax = 10_000_000;

export interface BriefEntry {
  /** Relative to the tree, '' for its root. */
  readonly path: string;
  readonly kind: NameKind;
  /** Of files that came from the remote, wherever they are now. */
  readonly record: StubState | undefined;
}

export interface TreeEntry extends BriefEntry {
  readonly status: FileStatus;
  readonly record: StubRecord | undefined;
  readonly target: string | undefined;
}

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
      return this.#look(directory.fd, { name }, path);
    } catch (thrown) {
      const { code, message } = toEbbError(thrown);
      if (code === 'ENOENT') throw ebbError('ENOENT', `${path}: no such file or directory`);
      throw ebbError(code, `${path}: ${message}`);
    }
  }

  /** What is in a directory, in order of the names' bytes. What goes meanwhile is left out. */
  children(path: string, signal: AbortSignal): AsyncGenerator<TreeEntry> {
    return this.#walk(path, signal, (...at) => this.#look(...at), false);
  }

  /** Everything below, depth first, a directory before its entries. Memory: the names of one branch. */
  below(path: string, signal: AbortSignal): AsyncGenerator<TreeEntry> {
    return this.#walk(path, signal, (...at) => this.#look(...at), true);
  }

  /** The same with less of each entry, in a third of the time. */
  briefBelow(path: string, signal: AbortSignal): AsyncGenerator<BriefEntry> {
    return this.#walk(path, signal, (...at) => this.#lookBriefly(...at), true);
  }

  /** The files that a request names: literal paths, directories as all that is below, and patterns; each inode once. */
  files(
    request: PathsRequest,
    signal: AbortSignal,
    onMissing: (path: string, thrown: unknown) => void,
  ): AsyncGenerator<BriefEntry> {
    const seen = new Set<number>();
    const find = {
      atPath: (path: string) => this.#fromPath(path, signal),
      matching: (glob: string) => this.matching(glob, signal),
      isWanted: ({ kind, record }: BriefEntry): boolean => {
        if (kind !== 'file') return false;
        if (record === undefined) return true;
        if (seen.has(record.id)) return false;
        seen.add(record.id);
        return true;
      },
    };
    return namedFiles(request, find, signal, onMissing);
  }

  async *#fromPath(path: string, signal: AbortSignal): AsyncGenerator<BriefEntry> {
    const entry = this.entry(path);
    yield entry;
    if (entry.kind === 'directory') yield* this.briefBelow(path, signal);
  }

  /** What a pattern names, of any kind. Only what its fixed directories hold is looked at. */
  async *matching(glob: string, signal: AbortSignal): AsyncGenerator<BriefEntry> {
    const fixed = fixedDirectory(glob);
    if (this.entry(fixed).kind !== 'directory') return;
    const matchesGlob = globPathMatcher(glob);
    const below = this.briefBelow(fixed, signal);
    for await (const entry of below) if (matchesGlob(entry.path)) yield entry;
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

  async *#walk<Entry extends BriefEntry>(
    path: string,
    signal: AbortSignal,
    look: Look<Entry>,
    descends: boolean,
  ): AsyncGenerator<Entry> {
    const branch = [await this.#level(path)];
    try {
      for (let looked = 0; ; looked += 1) {
        const level = branch.at(-1);
        if (level === undefined) return;
        const entry = level.entries[level.next++];
        if (entry === undefined) {
          branch.pop();
          level.directory.close();
          continue;
        }
        if (looked % entriesPerTurn === 0) await otherWork(signal);
        const found = ifThere(() =>
          look(level.directory.fd, entry, level.prefix + decodeName(entry.name)),
        );
        if (found === undefined) continue;
        yield found;
        if (!descends || found.kind !== 'directory') continue;
        if (branch.length > depthMax) {
          throw ebbError('ELOOP', `${found.path}: more than ${depthMax} directories deep`);
        }
        // Users may take directories away while they are walked.
        const below = await this.#level(found.path).catch((error: unknown) => {
          if (toEbbError(error).code !== 'ENOENT') throw error;
        });
        if (below !== undefined) branch.push(below);
      }
    } finally {
      for (const { directory } of branch) directory.close();
    }
  }

  async #level(path: string): Promise<Level> {
    using stack = new DisposableStack();
    const directory = stack.use(this.#directory(path));
    const entries: NameEntry[] = [];
    for await (const entry of readEntries(directory.fd)) {
      if (entries.push(entry) > namesMax) throw ebbError('EFBIG', `${path}: too many names`);
    }
    entries.sort((left, right) => Buffer.compare(left.name, right.name));
    stack.move();
    return { directory, prefix: path === '' ? '' : `${path}/`, entries, next: 0 };
  }

  #look(directoryFd: number, { name }: Pick<NameEntry, 'name'>, path: string): TreeEntry {
    const status = fileStatusAt(directoryFd, name);
    const kind = kindOfMode(status.mode);
    const record =
      kind === 'file' ? this.#catalog.byHandle(encodedHandleAt(directoryFd, name)) : undefined;
    const target = kind === 'symlink' ? decodeName(readSymlink(directoryFd, name)) : undefined;
    return { path, kind, status, record, target };
  }

  /** The kind is what the directory says: a name that is another object by now has no record, or its own. */
  #lookBriefly(directoryFd: number, entry: NameEntry, path: string): BriefEntry {
    const { kind } = entry;
    if (kind === 'file') {
      const record = this.#catalog.stateByHandle(encodedHandleAt(directoryFd, entry.name));
      return { path, kind, record };
    }
    return { path, kind, record: undefined };
  }
}

type Look<Entry> = (directoryFd: number, entry: NameEntry, path: string) => Entry;

/** A directory that is being walked. */
interface Level {
  readonly directory: OwnedFd;
  readonly prefix: string;
  readonly entries: readonly NameEntry[];
  next: number;
}

function ifThere<Entry>(look: () => Entry): Entry | undefined {
  try {
    return look();
  } catch (error) {
    if (toEbbError(error).code === 'ENOENT') return undefined;
    throw error;
  }
}

async function otherWork(signal: AbortSignal): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  signal.throwIfAborted();
}
