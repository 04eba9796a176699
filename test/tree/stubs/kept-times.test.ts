/** A daemon that is killed between a write of its own and setting mtime back: who comes next does that. */
import assert from 'node:assert/strict';
import { statSync, utimesSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { fileStatus, sameTime } from '../../../src/sys/stat.ts';
import type { LoadedStub } from '../../../src/tree/stubs/stub-file.ts';
import { imageTypes, newTree, openStubs, recall, stubMtime } from '../support/stubs.ts';
import type { TestStubs, TestTree } from '../support/stubs.ts';

const sizeBytes = 20_000;
const movedTo = 1_700_000_000;
const attemptsMax = 50;

/** As far as a write gets before the daemon is killed: the slot is taken, mtime has moved. */
function beginWrite(stubs: TestStubs, tree: TestTree, name: string): void {
  const file = stubs.store.byHandle(handleOf(stubs, name)) as LoadedStub;
  stubs.store.keepTimes(file, fileStatus(path.join(tree.data, name)));
  utimesSync(path.join(tree.data, name), movedTo, movedTo);
}

function handleOf(stubs: TestStubs, name: string): Uint8Array {
  const record = stubs.catalog.page(0, 100).find(({ key }) => key === name);
  assert.ok(record !== undefined);
  return record.handle;
}

for (const type of imageTypes.filter((one) => one !== 'xfs')) {
  describe(`times on ${type}`, { concurrency: false }, () => {
    test('killed during a write: mtime is set back, and nothing looks changed', async () => {
      using tree = newTree(type);
      {
        using stubs = openStubs(tree);
        await recall(stubs.add('f', sizeBytes), 0, 2);
        stubs.add('g', sizeBytes);
        await stubs.store.flush();
        beginWrite(stubs, tree, 'f');
        beginWrite(stubs, tree, 'g');
      }
      using again = openStubs(tree);
      for (const name of ['f', 'g']) {
        assert.deepEqual(fileStatus(path.join(tree.data, name)).mtime, stubMtime);
        const file = again.store.byHandle(handleOf(again, name));
        assert.ok(file !== undefined && again.store.unchanged(file));
      }
    });

    test('of stubs that are written to in turn the last one is set back, until it is over, too', async () => {
      using tree = newTree(type);
      const names = ['before', 'first', 'last'];
      {
        using stubs = openStubs(tree);
        for (const name of names) stubs.add(name, sizeBytes);
        await stubs.store.flush();
        const times = stubs.store.keepTimesInTurn();
        const begin = (name: string): void => {
          const file = stubs.store.byHandle(handleOf(stubs, name)) as LoadedStub;
          times?.keep(file.id, fileStatus(path.join(tree.data, name)));
        };
        begin('before');
        times?.[Symbol.dispose]();
        begin('first');
        begin('last');
        for (const name of names) utimesSync(path.join(tree.data, name), movedTo, movedTo);
      }
      using _again = openStubs(tree);
      for (const name of ['before', 'first']) {
        assert.equal(statSync(path.join(tree.data, name)).mtimeMs, movedTo * 1_000, name);
      }
      assert.deepEqual(fileStatus(path.join(tree.data, 'last')).mtime, stubMtime);
    });

    test('times that a user set stay, also those of a file that is wholly here', async () => {
      using tree = newTree(type);
      const touched = path.join(tree.data, 'touched');
      {
        using stubs = openStubs(tree);
        await recall(stubs.add('whole', sizeBytes));
        const file = stubs.add('touched', sizeBytes);
        await stubs.store.flush();
        beginWrite(stubs, tree, 'whole');
        utimesSync(touched, movedTo, movedTo);
        await recall(file, 0, 1);
      }
      using _again = openStubs(tree);
      for (const name of ['whole', 'touched']) {
        assert.equal(statSync(path.join(tree.data, name)).mtimeMs, movedTo * 1_000);
      }
    });

    test('a time that a user sets while his file is written to is his', async () => {
      using tree = newTree(type);
      using stubs = openStubs(tree);
      const largeBytes = 16 * 1024 * 1024;
      const file = stubs.add('f', largeBytes);
      const name = path.join(tree.data, 'f');
      let isSeen = false;
      for (let attempt = 0; !isSeen && attempt < attemptsMax; attempt += 1) {
        let hasEnded = false;
        const writing = file.write(new Uint8Array(largeBytes), 0).finally(() => (hasEnded = true));
        // On a busy machine all of it may have been written, and mtime set back, between two looks.
        while (!hasEnded && !isSeen) {
          await setImmediate();
          isSeen = !sameTime(fileStatus(name).mtime, stubMtime);
        }
        // Nobody has set it back: that is for this thread to do.
        if (isSeen) utimesSync(name, movedTo, movedTo);
        await writing;
      }
      assert.ok(isSeen, 'mtime was never seen to move');
      assert.equal(statSync(name).mtimeMs, movedTo * 1_000);
      await file.write(new Uint8Array(4_096), 0);
      assert.equal(statSync(name).mtimeMs, movedTo * 1_000);
    });
  });
}
