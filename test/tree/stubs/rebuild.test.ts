/** What can be known of a tree of stubs when its catalog was deleted. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';

import { openSqliteStubCatalog } from '../../../src/catalog/stubs-sqlite/catalog.ts';
import { setFileTimes } from '../../../src/sys/stat.ts';
import { setXattr } from '../../../src/sys/xattr.ts';
import { rebuildStubs } from '../../../src/tree/stubs/rebuild.ts';
import type { StubRebuildReport } from '../../../src/tree/stubs/rebuild.ts';
import type { StubFile } from '../../../src/tree/stubs/stub-store.ts';
import { sourceBytes } from '../support/cache.ts';
import { imageTypes, newStub, newTree, openStubs, recall, stubMtime } from '../support/stubs.ts';
import type { TestStubs, TestTree } from '../support/stubs.ts';

const sizeBytes = 20_000;

/** Deletes the catalog and makes a new one; afterwards the tree can be opened with it. */
async function rebuild(tree: TestTree): Promise<StubRebuildReport> {
  for (const end of ['', '-wal', '-shm']) rmSync(`${tree.catalogPath}${end}`, { force: true });
  using catalog = openSqliteStubCatalog(tree.catalogPath);
  using stubs = openStubs({ ...tree, catalogPath: `${tree.catalogPath}.unused` });
  const { rootFd, seal, hasPoison } = stubs.store;
  return await rebuildStubs({ rootFd, seal, hasPoison, target: catalog });
}

function only(stubs: TestStubs, key: string): StubFile {
  const record = stubs.catalog.byKey(key);
  const file = record && stubs.store.get(record.id);
  assert.ok(file, `${key} is known`);
  return file;
}

test('stubs come back from paths longer than a call takes, and when two marks have one id', async () => {
  using tree = newTree('xfs');
  {
    using stubs = openStubs(tree);
    const { id } = stubs.add('one', sizeBytes);
    stubs.add('deep', sizeBytes);
    const { store } = stubs;
    store.create(store.rootFd, Buffer.from('other'), newStub(id, 'other', sizeBytes));
  }
  const program = [
    'import os, sys',
    'os.chdir(sys.argv[1])',
    'for _ in range(20): os.mkdir("d" * 250); os.chdir("d" * 250)',
    'os.rename(sys.argv[1] + "/deep", "deep")',
  ].join('\n');
  assert.equal(spawnSync('python3', ['-c', program, tree.data]).status, 0);
  const { stubs: count, ignored } = await rebuild(tree);
  assert.deepEqual([count, ignored], [3, []]);
  using stubs = openStubs(tree);
  const ids = ['one', 'other', 'deep'].map((key) => only(stubs, key).id);
  assert.equal(new Set(ids).size, 3);
});

