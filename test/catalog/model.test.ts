/** Random operations on the SQLite catalog against the memory one, with reopening and a reader in another thread. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { Worker } from 'node:worker_threads';

import fc from 'fast-check';

import type { Catalog, CatalogReader, CatalogTotals, Node } from '../../src/catalog/catalog.ts';
import { MemoryCatalog } from '../../src/catalog/memory/catalog.ts';
import { openSqliteCatalog } from '../../src/catalog/sqlite/catalog.ts';
import { openSqliteCatalogReader } from '../../src/catalog/sqlite/reader.ts';
import { newContent, newDirectory, newNode } from '../conformance/catalog-fixtures.ts';

let directory = '';
let files = 0;

before(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'ebb-model-'));
});

after(() => rmSync(directory, { recursive: true, force: true }));

/** One step on any catalog; `pick` numbers choose among what exists. What it throws is its result, too. */
type Step = (catalog: Catalog) => unknown;

const pick = fc.nat(30);
const name = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f');
const version = fc.constantFrom('v1', 'v2', null, 'odd\u0000\udc80');

function allNodes(catalog: Catalog): Node[] {
  const found: Node[] = [];
  const visit = (id: number): void => {
    for (const node of catalog.children(id, 0, 1_000)) {
      found.push(node);
      visit(node.id);
    }
  };
  visit(1);
  return found;
}

function pickDirectory(catalog: Catalog, choice: number): number {
  const ids = [1, ...allNodes(catalog).flatMap((node) => (node.kind === 2 ? node.id : []))];
  return ids[choice % ids.length] ?? 1;
}

function pickNode(catalog: Catalog, choice: number): Node | undefined {
  const nodes = allNodes(catalog);
  return nodes[choice % Math.max(nodes.length, 1)];
}

function pickContentId(catalog: Catalog, choice: number): number {
  const contents = catalog.contents(0, 1_000);
  return contents[choice % Math.max(contents.length, 1)]?.id ?? 12_345;
}

const listing = fc
  .record({
    pick,
    entries: fc.array(fc.tuple(name, version, fc.boolean(), fc.nat(3)), { maxLength: 4 }),
    updates: fc.array(fc.tuple(pick, fc.integer({ min: -1, max: 500 })), { maxLength: 3 }),
    removals: fc.array(pick, { maxLength: 3 }),
    at: fc.nat(1_000),
  })
  .map(({ pick, entries, updates, removals, at }): Step => (catalog) => {
    const directoryId = pickDirectory(catalog, pick);
    const updated = updates.flatMap(([choice, sizeBytes]) => {
      const node = pickNode(catalog, choice);
      return node === undefined ? [] : { ...node, sizeBytes, checkedAtMs: at };
    });
    return catalog.applyListing({
      directoryId,
      listedAtMs: at,
      inserted: entries.map(([entry, version, isFile, size]) =>
        isFile
          ? newNode(directoryId, entry, { version, sizeBytes: size === 0 ? 100 : size - 2 })
          : newDirectory(directoryId, entry),
      ),
      updated,
      removedIds: removals.map((choice) => pickNode(catalog, choice)?.id ?? 999),
    });
  });

const replacing = fc.tuple(pick, version).map(([choice, version]): Step => (catalog) => {
  const node = pickNode(catalog, choice);
  if (node === undefined) return undefined;
  const { id, listedAtMs: _, ...facts } = node;
  return catalog.replaceNode(id, { ...facts, kind: 1, version, sizeBytes: 100 });
});

const putting = fc
  .tuple(pick, fc.nat(100), fc.constantFrom('v1', 'v2'), fc.nat(50))
  .map(([choice, residentBytes, fallback, accessedAtMs]): Step => (catalog) => {
    const node = pickNode(catalog, choice);
    if (node === undefined) return undefined;
    const key = (catalog.path(node.id) ?? []).map((part) => Buffer.from(part).toString()).join('/');
    const version = node.version ?? fallback;
    const content = newContent(node.id, key, { version, residentBytes, accessedAtMs });
    return catalog.putContent(content);
  });

const onContent = fc
  .tuple(pick, fc.nat(5), fc.nat(100))
  .map(([choice, action, number]): Step => (catalog) => {
    const id = pickContentId(catalog, choice);
    const row = { id, bitmap: Uint8Array.of(number), residentBytes: number, complete: number > 50 };
    if (action === 0) return catalog.commitResidency([row]);
    if (action === 1) return catalog.touch(new Map([[id, number]]));
    if (action === 2) return catalog.setPinned(id, number > 50);
    if (action === 3) return catalog.setLost(id, number > 50);
    if (action === 4) return catalog.deleteContent(id);
    return catalog.removeNode(id);
  });

const removing = pick.map((choice): Step => (catalog) => {
  const node = pickNode(catalog, choice);
  return node && catalog.removeNode(node.id);
});

const updating = fc
  .tuple(pick, version, fc.nat(999))
  .map(([choice, version, sizeBytes]): Step => (catalog) => {
    const node = pickNode(catalog, choice);
    return node && catalog.updateNode({ ...node, version, sizeBytes, listedAtMs: sizeBytes });
  });

const restoring = fc.tuple(fc.nat(400), name, fc.nat(50)).map(
  ([id, key, residentBytes]): Step =>
    (catalog) =>
      catalog.restoreOrphans([newContent(id + 2, key, { residentBytes })]),
);

