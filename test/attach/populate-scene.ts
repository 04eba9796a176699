/** A real tree on a file system of its own, with a real catalog, to bring a remote into. */
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import path from 'node:path';
import { decodeName } from '../../src/base/name.ts';
import { Populator } from '../../src/attach/populate.ts';
import type { PopulateRequest, PopulateResult } from '../../src/attach/populate.ts';
import { encodeHandle, handleOf } from '../../src/sys/handle.ts';
import { listXattrs, getXattr } from '../../src/sys/xattr.ts';
import type { StubCatalog, StubRecord } from '../../src/catalog/stub-catalog.ts';
import type { Remote } from '../../src/remote/remote.ts';
import type { NativeStubStore } from '../../src/tree/stubs/store.ts';
import type { StubProblem } from '../../src/tree/stubs/stub-store.ts';
import { newTree, openStubs } from '../tree/support/stubs.ts';
import type { TestStubs, TestTree } from '../tree/support/stubs.ts';
import type { ImageType } from '../tree/support/image.ts';

/** Directories that a scene asks for at a time. */
export const scenesParallel = 4;

export class Scene implements Disposable {
  readonly tree: TestTree;
  #stubs: TestStubs;
  #populator: Populator | undefined;
  #remote: Remote;

  readonly #makerFromStubs: number;
  /** What the front end says, when somebody serves the tree. */
  usersRecorded: (id: number) => Promise<() => boolean> = () => Promise.resolve(() => true);

  /** `makerFromStubs`: see `PopulateParts`; by default no thread makes stubs. */
  constructor(type: ImageType, remote: Remote, makerFromStubs = Infinity) {
    this.#makerFromStubs = makerFromStubs;
    this.tree = newTree(type);
    this.#remote = remote;
    this.#stubs = openStubs(this.tree);
  }

  get data(): string {
    return this.tree.data;
  }

  get store(): NativeStubStore {
    return this.#stubs.store;
  }

  get catalog(): StubCatalog {
    return this.#stubs.catalog;
  }

  get problems(): readonly StubProblem[] {
    return this.#stubs.problems;
  }

  /** Before exposing it unless said otherwise. */
  populate(request: Partial<PopulateRequest> = {}): Promise<PopulateResult> {
    this.#populator ??= new Populator({
      remote: this.#remote,
      store: this.store,
      catalog: this.catalog,
      defaults: { fileMode: 0o644, directoryMode: 0o755, uid: undefined, gid: undefined },
      parallel: scenesParallel,
      makerFromStubs: this.#makerFromStubs,
      nowMs: Date.now,
      usersRecorded: (id) => this.usersRecorded(id),
    });
    const signal = new AbortController().signal;
    return this.#populator.run({ mode: 'resume', isExposed: false, signal, ...request });
  }

  /** While users see the tree. */
  refresh(request: Partial<PopulateRequest> = {}): Promise<PopulateResult> {
    return this.populate({ mode: 'refresh', isExposed: true, ...request });
  }

  /** The daemon dies and another one takes over. */
  restart(remote = this.#remote): void {
    this.#stubs[Symbol.dispose]();
    this.#stubs = openStubs(this.tree);
    this.#populator = undefined;
    this.#remote = remote;
  }

  path(name: string): string {
    return path.join(this.data, name);
  }

  record(name: string): StubRecord | undefined {
    return this.catalog.byHandle(encodeHandle(handleOf(this.path(name)).handle));
  }

  names(directory = ''): string[] {
    return readdirSync(this.path(directory)).toSorted();
  }

  [Symbol.dispose](): void {
    this.#stubs[Symbol.dispose]();
    this.tree[Symbol.dispose]();
  }
}

/** Everything below a directory but the content of files, one line each, sorted; raw names as latin-1. */
export function facts(root: string): string[] {
  const lines: string[] = [];
  const links = new Map<bigint, number>();
  const walk = (directory: Buffer, prefix: string): void => {
    const entries = readdirSync(directory, { encoding: 'buffer' }).toSorted((a, b) =>
      Buffer.compare(a, b),
    );
    for (const name of entries) {
      const file = Buffer.concat([directory, Buffer.from('/'), name]);
      const stats = lstatSync(file, { bigint: true });
      const shown = `${prefix}${name.toString('latin1')}`;
      const common = `${stats.mode.toString(8)} ${stats.uid}:${stats.gid} ${stats.mtimeNs}`;
      const more: string[] = [];
      if (stats.isSymbolicLink()) more.push(`-> ${readlinkSync(file, 'latin1')}`);
      if (stats.isFile()) more.push(String(stats.size));
      if (stats.isFile() && stats.nlink > 1n) {
        // Inode numbers differ between file systems; which names share one does not.
        if (!links.has(stats.ino)) links.set(stats.ino, links.size + 1);
        more.push(`link ${links.get(stats.ino)} of ${stats.nlink}`);
      }
      if (!stats.isSymbolicLink()) more.push(...xattrsOf(file));
      lines.push(`${shown}: ${common} ${more.join(' ')}`);
      if (stats.isDirectory()) walk(file, `${shown}/`);
    }
  };
  walk(Buffer.from(root), '');
  return lines;
}

function xattrsOf(file: Buffer): string[] {
  const target = decodeName(file);
  return listXattrs(target)
    .filter((name) => name.startsWith('user.'))
    .toSorted()
    .map((name) => `${name}=${Buffer.from(getXattr(target, name) ?? []).toString()}`);
}

export function content(file: string): string {
  return readFileSync(file, 'utf8');
}