for (const type of imageTypes) {
  describe(`rebuild on ${type}`, { concurrency: false }, () => {
    test('clean stubs come back wherever they are; claims where marks have them', async () => {
      using tree = newTree(type);
      let highest = 0;
      {
        using stubs = openStubs(tree);
        for (const name of ['cold', 'part', 'whole', 'pinned', 'linked']) {
          const file = stubs.add(name, sizeBytes);
          if (name === 'part') await recall(file, 1, 2);
          if (name === 'whole') await recall(file);
          highest = file.id;
        }
        await stubs.store.flush();
        stubs.store.setPinned(only(stubs, 'pinned'), true);
        mkdirSync(path.join(tree.data, 'sub\udc80'), { recursive: true });
        renameSync(path.join(tree.data, 'part'), path.join(tree.data, 'sub\udc80', 'other name'));
        linkSync(path.join(tree.data, 'linked'), path.join(tree.data, 'again'));
        writeFileSync(path.join(tree.data, 'own'), 'of the user');
        writeFileSync(path.join(tree.data, 'forged'), 'of the user');
        setXattr(path.join(tree.data, 'forged'), 'trusted.ebb', Buffer.from('EBM\u0001'));
      }
      const report = await rebuild(tree);
      assert.deepEqual(report.ignored, [{ path: 'forged', why: 'mark not believed: cut off' }]);
      assert.equal(report.stubs, 5);
      assert.equal(report.dirty, 0);
      const claims = type !== 'xfs';
      assert.equal(report.residentBytes, claims ? sizeBytes + 2 * 4_096 : 0);
      using stubs = openStubs(tree);
      assert.equal(only(stubs, 'whole').residency.complete, claims);
      assert.equal(only(stubs, 'part').residency.residentChunks, claims ? 2 : 0);
      assert.equal(only(stubs, 'part').residency.hasChunk(1), claims);
      assert.equal(only(stubs, 'cold').residency.residentChunks, 0);
      assert.equal(only(stubs, 'pinned').pinned, true);
      assert.ok(stubs.catalog.reserveIds(1) > highest);
      await recall(only(stubs, 'part'));
      const bytes = readFileSync(path.join(tree.data, 'sub\udc80', 'other name'));
      assert.deepEqual(new Uint8Array(bytes), sourceBytes(0, sizeBytes));
    });

    test('what was released is not claimed, and a claim over poison or a hole is dropped', async () => {
      using tree = newTree(type);
      {
        using stubs = openStubs(tree);
        const released = stubs.add('released', sizeBytes);
        const lied = stubs.add('lied', sizeBytes);
        await recall(released);
        await recall(lied);
        await stubs.store.flush();
        const [result] = await stubs.store.release([released], {
          prove: ({ version }) => Promise.resolve({ version, sizeBytes }),
          isBusy: () => false,
        });
        assert.equal(result?.released, true);
        using fd = stubs.store.access.openForWriting(lied.handle);
        if (stubs.store.poison === undefined) {
          truncateSync(path.join(tree.data, 'lied'), 0);
          truncateSync(path.join(tree.data, 'lied'), sizeBytes);
        } else stubs.store.poison.cover(fd.fd, sizeBytes);
      }
      assert.equal((await rebuild(tree)).residentBytes, 0);
    });

    test("a writer had been let in: the file is the user's", async () => {
      using tree = newTree(type);
      {
        using stubs = openStubs(tree);
        for (const name of ['intent', 'dirty', 'cut', 'longer']) {
          const file = stubs.add(name, sizeBytes);
          if (name === 'longer') continue;
          await recall(file);
          await stubs.store.setChange(file, name === 'dirty' ? 3 : 1);
        }
        truncateSync(path.join(tree.data, 'cut'), 5);
        writeFileSync(path.join(tree.data, 'longer'), 'x'.repeat(sizeBytes + 1));
      }
      const report = await rebuild(tree);
      assert.equal(report.dirty, 4);
      using stubs = openStubs(tree);
      for (const name of ['intent', 'dirty', 'cut', 'longer']) {
        const file = only(stubs, name);
        assert.equal(file.change, 3);
        await assert.rejects(recall(file, 0, 1), { code: 'ESTALE' });
      }
      assert.equal(statSync(path.join(tree.data, 'cut')).size, 5);
    });

    test('a writer who was to cut the file off: his own if he did, else still a stub', async () => {
      using tree = newTree(type);
      {
        using stubs = openStubs(tree);
        for (const name of ['not', 'did', 'hid']) {
          const file = stubs.add(name, sizeBytes);
          await recall(file, 0, 1);
          await stubs.store.flush();
          await stubs.store.setChange(file, 2);
        }
        closeSync(openSync(path.join(tree.data, 'did'), 'w'));
        const hid = path.join(tree.data, 'hid');
        writeFileSync(hid, Buffer.alloc(sizeBytes, 'u'));
        setFileTimes(hid, undefined, stubMtime);
      }
      await rebuild(tree);
      using stubs = openStubs(tree);
      assert.deepEqual(
        ['not', 'did', 'hid'].map((name) => only(stubs, name).change),
        [0, 3, 3],
      );
      await recall(only(stubs, 'not'));
      assert.deepEqual(
        new Uint8Array(readFileSync(path.join(tree.data, 'not'))),
        sourceBytes(0, sizeBytes),
      );
      assert.deepEqual(readFileSync(path.join(tree.data, 'hid')), Buffer.alloc(sizeBytes, 'u'));
    });
  });
}
