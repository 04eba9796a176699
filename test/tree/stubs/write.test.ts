/** Recalling into stubs and recording changes, on real file systems. */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  closeSync,
  ftruncateSync,
  openSync,
  readFileSync,
  renameSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';

import { OpenFlag, openFd } from '../../../src/sys/fd.ts';
import { tryLease } from '../../../src/sys/lease.ts';
import { fileStatus, setFileTimes } from '../../../src/sys/stat.ts';
import { runOk } from '../../support/run.ts';
import { sourceBytes } from '../support/cache.ts';
import { FailingDisk } from '../support/failing-disk.ts';
import { imageTypes, newTree, openStubs, recall, stubMtime } from '../support/stubs.ts';

const sizeBytes = 20_000;
const stale = { name: 'EbbError', code: 'ESTALE' };

for (const type of imageTypes) {
  describe(`recalling on ${type}`, { concurrency: false }, () => {
    test('brings the bytes and leaves mtime alone, and on xfs ctime', async () => {
      using tree = newTree(type);
      const name = path.join(tree.data, 'f');
      {
        using stubs = openStubs(tree);
        const file = stubs.add('f', sizeBytes);
        const before = fileStatus(name);
        await recall(file, 1, 2);
        assert.deepEqual(fileStatus(name).mtime, stubMtime);
        assert.deepEqual(
          readFileSync(name).subarray(4_096, 12_288),
          Buffer.from(sourceBytes(4_096, 8_192)),
        );
        await Promise.all([recall(file, 0, 1), recall(file, 3, 2)]);
        assert.deepEqual(fileStatus(name).mtime, stubMtime);
        await stubs.store.flush();
        const after = fileStatus(name);
        assert.deepEqual(after.mtime, stubMtime);
        if (type === 'xfs') assert.deepEqual(after.ctime, before.ctime);
        assert.equal(after.sizeBytes, sizeBytes);
        assert.deepEqual(new Uint8Array(readFileSync(name)), sourceBytes(0, sizeBytes));
        assert.equal(stubs.catalog.get(file.id)?.complete, true);
        assert.equal(stubs.store.unchanged(file), true);
        assert.equal(file.settled, true);
      }
      using again = openStubs(tree);
      const file = again.store.byHandle(again.catalog.page(0, 1)[0]?.handle ?? new Uint8Array(0));
      assert.equal(file?.residency.complete, true);
      const bytes = new Uint8Array(sizeBytes);
      assert.equal(file.readSync(bytes, 0), sizeBytes);
      assert.deepEqual(bytes, sourceBytes(0, sizeBytes));
      assert.deepEqual(again.problems, []);
    });

    test('a claim is recorded without moving the ctime of a file that somebody has open', async () => {
      using tree = newTree(type);
      using stubs = openStubs(tree);
      const file = stubs.add('f', sizeBytes);
      const name = path.join(tree.data, 'f');
      const claimed = (): number => {
        using fd = openFd(name, OpenFlag.rdonly);
        return stubs.store.factsOfMark(fd.fd)?.residentBytes ?? -1;
      };
      await recall(file, 0, 1);
      {
        using reader = openFd(name, OpenFlag.rdonly);
        const before = fileStatus(reader.fd).ctime;
        await stubs.store.flush();
        assert.deepEqual(fileStatus(reader.fd).ctime, before);
        assert.equal(stubs.catalog.get(file.id)?.residentBytes, 4_096);
        assert.equal(claimed(), 0);
      }
      await recall(file, 1, 1);
      await stubs.store.flush();
      assert.equal(claimed(), type === 'xfs' ? 0 : 8_192);
      assert.deepEqual(stubs.problems, []);
    });

    for (const [what, change] of [
      ['cut off', (name: string) => truncateSync(name, 100)],
      ['emptied', (name: string) => truncateSync(name, 0)],
      ['made longer', (name: string) => appendFileSync(name, 'more')],
    ] as const) {
      test(`a file that was ${what} past us is never recalled into`, async () => {
        using tree = newTree(type);
        using stubs = openStubs(tree);
        const file = stubs.add('f', sizeBytes);
        await recall(file, 0, 1);
        const name = path.join(tree.data, 'f');
        change(name);
        const before = readFileSync(name);
        await assert.rejects(recall(file, 2, 1), stale);
        await assert.rejects(recall(file, 1, 1), stale);
        assert.deepEqual(readFileSync(name), before);
        assert.match(stubs.problems[0]?.message ?? '', /f has \d+ bytes instead of 20000/);
        await stubs.store.setChange(file, 3);
        assert.equal(stubs.catalog.get(file.id)?.change, 3);
        assert.equal(file.settled, true);
      });
    }

    test('a writer that truncates: nothing is recalled meanwhile, what lies in it tells whether he did', async () => {
      using tree = newTree(type);
      using stubs = openStubs(tree);
      const { store } = stubs;
      const name = path.join(tree.data, 'f');
      const file = stubs.add('f', sizeBytes);
      const first = file.write(sourceBytes(0, 4_096), 0);
      const recorded = store.setChange(file, 2);
      await assert.rejects(file.write(sourceBytes(4_096, 4_096), 4_096), stale);
      // It had begun, or it had not.
      await first.catch((error: unknown) =>
        assert.throws(() => {
          throw error;
        }, stale),
      );
      assert.throws(() => file.markResident(0, 1, file.losses), stale);
      await recorded;
      assert.equal(stubs.catalog.get(file.id)?.change, 2);
      assert.equal(file.settled, true);
      // Nobody touched it: it may be recalled again.
      assert.equal(store.unchanged(file), true);
      // Not even when other things were done to it: taken for the user's it would stay a stub for ever.
      chmodSync(name, 0o600);
      renameSync(name, `${name}.other`);
      renameSync(`${name}.other`, name);
      assert.equal(store.unchanged(file), true);
      await store.setChange(file, 0);
      await recall(file, 0, 1);
      // Now somebody does, and hides it as well as he can.
      await store.setChange(file, 2);
      closeSync(openSync(name, 'w'));
      writeFileSync(name, Buffer.alloc(sizeBytes, 'u'));
      setFileTimes(name, undefined, stubMtime);
      assert.equal(store.unchanged(file), false);
      await assert.rejects(store.setChange(file, 0), stale);
      await store.setChange(file, 3);
      await assert.rejects(recall(file, 0, 1), stale);
      assert.deepEqual(readFileSync(name), Buffer.alloc(sizeBytes, 'u'));
    });

    test('a writer that truncates a file whose time users had set, and has not come to it', async () => {
      using tree = newTree(type);
      using stubs = openStubs(tree);
      const { store } = stubs;
      const name = path.join(tree.data, 'f');
      const file = stubs.add('f', sizeBytes);
      utimesSync(name, 1, 2);
      await store.setChange(file, 2);
      assert.equal(store.unchanged(file), true);
      await store.setChange(file, 0);
      await recall(file);
      assert.deepEqual(new Uint8Array(readFileSync(name)), sourceBytes(0, sizeBytes));
    });

    test('a writer that truncates and is killed, its daemon, too; then the time is set: a stub still', async () => {
      using tree = newTree(type);
      const name = path.join(tree.data, 'f');
      {
        using stubs = openStubs(tree);
        const file = stubs.add('f', sizeBytes);
        await stubs.store.setChange(file, 2);
        assert.deepEqual(fileStatus(name).mtime, stubMtime);
      }
      utimesSync(name, 1, 2);
      using stubs = openStubs(tree);
      const file = stubs.store.get(stubs.catalog.page(0, 1)[0]?.id ?? 0);
      assert.ok(file !== undefined);
      assert.equal(stubs.store.isUncut(file), true);
      assert.equal(stubs.store.unchanged(file), true);
      using marked = openFd(name, OpenFlag.rdonly);
      assert.equal(stubs.store.factsOfMark(marked.fd)?.change, 0);
      await stubs.store.setChange(file, 0);
      await recall(file);
      assert.deepEqual(new Uint8Array(readFileSync(name)), sourceBytes(0, sizeBytes));
    });

    for (const [how, program] of [
      ['made longer again', 'truncate -s 0 f; truncate -s 20000 f'],
      ['its room set aside', 'truncate -s 0 f; fallocate -l 20000 f'],
      ['more room set aside', 'truncate -s 0 f; fallocate -n -l 1MiB f; truncate -s 20000 f'],
      [
        'room set aside behind it',
        'truncate -s 0 f; truncate -s 20000 f; fallocate -n -o 20000 -l 64KiB f',
      ],
      ['written', 'head -c 20000 /dev/zero > f'],
    ] as const) {
      test(`a file that was cut off is never taken for a stub: ${how}`, async () => {
        using tree = newTree(type);
        using stubs = openStubs(tree);
        const file = stubs.add('f', sizeBytes);
        await stubs.store.setChange(file, 2);
        await runOk('sh', ['-c', `set -e; cd "$0"; ${program}`, tree.data]);
        assert.equal(stubs.store.isUncut(file), false);
        assert.equal(stubs.store.unchanged(file), false);
      });
    }

    test('bytes that no record claims, after a crash: a writer that truncates has not done so yet', async () => {
      using tree = newTree(type);
      {
        using stubs = openStubs(tree);
        const file = stubs.add('f', sizeBytes);
        await file.write(sourceBytes(0, sizeBytes), 0);
      }
      using stubs = openStubs(tree);
      const file = stubs.store.get(stubs.catalog.page(0, 1)[0]?.id ?? 0);
      assert.ok(file !== undefined && file.residency.residentChunks === 0);
      await stubs.store.setChange(file, 2);
      assert.equal(stubs.store.unchanged(file), true);
      const name = path.join(tree.data, 'f');
      writeFileSync(name, Buffer.alloc(sizeBytes, 'u'));
      setFileTimes(name, undefined, stubMtime);
      assert.equal(stubs.store.unchanged(file), false);
    });

    test('a writer is let in when all is here, durably; what he does is seen after a crash', async () => {
      using tree = newTree(type);
      const names = ['touched', 'untouched', 'chmod'];
      {
        using stubs = openStubs(tree);
        const { store } = stubs;
        for (const name of names) {
          const file = stubs.add(name, sizeBytes);
          await recall(file, 0, 2);
          await assert.rejects(store.setChange(file, 1), { code: 'EBUSY' });
          await recall(file, 2);
          await store.setChange(file, 1);
          assert.deepEqual(file.change, 1);
          assert.equal(stubs.catalog.get(file.id)?.complete, true, 'durable first');
        }
        const fd = openSync(path.join(tree.data, 'touched'), 'r+');
        writeSync(fd, 'user', 100);
        ftruncateSync(fd, sizeBytes);
        closeSync(fd);
        utimesSync(path.join(tree.data, 'touched'), 0, 1_600_000_000);
        chmodSync(path.join(tree.data, 'chmod'), 0o600);
      }
      using stubs = openStubs(tree);
      const files = stubs.catalog.page(0, 10).map(({ id }) => stubs.store.get(id));
      const [touched, untouched, chmod] = files;
      assert.ok(touched && untouched && chmod);
      assert.deepEqual(
        files.map((file) => file?.change),
        [1, 1, 1],
      );
      assert.equal(stubs.store.unchanged(touched), false);
      assert.equal(stubs.store.unchanged(chmod), false);
      assert.equal(stubs.store.unchanged(untouched), true);
      await stubs.store.setChange(untouched, 0);
      await stubs.store.setChange(touched, 3);
      await stubs.store.setChange(touched, 1);
      assert.equal(touched.change, 3, 'dirty stays');
      assert.equal(stubs.catalog.totals().dirty, 1);
    });
  });
}

