/** A cache directory with a real catalog, for the tests of the tree. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { NodeKind, ROOT_NODE_ID } from '../../../src/catalog/catalog.ts';
import type { Catalog } from '../../../src/catalog/catalog.ts';
import { encodeName } from '../../../src/base/name.ts';
import { openSqliteCatalog } from '../../../src/catalog/sqlite/catalog.ts';
import { openTree } from '../../../src/tree/content-store.ts';
import type { ContentStore, TreeOptions, TreeProblem } from '../../../src/tree/content-store.ts';
import { catalogPath } from '../../../src/tree/layout.ts';
import type { StoredContent } from '../../../src/tree/stored-content.ts';

export const remote = 'http://example.org/pub/';
export const chunkBytes = 4_096;

/** What the remote holds at this place of any content: never 0, so that a hole is always noticed. */
export function sourceByte(offsetBytes: number): number {
  return (((offsetBytes >>> 12) * 31 + offsetBytes) % 255) + 1;
}

export function sourceBytes(offsetBytes: number, lengthBytes: number): Uint8Array {
  return Uint8Array.from({ length: lengthBytes }, (_, index) => sourceByte(offsetBytes + index));
}

export interface TestCache {
  readonly directory: string;
  readonly store: ContentStore;
  readonly catalog: Catalog;
  readonly problems: TreeProblem[];
  /** Makes a file of the remote known and its stub. */
  readonly add: (key: string, sizeBytes: number, version?: string) => StoredContent;
  /** Recalls chunks: writes the source's bytes and marks them. */
  readonly fill: (
    content: StoredContent,
    firstChunk?: number,
    chunkCount?: number,
  ) => Promise<void>;
  /** Closes without committing, as a killed daemon would. */
  readonly abandon: () => void;
}

export function openCache(directory: string, options: Partial<TreeOptions> = {}): TestCache {
  const problems: TreeProblem[] = [];
  let catalog: Catalog | undefined;
  const store = openTree(directory, {
    remote,
    lookup: (id) => catalog?.content(id),
    commit: (rows) => catalog?.commitResidency(rows),
    onProblem: (problem) => problems.push(problem),
    ...options,
    limits: { chunkBytes, ...options.limits },
  });
  const opened = openSqliteCatalog(catalogPath(directory));
  catalog = opened;
  return {
    directory,
    store,
    catalog: opened,
    problems,
    add: (key, sizeBytes, version = 'v1') => add(store, opened, key, sizeBytes, version),
    fill,
    abandon: () => {
      store.abandon();
      opened[Symbol.dispose]();
    },
  };
}

function add(
  store: ContentStore,
  catalog: Catalog,
  key: string,
  sizeBytes: number,
  version: string,
): StoredContent {
  const [node] = catalog.applyListing({
    directoryId: ROOT_NODE_ID,
    listedAtMs: 1,
    inserted: [
      {
        parentId: ROOT_NODE_ID,
        name: encodeName(key),
        kind: NodeKind.file,
        mode: -1,
        uid: -1,
        gid: -1,
        sizeBytes,
        mtimeSeconds: 0,
        mtimeNanoseconds: 0,
        exact: true,
        version,
        target: null,
        xattrs: null,
        checkedAtMs: 1,
      },
    ],
    updated: [],
    removedIds: [],
  });
  const id = node?.id ?? 0;
  const content = store.create(id, key, version, sizeBytes);
  catalog.putContent({ ...store.factsOf(content), accessedAtMs: 1, lost: false });
  return content;
}

async function fill(
  content: StoredContent,
  firstChunk = 0,
  chunkCount = content.residency.chunkCount - firstChunk,
): Promise<void> {
  const run = { first: firstChunk, count: chunkCount };
  const { offsetBytes, lengthBytes } = content.residency.bytesOf(run);
  const { losses } = content;
  await content.write(sourceBytes(offsetBytes, lengthBytes), offsetBytes);
  content.markResident(firstChunk, chunkCount, losses);
}

/** A fresh directory under the system's one, removed when disposed. */
export function temporaryDirectory(): Disposable & { readonly path: string } {
  const directory = mkdtempSync(path.join(tmpdir(), 'ebb-tree-'));
  return {
    path: directory,
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  };
}
