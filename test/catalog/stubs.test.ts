/** The catalog of stubs: conformance, random operations against the model, and what a disk can do to it. */
import type { StubChange } from '../../src/base/stub-facts.ts';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';

import fc from 'fast-check';

import { EbbError } from '../../src/base/errors.ts';
import { openSqliteCatalog } from '../../src/catalog/sqlite/catalog.ts';
import { openSqliteStubCatalog } from '../../src/catalog/stubs-sqlite/catalog.ts';
import type { StubCatalog } from '../../src/catalog/stub-catalog.ts';
import { handleOfStub, stubCatalogConformance, stubRecord } from '../conformance/stub-catalog.ts';
import { waitFor } from '../support/wait-for.ts';
import { temporaryDirectory } from '../tree/support/cache.ts';
import { StubCatalogModel } from './support/stub-model.ts';

stubCatalogConformance('model', () => ({
  catalog: new StubCatalogModel(),
  [Symbol.dispose]: () => undefined,
}));

stubCatalogConformance('sqlite', () => {
  const directory = temporaryDirectory();
  const catalog = openSqliteStubCatalog(path.join(directory.path, 'catalog.sqlite'));
  return {
    catalog,
    [Symbol.dispose]: () => {
      catalog[Symbol.dispose]();
      directory[Symbol.dispose]();
    },
  };
});

type Step = (catalog: StubCatalog) => unknown;

/** Ids and handles that were there, are there, or never were. */
const id = fc.integer({ min: 1, max: 12 });
const key = fc.constantFrom('a', 'b', 'd/a', 'd/\udc80');
const row = fc.record({
  id,
  bitmap: fc.uint8Array({ maxLength: 3 }),
  residentBytes: fc.nat(100),
  complete: fc.boolean(),
});
const change = fc.record({
  id,
  change: fc.integer({ min: 0, max: 3 }).map((value) => value as StubChange),
  ctimeSeconds: fc.nat(9),
  ctimeNanoseconds: fc.nat(9),
});

const step: fc.Arbitrary<Step> = fc.oneof(
  fc
    .array(fc.tuple(id, fc.nat(15), key, row, fc.nat(5)), { maxLength: 4 })
    .map((stubs): Step => (catalog) => {
      const records = stubs.map(([own, handle, name, { id: _id, ...residency }, accessedAtMs]) =>
        stubRecord(own, { handle: handleOfStub(handle), key: name, accessedAtMs, ...residency }),
      );
      catalog.insert(records);
    }),
  fc.array(row, { maxLength: 3 }).map(
    (rows): Step =>
      (catalog) =>
        catalog.commitResidency(rows),
  ),
  fc.array(change, { maxLength: 3 }).map(
    (rows): Step =>
      (catalog) =>
        catalog.setChange(rows),
  ),
  fc.tuple(id, fc.boolean()).map(
    ([own, on]): Step =>
      (catalog) =>
        catalog.setPinned(own, on),
  ),
  fc.tuple(id, fc.nat(9)).map(
    ([own, at]): Step =>
      (catalog) =>
        catalog.touch(new Map([[own, at]])),
  ),
  fc.array(id, { maxLength: 2 }).map(
    (ids): Step =>
      (catalog) =>
        catalog.delete(ids),
  ),
  fc.array(id, { maxLength: 2 }).map(
    (ids): Step =>
      (catalog) =>
        catalog.bury(ids),
  ),
);

/** All that can be asked. */
function everything(catalog: StubCatalog): unknown {
  return {
    stubs: catalog.page(0, 100).map((stub) => ({ ...stub })),
    siblings: catalog.siblings({ of: { id: 3, key: 'd/x' }, sizeMaxBytes: 100, limit: 5 }),
    namesakes: catalog.namesakes({ of: { id: 2, key: 'a' }, sizeMaxBytes: 100, limit: 2 }),
    undecided: catalog.undecided(0, 100),
    used: catalog.leastRecentlyUsed(undefined, 100).map((stub) => stub.id),
    totals: { ...catalog.totals() },
    keys: ['a', 'b', 'd/a', 'd/\udc80'].map((name) => [
      catalog.byKey(name)?.id,
      catalog.known(name),
    ]),
    handles: Array.from({ length: 16 }, (_, at) => catalog.byHandle(handleOfStub(at))?.id),
    states: Array.from({ length: 16 }, (_, at) => catalog.stateByHandle(handleOfStub(at))),
  };
}

