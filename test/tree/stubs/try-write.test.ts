/** Bytes that a stub takes in the thread that brings them, and when it does not. On real file systems. */
import assert from 'node:assert/strict';
import { appendFileSync, readFileSync, truncateSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { StubChange } from '../../../src/base/stub-facts.ts';
import { fileStatus } from '../../../src/sys/stat.ts';
import type { StubFile } from '../../../src/tree/stubs/stub-store.ts';
import { sourceBytes } from '../support/cache.ts';
import { imageTypes, newTree, openStubs, recall, stubMtime } from '../support/stubs.ts';

const sizeBytes = 20_000;
const front = 8_192;

function tryWrite(file: StubFile): boolean | undefined {
  return file.tryWrite?.(sourceBytes(0, front), 0);
}

for (const type of imageTypes) {
  describe(`written at once on ${type}`, { concurrency: false }, () => {
    test('the bytes are there, mtime is left alone, and on xfs ctime; nothing is claimed', async () => {
      using tree = newTree(type);
      const name = path.join(tree.data, 'f');
      using stubs = openStubs(tree);
      const file = stubs.add('f', sizeBytes);
      const before = fileStatus(name);
      assert.equal(tryWrite(file), true);
      const after = fileStatus(name);
      assert.deepEqual(after.mtime, stubMtime);
      if (type === 'xfs') assert.deepEqual(after.ctime, before.ctime);
      const bytes = readFileSync(name);
      assert.ok(bytes.subarray(0, front).equals(sourceBytes(0, front)));
      assert.ok(!bytes.equals(sourceBytes(0, sizeBytes)));
      assert.equal(stubs.store.unchanged(file), true);
      await stubs.store.flush();
      assert.equal(file.residency.residentChunks, 0);
      assert.equal(stubs.catalog.get(file.id)?.residentBytes, 0);
      await recall(file);
      assert.ok(readFileSync(name).equals(sourceBytes(0, sizeBytes)));
    });

    for (const [what, change] of [
      ['cut off', (name: string) => truncateSync(name, 100)],
      ['emptied', (name: string) => truncateSync(name, 0)],
      ['made longer', (name: string) => appendFileSync(name, 'more')],
    ] as const) {
      test(`a file that was ${what} past us does not take them`, () => {
        using tree = newTree(type);
        using stubs = openStubs(tree);
        const file = stubs.add('f', sizeBytes);
        const name = path.join(tree.data, 'f');
        change(name);
        const before = readFileSync(name);
        assert.throws(() => tryWrite(file), { code: 'ESTALE' });
        assert.deepEqual(readFileSync(name), before);
        assert.equal(stubs.problems.length, 1);
      });
    }

    test('whoever is to change it has it alone, from the moment in which that is being recorded', async () => {
      using tree = newTree(type);
      using stubs = openStubs(tree);
      const name = path.join(tree.data, 'f');
      const file = stubs.add('f', sizeBytes);
      const before = readFileSync(name);
      const recorded = stubs.store.setChange(file, StubChange.discarding);
      assert.equal(tryWrite(file), false);
      await recorded;
      assert.equal(tryWrite(file), false);
      assert.deepEqual(readFileSync(name), before);
      await stubs.store.setChange(file, StubChange.clean);
      assert.equal(tryWrite(file), true);
      await recall(file);
      for (const change of [StubChange.intent, StubChange.dirty]) {
        await stubs.store.setChange(file, change);
        assert.equal(tryWrite(file), false);
      }
    });
  });
}

test('not beside another write, not while it is being released, not in parts of blocks of poison', async () => {
  using tree = newTree('xfs');
  using stubs = openStubs(tree);
  const { store } = stubs;
  const file = stubs.add('f', sizeBytes);
  const written = file.write(sourceBytes(front, 4_096), front);
  assert.equal(tryWrite(file), false);
  await written;
  assert.equal(tryWrite(file), true);
  assert.equal(file.tryWrite?.(sourceBytes(0, 100), 0), false);
  await recall(file);
  await store.flush();
  const said: (boolean | undefined)[] = [];
  const [result] = await store.release([file], {
    prove: ({ version, sizeBytes: bytes }) => Promise.resolve({ version, sizeBytes: bytes }),
    isBusy: () => false,
    beforeFreeing: () => void said.push(tryWrite(file)),
  });
  assert.deepEqual([result?.released, said], [true, [false]]);
  assert.equal(tryWrite(file), true);
});
