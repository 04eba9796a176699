/** Records that do not fit their inodes are not answered from. */
import assert from 'node:assert/strict';
import {
  closeSync,
  openSync,
  readFileSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';

import { StubChange } from '../../../src/base/stub-facts.ts';
import type { StubRecord } from '../../../src/catalog/stub-catalog.ts';
import { Residency } from '../../../src/tree/residency.ts';
import type { StubFile } from '../../../src/tree/stubs/stub-store.ts';
import { sourceBytes } from '../support/cache.ts';
import { imageTypes, newTree, openStubs, recall, stubChunkBytes } from '../support/stubs.ts';
import type { TestStubs, TestTree } from '../support/stubs.ts';

const sizeBytes = 100_000;
const { clean, intent, discarding, dirty } = StubChange;

function file(stubs: TestStubs, key: string): StubFile {
  const record = stubs.catalog.byKey(key);
  const found = record && stubs.store.get(record.id);
  assert.ok(found, `${key} is known`);
  return found;
}

function look(tree: TestTree, stubs: TestStubs, name: string): void {
  const fd = openSync(path.join(tree.data, name), 'r');
  try {
    const record = stubs.catalog.byKey(name) ?? stubs.catalog.byKey('other');
    assert.ok(record);
    stubs.store.requireSound(stubs.store.get(record.id) as StubFile, fd);
  } finally {
    closeSync(fd);
  }
}

/** Puts another record in the place of the right one, as a damaged catalog has it. */
function falsify(stubs: TestStubs, key: string, change: Partial<StubRecord>): void {
  const record = stubs.catalog.byKey(key);
  assert.ok(record);
  stubs.catalog.delete([record.id]);
  stubs.catalog.insert([{ ...record, ...change }]);
}

function claim(
  chunks: readonly number[],
): Pick<StubRecord, 'bitmap' | 'residentBytes' | 'complete'> {
  const residency = Residency.create(sizeBytes, stubChunkBytes);
  for (const chunk of chunks) residency.markResident(chunk, 1);
  const { residentBytes, complete } = residency;
  return { bitmap: residency.encode(), residentBytes, complete };
}

const chunkCount = Math.ceil(sizeBytes / stubChunkBytes);
const nothing = claim([]);
const everything = claim(Array.from({ length: chunkCount }, (_, chunk) => chunk));

interface Wrong {
  readonly what: string;
  /** What users and Ebb did. */
  readonly life: (stub: StubFile, stubs: TestStubs, tree: TestTree) => Promise<void>;
  readonly record: Partial<StubRecord>;
}

const wrong: readonly Wrong[] = [
  { what: 'claims a stub', life: async () => {}, record: everything },
  {
    what: 'claims a chunk more than is here',
    life: async (stub) => await recall(stub, 3, 9),
    record: claim([3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
  },
  {
    what: 'claims a chunk between others',
    life: async (stub) => {
      await recall(stub, 0, 10);
      await recall(stub, 11, chunkCount - 11);
    },
    record: everything,
  },
  {
    what: 'calls a file clean that a user has changed',
    life: async (stub, { store }, tree) => {
      await recall(stub);
      await store.setChange(stub, intent);
      writeAt(tree, 'f', 5_000);
      await store.setChange(stub, dirty);
    },
    record: { ...nothing, change: clean },
  },
  {
    what: 'calls a file clean that a user was let in to change',
    life: async (stub, { store }, tree) => {
      await recall(stub);
      await store.setChange(stub, intent);
      writeAt(tree, 'f', 5_000);
    },
    record: { ...nothing, change: clean },
  },
  { what: "calls a stub the user's", life: async () => {}, record: { change: dirty } },
  { what: 'names another version', life: async () => {}, record: { version: 'v2' } },
  { what: 'names another key', life: async () => {}, record: { key: 'other' } },
];

function writeAt(tree: TestTree, name: string, at: number): void {
  const fd = openSync(path.join(tree.data, name), 'r+');
  writeSync(fd, 'MINE', at);
  closeSync(fd);
}

for (const type of imageTypes) {
  describe(`records on ${type}`, { concurrency: false }, () => {
    test('a record that its inode contradicts is not answered from, and nothing is recalled by it', async () => {
      using tree = newTree(type);
      for (const { what, life, record } of wrong) {
        {
          using stubs = openStubs(tree);
          const stub = stubs.add('f', sizeBytes);
          await life(stub, stubs, tree);
          await stubs.store.flush();
          falsify(stubs, 'f', record);
        }
        const before = readFileSync(path.join(tree.data, 'f'));
        using stubs = openStubs(tree);
        const refused = { code: 'EIO', message: /catalog's record .* is wrong .* `ebb rebuild`/ };
        assert.throws(() => look(tree, stubs, 'f'), refused, what);
        assert.match(stubs.problems[0]?.message ?? '', refused.message, what);
        const stub = file(stubs, record.key ?? 'f');
        assert.throws(() => stub.readSync(new Uint8Array(10), 0), what);
        if (!stub.residency.complete && stub.change === clean) {
          await assert.rejects(stub.write(new Uint8Array(stubChunkBytes), 0), refused, what);
        }
        if (stub.settled && stub.change !== discarding) {
          await assert.rejects(stubs.store.unmark(stub), refused, what);
        }
        assert.deepEqual(readFileSync(path.join(tree.data, 'f')), before, what);
        stubs.catalog.delete([stub.id]);
        unlinkSync(path.join(tree.data, 'f'));
      }
    });

    test('what a crash leaves, and what users do, is no contradiction', async () => {
      using tree = newTree(type);
      {
        using stubs = openStubs(tree);
        const { store, catalog } = stubs;
        const make = async (name: string, chunks = 0): Promise<StubFile> => {
          const stub = stubs.add(name, sizeBytes);
          if (chunks > 0) await recall(stub, 0, chunks);
          await store.flush();
          return stub;
        };
        await make('cold');
        await make('part', 5);
        await make('whole', chunkCount);
        utimesSync(path.join(tree.data, (await make('touched', 5)).key), 1, 1);
        writeAt(tree, (await make('written', chunkCount)).key, 0);
        // A crash after the mark was written, and before the catalog was, or the other way round.
        for (const [name, change, chunks] of [
          ['let in', intent, chunkCount],
          ['cut', discarding, 0],
          ['changed', dirty, chunkCount],
        ] as const) {
          const stub = await make(name, chunks);
          await store.setChange(stub, change);
          const [ctimeSeconds, ctimeNanoseconds] = [0, 0];
          catalog.setChange([{ id: stub.id, change: clean, ctimeSeconds, ctimeNanoseconds }]);
        }
        // Released since: nothing is claimed any more.
        const released = await make('released', chunkCount);
        const [result] = await store.release([released], {
          prove: ({ version }) => Promise.resolve({ version, sizeBytes }),
          isBusy: () => false,
        });
        assert.equal(result?.released, true);
        // A hole of the user's own, of which no event has told yet.
        await make('sparse', chunkCount);
        truncateSync(path.join(tree.data, 'sparse'), 0);
        truncateSync(path.join(tree.data, 'sparse'), sizeBytes);
        await make('shorter', chunkCount);
        truncateSync(path.join(tree.data, 'shorter'), 50_000);
      }
      using stubs = openStubs(tree);
      const names = 'cold,part,whole,touched,written,let in,cut,changed,released,sparse,shorter';
      for (const name of names.split(',')) look(tree, stubs, name);
      assert.deepEqual(stubs.problems, []);
      await recall(file(stubs, 'part'));
      assert.deepEqual(
        new Uint8Array(readFileSync(path.join(tree.data, 'part'))),
        sourceBytes(0, sizeBytes),
      );
    });
  });
}
