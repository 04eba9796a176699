/** A native tree's files with a real catalog, on a file system of its own, for the tests of stubs. */
import { mkdirSync } from 'node:fs';
import path from 'node:path';

import { openSqliteStubCatalog } from '../../../src/catalog/stubs-sqlite/catalog.ts';
import type { StubCatalog } from '../../../src/catalog/stub-catalog.ts';
import { OpenFlag, openFd } from '../../../src/sys/fd.ts';
import { cloneMount } from '../../../src/sys/mount-tree.ts';
import { NativeStubStore } from '../../../src/tree/stubs/store.ts';
import type { StubStoreOptions } from '../../../src/tree/stubs/store.ts';
import type { NewStub, StubFile, StubProblem } from '../../../src/tree/stubs/stub-store.ts';
import { sourceBytes, temporaryDirectory } from './cache.ts';
import { mountImage } from './image.ts';
import type { ImageType } from './image.ts';

export const imageTypes: readonly ImageType[] = ['ext4', 'xfs', 'btrfs'];
export const stubMtime = { seconds: 1_600_000_000, nanoseconds: 123_456_789 };
export const stubChunkBytes = 4_096;

export const testSeal = {
  treeId: '01234567-89ab-4cde-8f01-23456789abcd',
  secret: new Uint8Array(32).fill(7),
};

export interface TestTree extends Disposable {
  /** The file system. */
  readonly path: string;
  /** What users see. */
  readonly data: string;
  readonly catalogPath: string;
}

/** An empty tree on a new file system, catalog outside of it. */
export function newTree(type: ImageType, mkfsArguments?: readonly string[]): TestTree {
  const mount = mountImage(type, mkfsArguments);
  const state = temporaryDirectory();
  const data = path.join(mount.path, '.ebb', 'data');
  for (const name of ['data', 'new', 'poison']) {
    mkdirSync(path.join(mount.path, '.ebb', name), { recursive: true, mode: 0o700 });
  }
  return {
    path: mount.path,
    data,
    catalogPath: path.join(state.path, 'catalog.sqlite'),
    [Symbol.dispose]: () => {
      mount[Symbol.dispose]();
      state[Symbol.dispose]();
    },
  };
}

export interface TestStubs extends Disposable {
  readonly store: NativeStubStore;
  readonly catalog: StubCatalog;
  readonly problems: StubProblem[];
  /** Makes a stub in the root with its record. */
  readonly add: (name: string, sizeBytes: number, change?: Partial<NewStub>) => StubFile;
}

/** Opens the tree as a daemon would, through a private mount. Disposing closes it without committing, as a crash. */
export function openStubs(tree: TestTree, options: Partial<StubStoreOptions> = {}): TestStubs {
  using mount = cloneMount(path.join(tree.path, '.ebb'));
  using directory = openFd('.', OpenFlag.rdonly | OpenFlag.directory, 0, mount.fd);
  const catalog = openSqliteStubCatalog(tree.catalogPath);
  const problems: StubProblem[] = [];
  const store = new NativeStubStore({
    privateFd: directory.fd,
    seal: testSeal,
    records: catalog,
    onProblem: (problem) => problems.push(problem),
    ...options,
    limits: { chunkBytes: stubChunkBytes, ...options.limits },
  });
  return {
    store,
    catalog,
    problems,
    add: (name, sizeBytes, change) => {
      const stub = newStub(catalog.reserveIds(1), name, sizeBytes, change);
      const facts = store.create(store.rootFd, Buffer.from(name), stub);
      catalog.insert([{ ...facts, lost: false, accessedAtMs: 1 }]);
      const file = store.get(stub.id);
      if (file === undefined) throw new Error('a new stub is there');
      return file;
    },
    [Symbol.dispose]: () => {
      store.abandon();
      catalog[Symbol.dispose]();
    },
  };
}

export function newStub(
  id: number,
  key: string,
  sizeBytes: number,
  change: Partial<NewStub> = {},
): NewStub {
  return {
    id,
    key,
    version: 'v1',
    sizeBytes,
    mtime: stubMtime,
    mode: 0o644,
    uid: undefined,
    gid: undefined,
    xattrs: undefined,
    ...change,
  };
}

/** Recalls chunks: writes the source's bytes and marks them. */
export async function recall(
  file: StubFile,
  firstChunk = 0,
  chunkCount = file.residency.chunkCount - firstChunk,
): Promise<void> {
  const run = { first: firstChunk, count: chunkCount };
  const { offsetBytes, lengthBytes } = file.residency.bytesOf(run);
  const { losses } = file;
  await file.write(sourceBytes(offsetBytes, lengthBytes), offsetBytes);
  file.markResident(firstChunk, chunkCount, losses);
}
