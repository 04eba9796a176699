/** Making stubs on real file systems: what users see of them, and what they never see. */
import assert from 'node:assert/strict';
import { fsyncSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';

import { OpenFlag, openFd } from '../../../src/sys/fd.ts';
import { writeSmallAt } from '../../../src/sys/file-io.ts';
import { Seek, seek } from '../../../src/sys/io.ts';
import { fileStatus } from '../../../src/sys/stat.ts';
import { filesystemStatus } from '../../../src/sys/statfs.ts';
import { getXattr, setXattr } from '../../../src/sys/xattr.ts';
import { isPoison, poisonBodyBytes, poisonedBytesMax } from '../../../src/tree/stubs/poison.ts';
import { run } from '../support/image.ts';
import type { NamedStub } from '../../../src/tree/stubs/stub-maker-thread.ts';
import { imageTypes, newStub, newTree, openStubs, stubMtime } from '../support/stubs.ts';
import type { TestTree } from '../support/stubs.ts';

function names(tree: TestTree): string[] {
  return readdirSync(tree.data).toSorted();
}

const nameOfStub: Readonly<Record<number, string>> = { 1: 'first', 4: 'second', 5: 'alone' };

for (const type of imageTypes) {
  describe(`stubs on ${type}`, { concurrency: false }, () => {
    test('a stub has all the attributes of the remote file and its mark', () => {
      using tree = newTree(type);
      using stubs = openStubs(tree);
      const xattrs = new Map([['user.note', Uint8Array.of(0, 1, 255)]]);
      const file = stubs.add('f', 10_000, { mode: 0o4751, uid: 12, gid: 34, xattrs });
      const status = fileStatus(path.join(tree.data, 'f'));
      assert.equal(status.sizeBytes, 10_000);
      assert.equal(status.mode & 0o7777, 0o4751);
      assert.deepEqual([status.uid, status.gid, status.nlink], [12, 34, 1]);
      assert.deepEqual(status.mtime, stubMtime);
      const note = getXattr(path.join(tree.data, 'f'), 'user.note');
      assert.deepEqual(note, Uint8Array.of(0, 1, 255));
      using fd = openFd(path.join(tree.data, 'f'), OpenFlag.rdonly);
      const { lost: _lost, accessedAtMs: _at, ...record } = stubs.catalog.get(file.id) ?? {};
      assert.deepEqual(stubs.store.factsOfMark(fd.fd), record);
      assert.equal(stubs.store.byHandle(file.handle), file);
      assert.equal(stubs.store.unchanged(file), true);
      assert.deepEqual(names(tree), ['f'], 'nothing else was made');
    });

    test('any name that Linux has; others are refused and leave nothing', () => {
      using tree = newTree(type);
      using stubs = openStubs(tree);
      const { store } = stubs;
      const odd = Uint8Array.of(0xff, 0x0a, 0x5c, 0x80);
      store.create(store.rootFd, odd, newStub(1, 'odd', 5));
      store.create(store.rootFd, Buffer.alloc(255, 'n'), newStub(2, 'long', 5));
      for (const [name, code] of [
        [Buffer.alloc(256, 'n'), 'ENAMETOOLONG'],
        [Buffer.alloc(0), 'EINVAL'],
        [Buffer.from('a/b'), 'EINVAL'],
        [Buffer.from('a\0b'), 'EINVAL'],
        [Buffer.from('.'), 'EEXIST'],
        [Buffer.from('..'), 'EEXIST'],
        [odd, 'EEXIST'],
      ] as const) {
        const make = (): unknown => store.create(store.rootFd, name, newStub(3, 'x', 5));
        assert.throws(make, { name: 'EbbError', code });
      }
      const found = readdirSync(tree.data, { encoding: 'buffer' }).map((name) => name.length);
      assert.deepEqual(new Set(found), new Set([255, 4]));
      assert.equal(found.length, 2);
    });

    test('a thread that dies is told to who waits for it, and to nobody else', async () => {
      using tree = newTree(type);
      using stubs = openStubs(tree);
      const { store } = stubs;
      const maker = store.startMaker();
      const broken = undefined as unknown as NamedStub;
      const dead = { name: 'EbbError', code: 'EIO' };
      await assert.rejects(maker.make(store.rootFd, [broken]), dead);
      await maker[Symbol.asyncDispose]();
      await assert.rejects(maker.make(store.rootFd, []), dead);
    });

    test('a thread tells the time that the file system keeps', async () => {
      using tree = newTree(type, type === 'ext4' ? ['-I', '128'] : []);
      using stubs = openStubs(tree);
      const { store } = stubs;
      const maker = store.startMaker();
      const [made] = await maker.make(store.rootFd, [
        { name: Buffer.from('f'), stub: newStub(1, 'f', 5_000) },
      ]);
      await maker[Symbol.asyncDispose]();
      assert.ok(made !== undefined && !('code' in made));
      using fd = openFd(path.join(tree.data, 'f'), OpenFlag.rdonly);
      const { mtime } = fileStatus(fd.fd);
      assert.equal(mtime.nanoseconds, type === 'ext4' ? 0 : stubMtime.nanoseconds);
      assert.deepEqual(
        [made.mtimeSeconds, made.mtimeNanoseconds],
        [mtime.seconds, mtime.nanoseconds],
      );
      assert.deepEqual(store.factsOfMark(fd.fd), made);
    });

    test('a thread makes the same, answers in order, and ends when it is told to', async () => {
      using tree = newTree(type);
      using stubs = openStubs(tree);
      const { store } = stubs;
      const maker = store.startMaker();
      const named = (id: number, name: Uint8Array) => ({
        name,
        stub: newStub(id, `key ${id}`, id * 3_000, { mode: 0o640, uid: 12, gid: 34 }),
      });
      const asked = [
        named(1, Buffer.from('first')),
        named(2, Buffer.alloc(256, 'n')),
        named(3, Buffer.from('first')),
        named(4, Buffer.from('second')),
      ];
      const [one, both] = await Promise.all([
        maker.make(store.rootFd, [named(5, Buffer.from('alone'))]),
        maker.make(store.rootFd, asked),
      ]);
      const results = [...one, ...both].map((made) => ('code' in made ? made.code : made.id));
      assert.deepEqual(results, [5, 1, 'ENAMETOOLONG', 'EEXIST', 4]);
      for (const made of [...one, ...both]) {
        if ('code' in made) continue;
        using fd = openFd(path.join(tree.data, nameOfStub[made.id] ?? ''), OpenFlag.rdonly);
        assert.deepEqual(store.factsOfMark(fd.fd), made);
        const { sizeBytes, mode, uid, gid, mtime } = fileStatus(fd.fd);
        assert.deepEqual([sizeBytes, mode & 0o777, uid, gid], [made.id * 3_000, 0o640, 12, 34]);
        assert.deepEqual(mtime, stubMtime);
      }
      assert.deepEqual(names(tree), ['alone', 'first', 'second']);
      const last = maker.make(store.rootFd, [named(6, Buffer.from('last'))]);
      await maker[Symbol.asyncDispose]();
      assert.equal((await last).length, 1, 'what was asked for is made');
      await assert.rejects(maker.make(store.rootFd, asked), { code: 'EIO' });
    });

    test('sizes around blocks and poison bodies: programs see data, reads see poison', () => {
      using tree = newTree(type);
      using stubs = openStubs(tree);
      const body = poisonBodyBytes;
      const sizes = [0, 1, 63, 4_095, 4_096, 4_097, 10_000, body - 1, body, body + 1, 3 * body + 5];
      for (const sizeBytes of sizes) {
        stubs.add(`f${sizeBytes}`, sizeBytes);
        const bytes = readFileSync(path.join(tree.data, `f${sizeBytes}`));
        assert.equal(bytes.length, sizeBytes);
        if (sizeBytes === 0) continue;
        using fd = openFd(path.join(tree.data, `f${sizeBytes}`), OpenFlag.rdonly);
        const { allocatedBytes } = fileStatus(fd.fd);
        if (stubs.store.hasPoison) {
          assert.ok(isPoison(bytes, 0), `all of ${sizeBytes} bytes is poison`);
          assert.equal(seek(fd.fd, 0, Seek.hole), sizeBytes, 'no hole');
          assert.ok(allocatedBytes >= sizeBytes);
        } else {
          assert.ok(bytes.every((byte) => byte === 0));
          assert.equal(allocatedBytes <= 4_096, true);
        }
      }
      assert.equal(stubs.store.hasPoison, type !== 'ext4');
      assert.equal(stubs.store.isInvisible, type === 'xfs');
    });

    test('a mark that was copied, and one of another tree, is none', () => {
      using tree = newTree(type);
      using stubs = openStubs(tree);
      stubs.add('f', 5);
      const copy = path.join(tree.data, 'copy');
      run('cp', ['-a', '--preserve=all', path.join(tree.data, 'f'), copy], 'copies');
      const mark = getXattr(path.join(tree.data, 'f'), 'trusted.ebb');
      assert.ok(mark);
      setXattr(copy, 'trusted.ebb', mark);
      using fd = openFd(copy, OpenFlag.rdonly);
      assert.equal(stubs.store.factsOfMark(fd.fd), undefined);
      writeFileSync(path.join(tree.data, 'plain'), '');
      using plain = openFd(path.join(tree.data, 'plain'), OpenFlag.rdonly);
      assert.equal(stubs.store.factsOfMark(plain.fd), undefined);
    });
  });
}

test('poison takes no room of its own', async () => {
  using tree = newTree('xfs');
  using stubs = openStubs(tree);
  stubs.add('first', 16 * 2 ** 20 + 1);
  await stubs.store.syncTree();
  const before = filesystemStatus(tree.path).freeBytes;
  for (let index = 0; index < 20; index += 1) stubs.add(`f${index}`, 2 ** 30 + 1);
  await stubs.store.syncTree();
  const takenBytes = before - filesystemStatus(tree.path).freeBytes;
  assert.ok(takenBytes < 2 * 2 ** 20, `20 GiB of stubs take ${takenBytes} bytes`);
});

test('content in the place of poison takes the room that it needs, though the files are still open', async () => {
  using tree = newTree('xfs');
  using stubs = openStubs(tree);
  const contents = Array.from({ length: 100 }, () => Buffer.alloc(1_000, 'x'));
  for (const [index, { length }] of contents.entries()) stubs.add(`f${index}`, length);
  await stubs.store.syncTree();
  const before = filesystemStatus(tree.path).freeBytes;
  using open = new DisposableStack();
  for (const [index, bytes] of contents.entries()) {
    const { fd } = open.use(openFd(path.join(tree.data, `f${index}`), OpenFlag.rdwr));
    writeSmallAt(fd, bytes, 0);
    fsyncSync(fd);
  }
  const takenBytes = before - filesystemStatus(tree.path).freeBytes;
  // One block each; xfs itself would keep 128 KiB for each as long as it is open.
  assert.ok(takenBytes < 100 * 16 * 1024, `100 files of 1,000 bytes take ${takenBytes} bytes`);
});

for (const type of ['xfs', 'btrfs'] as const) {
  test(`${type}: poison that a power cut left without its end is made anew`, () => {
    using tree = newTree(type);
    const sizes = [poisonBodyBytes, 5_000];
    for (const name of ['none', 'rest-904', 'body']) {
      if (name !== 'none') truncateSync(path.join(tree.path, '.ebb', 'poison', name), 4_096);
      using stubs = openStubs(tree);
      for (const sizeBytes of sizes) {
        stubs.add(`${name}-${sizeBytes}`, sizeBytes);
        assert.ok(isPoison(readFileSync(path.join(tree.data, `${name}-${sizeBytes}`)), 0));
      }
    }
    for (const sizeBytes of sizes) {
      assert.ok(
        isPoison(readFileSync(path.join(tree.data, `none-${sizeBytes}`)), 0),
        'older stubs',
      );
    }
  });
}

test('a file that would take millions of extents of poison is refused', () => {
  using tree = newTree('xfs');
  using stubs = openStubs(tree);
  assert.throws(() => stubs.add('f', poisonedBytesMax + 1), { code: 'EFBIG' });
  assert.deepEqual(names(tree), []);
});

test('poison is known at any place, and nothing else is', () => {
  using tree = newTree('xfs');
  using stubs = openStubs(tree);
  stubs.add('f', 100_000);
  const bytes = readFileSync(path.join(tree.data, 'f'));
  for (const [from, to] of [
    [0, 1],
    [5, 100_000],
    [4_095, 4_097],
    [64, 128],
  ] as const) {
    assert.ok(isPoison(bytes.subarray(from, to), from));
  }
  assert.match(bytes.subarray(0, 64).toString(), /^Ebb: .*\n$/);
  assert.equal(isPoison(new Uint8Array(0), 0), false);
  assert.equal(isPoison(new Uint8Array(10), 0), false);
  assert.equal(isPoison(bytes.subarray(0, 100), 1), false);
  const almost = Uint8Array.from(bytes);
  almost[99_999] = 0;
  assert.equal(isPoison(almost, 0), false);
});