test('a file that is cut off while we write stays cut off', async () => {
  using tree = newTree('xfs');
  using stubs = openStubs(tree);
  let undone = 0;
  for (let round = 0; round < 60; round += 1) {
    const name = path.join(tree.data, `f${round}`);
    const file = stubs.add(`f${round}`, 4 * 2 ** 20);
    const written = file.write(new Uint8Array(2 ** 20).fill(1), 2 ** 20);
    // Long enough for the check before, too short for the write, at least now and then.
    for (let turn = 0; turn < round % 12; turn += 1) await Promise.resolve();
    truncateSync(name, 0);
    await written.then(undefined, (error: unknown) => {
      undone += 1;
      assert.throws(() => {
        throw error;
      }, stale);
    });
    assert.equal(fileStatus(name).sizeBytes, 0);
  }
  assert.ok(undone > 0, 'a write met it');
});

test('a deleted stub is ESTALE, and forgotten when asked', async () => {
  using tree = newTree('xfs');
  using stubs = openStubs(tree);
  const file = stubs.add('f', sizeBytes);
  const other = stubs.add('other', sizeBytes);
  unlinkSync(path.join(tree.data, 'f'));
  await assert.rejects(recall(file, 0, 1), stale);
  assert.equal(stubs.store.unchanged(file), false);
  await stubs.store.forget([file.id, 999]);
  assert.equal(stubs.store.get(file.id), undefined);
  assert.deepEqual(stubs.catalog.known('f'), { key: 'f', version: 'v1', id: 0 });
  renameSync(path.join(tree.data, 'other'), path.join(tree.data, 'f'));
  await recall(other);
  assert.deepEqual(
    new Uint8Array(readFileSync(path.join(tree.data, 'f'))),
    sourceBytes(0, sizeBytes),
  );
});