function outcome(run: () => unknown): unknown {
  try {
    return run();
  } catch (error) {
    if (error instanceof EbbError) return error.code;
    throw error;
  }
}

test('random operations equal the model, also after reopening', () => {
  using directory = temporaryDirectory();
  let files = 0;
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), fc.nat(30), (steps, reopenAt) => {
      const file = path.join(directory.path, `catalog-${(files += 1)}`);
      const model = new StubCatalogModel();
      let catalog = openSqliteStubCatalog(file);
      try {
        for (const [at, run] of steps.entries()) {
          if (at === reopenAt) {
            catalog[Symbol.dispose]();
            catalog = openSqliteStubCatalog(file);
          }
          assert.equal(
            outcome(() => run(catalog)),
            outcome(() => run(model)),
          );
          assert.deepEqual(everything(catalog), everything(model));
        }
      } finally {
        catalog[Symbol.dispose]();
        rmSync(file, { force: true });
      }
    }),
    { numRuns: 60 },
  );
});

test('a file that is no catalog, or another kind of catalog, is refused with a sentence', () => {
  using directory = temporaryDirectory();
  const damaged = { code: 'EUCLEAN', message: /is damaged .* run `ebb rebuild`/s };
  const text = path.join(directory.path, 'text');
  writeFileSync(text, 'this is not a database, whatever its name says '.repeat(100));
  assert.throws(() => openSqliteStubCatalog(text), damaged);
  const names = path.join(directory.path, 'names');
  openSqliteCatalog(names)[Symbol.dispose]();
  assert.throws(() => openSqliteStubCatalog(names), damaged);
});

test('the catalog of an earlier Ebb gets the index that it lacks, and is used as it was', () => {
  using directory = temporaryDirectory();
  const file = path.join(directory.path, 'catalog');
  {
    using catalog = openSqliteStubCatalog(file);
    catalog.insert([stubRecord(1), stubRecord(2, { change: 1 })]);
  }
  const earlier = new DatabaseSync(file);
  earlier.exec('DROP INDEX stubs_undecided');
  earlier.close();
  using catalog = openSqliteStubCatalog(file);
  assert.deepEqual(catalog.undecided(0, 10), [2]);
  assert.equal(catalog.totals().stubs, 2);
});

test('killed at any moment: stubs are whole, ids unique, what was durable stays', async () => {
  using directory = temporaryDirectory();
  const file = path.join(directory.path, 'catalog.sqlite');
  const program = path.join(import.meta.dirname, 'support', 'stub-writing-process.ts');
  const durable = new Map<number, number>();
  for (let round = 0; round < 5; round += 1) {
    const child = spawn(process.execPath, [program, file], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.on('data', (data: Buffer) => (output += data.toString()));
    const lines = 5 + round * 7;
    await waitFor(() => output.split('\n').length > lines, { what: 'writing', timeoutMs: 60_000 });
    const exited = once(child, 'close');
    child.kill('SIGKILL');
    await exited;
    for (const line of output.split('\n').slice(0, -1)) {
      const [first, change] = line.split(' ').map(Number);
      assert.ok(first !== undefined && change !== undefined);
      assert.ok(!durable.has(first), 'no id twice');
      durable.set(first, change);
    }
    using catalog = openSqliteStubCatalog(file);
    const stubs = catalog.page(0, 1_000_000);
    const sum = stubs.reduce((total, stub) => total + stub.residentBytes, 0);
    assert.equal(catalog.totals().residentBytes, sum);
    assert.equal(catalog.totals().stubs, stubs.length);
    assert.equal(stubs.length % 10, 0, 'batches of 10 are whole or not there');
    for (const [id, expected] of durable) assert.equal(catalog.get(id)?.change, expected);
  }
  assert.ok(readFileSync(file).length > 0);
});