const alone = fc.oneof(
  { weight: 5, arbitrary: listing },
  { weight: 4, arbitrary: putting },
  { weight: 3, arbitrary: onContent },
  { weight: 2, arbitrary: replacing },
  { weight: 1, arbitrary: removing },
  { weight: 2, arbitrary: updating },
  { weight: 1, arbitrary: restoring },
);

/** Several in one transaction; some of them fail, some must be durable. */
const together = fc.array(alone, { maxLength: 6 }).map(
  (steps): Step =>
    (catalog) =>
      catalog.together(() => steps.map((one) => outcome(one, catalog))),
);

const step = fc.oneof({ weight: 4, arbitrary: alone }, { weight: 1, arbitrary: together });

function outcome(step: Step, catalog: Catalog): unknown {
  try {
    return { result: step(catalog) };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const { code } = error as { code?: string };
    return { error: error.name, code };
  }
}

/** Everything that can be asked, as plain values. */
function everything(catalog: Catalog): unknown {
  const nodes = allNodes(catalog);
  const contents = catalog.contents(0, 1_000);
  return {
    root: catalog.node(1),
    nodes,
    paths: nodes.map((node) => catalog.path(node.id)),
    byName: nodes.map((node) => catalog.child(node.parentId, node.name)),
    directories: nodes.map((node) => catalog.subdirectoryCount(node.id)),
    totals: [1, ...nodes.map((node) => node.id)].map((id) => catalog.totals(id)),
    lacksFacts: [1, ...nodes.map((node) => node.id)].map((id) => catalog.lacksFacts(id)),
    contents: contents.map((content) => ({ ...content })),
    nodesOfContents: contents.map((content) => catalog.node(content.id)),
    orphans: catalog.orphans(0, 1_000).map((content) => content.id),
    byAccess: catalog.leastRecentlyUsed(undefined, 1_000).map((content) => content.id),
    byKey: contents.map((content) => catalog.orphanByKey(content.key, content.version)?.id),
  };
}

/** The totals of the whole tree, counted. */
function recount(catalog: Catalog): CatalogTotals {
  const nodes = allNodes(catalog);
  const contents = catalog.contents(0, 10_000);
  const files = nodes.filter((node) => node.kind === 1);
  return {
    files: files.length,
    directories: nodes.filter((node) => node.kind === 2).length,
    remoteBytes: files.reduce((sum, node) => sum + Math.max(node.sizeBytes, 0), 0),
    residentBytes: contents.reduce((sum, content) => sum + content.residentBytes, 0),
    contents: contents.length,
  };
}

test('the same operations give the same catalog, also after reopening', () => {
  const steps = fc.array(fc.tuple(step, fc.nat(9)), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(steps, (steps) => {
      files += 1;
      const file = path.join(directory, `catalog-${files}`);
      let sqlite = openSqliteCatalog(file);
      let reader: CatalogReader = openSqliteCatalogReader(file);
      const memory = new MemoryCatalog();
      try {
        for (const [one, dice] of steps) {
          assert.deepEqual(outcome(one, sqlite), outcome(one, memory));
          assert.deepEqual(reader.totals(1), recount(sqlite), 'the counters are exact');
          if (dice > 0) continue;
          reader[Symbol.dispose]();
          sqlite[Symbol.dispose]();
          sqlite = openSqliteCatalog(file);
          reader = openSqliteCatalogReader(file);
        }
        assert.deepEqual(everything(sqlite), everything(memory));
      } finally {
        reader[Symbol.dispose]();
        sqlite[Symbol.dispose]();
      }
    }),
    { numRuns: 120 },
  );
});

test('another thread sees every committed write at its next read', async () => {
  const file = path.join(directory, 'shared');
  using catalog = openSqliteCatalog(file);
  const module = new URL('../../src/catalog/sqlite/reader.ts', import.meta.url).href;
  const code = `
    const { parentPort, workerData } = require('node:worker_threads');
    import(workerData.module).then(({ openSqliteCatalogReader }) => {
      const reader = openSqliteCatalogReader(workerData.file);
      const { signal } = workerData;
      let seen = 0;
      parentPort.postMessage('ready');
      for (;;) {
        Atomics.wait(signal, 0, seen);
        const wanted = Atomics.load(signal, 0);
        if (wanted < 0) break;
        seen = wanted;
        const { files } = reader.totals(1);
        const node = reader.child(1, Buffer.from('f' + (wanted - 1)));
        Atomics.store(signal, 1, node !== undefined && files === wanted ? 1 : 2);
        Atomics.notify(signal, 1);
      }
      reader[Symbol.dispose]();
      parentPort.close();
    });`;
  const signal = new Int32Array(new SharedArrayBuffer(8));
  const worker = new Worker(code, { eval: true, workerData: { module, file, signal } });
  await new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  try {
    for (let count = 1; count <= 300; count += 1) {
      const inserted = [newNode(1, `f${count - 1}`)];
      catalog.applyListing({
        directoryId: 1,
        listedAtMs: 1,
        inserted,
        updated: [],
        removedIds: [],
      });
      Atomics.store(signal, 1, 0);
      Atomics.store(signal, 0, count);
      Atomics.notify(signal, 0);
      Atomics.wait(signal, 1, 0, 5_000);
      assert.equal(Atomics.load(signal, 1), 1, `write ${count} is seen`);
    }
  } finally {
    Atomics.store(signal, 0, -1);
    Atomics.notify(signal, 0);
    await new Promise((resolve) => worker.once('exit', resolve));
  }
});