test('our own descriptor does not look like a writer once it is closed', async () => {
  using tree = newTree('xfs');
  using stubs = openStubs(tree);
  const file = stubs.add('f', sizeBytes);
  await recall(file);
  using fd = openFd(path.join(tree.data, 'f'), OpenFlag.rdonly);
  assert.equal(stubs.store.closeOwn(file), false, 'not durable yet');
  assert.equal(tryLease(fd.fd, 'read'), false);
  await stubs.store.settled(file.id);
  assert.equal(stubs.store.closeOwn(file), true);
  assert.equal(tryLease(fd.fd, 'read'), true);
});

test('a stub whose bytes a failed sync lost is not claimed by who marks them afterwards', async () => {
  using tree = newTree('xfs');
  const disk = new FailingDisk();
  using stubs = openStubs(tree, { syncData: disk.syncData });
  const file = stubs.add('f', sizeBytes);
  const { losses } = file;
  await file.write(sourceBytes(0, sizeBytes), 0);
  disk.fails = true;
  await stubs.store.flush();
  disk.fails = false;
  assert.throws(() => file.markResident(0, file.residency.chunkCount, losses), { code: 'EIO' });
  await stubs.store.flush();
  assert.equal(stubs.catalog.get(file.id)?.residentBytes, 0);
  await recall(file);
  await stubs.store.flush();
  assert.equal(stubs.catalog.get(file.id)?.complete, true);
});

test('a writer is not let in when the disk did not take what he is to find', async () => {
  using tree = newTree('xfs');
  const disk = new FailingDisk(true);
  using stubs = openStubs(tree, { syncData: disk.syncData });
  const file = stubs.add('f', sizeBytes);
  await recall(file);
  await assert.rejects(stubs.store.setChange(file, 1), { code: 'EIO' });
  assert.deepEqual([file.change, stubs.catalog.get(file.id)?.change], [0, 0]);
  disk.fails = false;
  await assert.rejects(stubs.store.setChange(file, 1), { code: 'EBUSY' });
  await recall(file);
  await stubs.store.setChange(file, 1);
  assert.equal(stubs.catalog.get(file.id)?.complete, true);
});

test('a stub that is wholly here becomes an ordinary file', async () => {
  using tree = newTree('btrfs');
  using stubs = openStubs(tree);
  const file = stubs.add('f', sizeBytes);
  await recall(file, 0, 1);
  await assert.rejects(stubs.store.unmark(file), { code: 'EBUSY' });
  await recall(file, 1);
  await stubs.store.unmark(file);
  assert.equal(stubs.catalog.totals().stubs, 0);
  using fd = openFd(path.join(tree.data, 'f'), OpenFlag.rdonly);
  assert.equal(stubs.store.factsOfMark(fd.fd), undefined);
  assert.deepEqual(
    new Uint8Array(readFileSync(path.join(tree.data, 'f'))),
    sourceBytes(0, sizeBytes),
  );
});

test('a stub whose bytes the disk did not take does not become an ordinary file', async () => {
  using tree = newTree('xfs');
  const disk = new FailingDisk(true);
  using stubs = openStubs(tree, { syncData: disk.syncData });
  const { store, catalog } = stubs;
  const file = stubs.add('f', sizeBytes);
  await recall(file);
  await assert.rejects(store.unmark(file), { code: 'EIO' });
  using fd = openFd(path.join(tree.data, 'f'), OpenFlag.rdonly);
  assert.equal(store.factsOfMark(fd.fd)?.id, file.id);
  assert.equal(catalog.get(file.id)?.residentBytes, 0);
  disk.fails = false;
  await recall(file);
  await store.unmark(file);
  assert.equal(store.factsOfMark(fd.fd), undefined);
});
