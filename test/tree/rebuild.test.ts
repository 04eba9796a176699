/** Rebuilding the catalog from the marks: believed is what was committed, and nothing that was copied or made up. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { openSqliteCatalog } from '../../src/catalog/sqlite/catalog.ts';
import { OpenFlag, openFd } from '../../src/sys/fd.ts';
import { punchHole } from '../../src/sys/fallocate.ts';
import { getXattr, setXattr } from '../../src/sys/xattr.ts';
import { catalogPath, contentPath } from '../../src/tree/layout.ts';
import { rebuildCatalog, scanTree } from '../../src/tree/rebuild.ts';
import { releaseContent } from '../../src/tree/release-content.ts';
import { chunkBytes, openCache, sourceBytes, temporaryDirectory } from './support/cache.ts';
import { mountImage } from './support/image.ts';

function loseCatalog(directory: string): void {
  for (const suffix of ['', '-wal', '-shm']) {
    rmSync(catalogPath(directory) + suffix, { force: true });
  }
}

test('contents come back with their ids, and the listing adopts them', async () => {
  using directory = temporaryDirectory();
  const before = openCache(directory.path);
  const whole = before.add('whole', 5 * chunkBytes + 1);
  const partial = before.add('partial\udcff', 5 * chunkBytes);
  const empty = before.add('empty', 0);
  const released = before.add('released', chunkBytes);
  const uncommitted = before.add('uncommitted', chunkBytes);
  await before.fill(whole);
  await before.fill(partial, 1, 2);
  await before.fill(released);
  await before.store.log.flush();
  before.store.setPinned(partial, true);
  await releaseContent(before.store, released, {
    prove: ({ version, sizeBytes }) => Promise.resolve({ version, sizeBytes }),
    isBusy: () => false,
  });
  await before.fill(uncommitted);
  before.abandon();
  loseCatalog(directory.path);

  const after = openCache(directory.path);
  try {
    const report = await rebuildCatalog(after.catalog, directory.path, after.store.identity);
    // A stub gets its mark with its first durable claim; without one there is nothing to bring back.
    assert.deepEqual(
      report.ignored.map(({ path, why }) => [Number(path.split('/').at(-1)), why]),
      [
        [empty.id, 'no mark'],
        [uncommitted.id, 'no mark'],
      ],
    );
    assert.equal(report.contents, 3);
    const residentBytes = 7 * chunkBytes + 1;
    assert.equal(report.residentBytes, residentBytes);
    assert.equal(after.catalog.totals(1).residentBytes, residentBytes);
    const orphans = after.catalog.orphans(0, 10);
    assert.deepEqual(
      orphans.map(({ id, key, complete }) => [id, key, complete]),
      [
        [whole.id, 'whole', true],
        [partial.id, 'partial\udcff', false],
        [released.id, 'released', false],
      ],
    );
    const found = after.store.get(partial.id);
    assert.deepEqual(found?.residency.runs(), [{ first: 1, count: 2 }]);
    assert.equal(found.pinned, true);
    const into = new Uint8Array(2 * chunkBytes);
    found.readSync(into, chunkBytes);
    assert.deepEqual(into, sourceBytes(chunkBytes, 2 * chunkBytes));
    after.catalog.applyListing({
      directoryId: 1,
      listedAtMs: 1,
      inserted: [
        newFile('whole', 'v1', 5 * chunkBytes + 1),
        newFile('released', 'v2', chunkBytes),
        newFile('new', 'v1', 1),
      ],
      updated: [],
      removedIds: [],
    });
    const [first, second, third] = after.catalog.children(1, 0, 10);
    assert.equal(first?.id, whole.id);
    assert.ok((second?.id ?? 0) > uncommitted.id + 2 ** 32);
    assert.ok((third?.id ?? 0) > uncommitted.id + 2 ** 32);
  } finally {
    after.abandon();
  }
});

function newFile(name: string, version: string, sizeBytes: number) {
  return {
    parentId: 1,
    name: Uint8Array.from(Buffer.from(name)),
    kind: 1 as const,
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
  };
}

test('what is not ours is passed over, with a reason', async () => {
  using mount = mountImage('ext4');
  const cacheDirectory = path.join(mount.path, 'cache');
  const cache = openCache(cacheDirectory);
  try {
    const contents = [];
    for (let number = 0; number < 6; number += 1) {
      const content = cache.add(`f${number}`, 3 * chunkBytes);
      await cache.fill(content);
      contents.push(content);
    }
    await cache.store.log.flush();
    const [copied, forged, holed, unmarked, resized, kept] = contents.map(({ id }) => ({
      id,
      file: contentPath(cacheDirectory, id),
    }));
    assert.ok(copied && forged && holed && unmarked && resized && kept);
    const name = cache.store.marks.attributeName ?? '';
    assert.equal(name, 'trusted.ebb', 'the tests run with privileges');

    const copy = spawnSync('cp', ['-a', copied.file, `${copied.file}.new`], { encoding: 'utf8' });
    assert.equal(copy.status, 0, copy.stderr);
    assert.ok(getXattr(`${copied.file}.new`, name), 'the mark was copied along');
    rmSync(copied.file);
    copyOver(`${copied.file}.new`, copied.file);
    const mark = getXattr(forged.file, name);
    assert.ok(mark);
    mark[70] = (mark[70] ?? 0) ^ 1;
    setXattr(forged.file, name, mark);
    {
      using fd = openFd(holed.file, OpenFlag.rdwr);
      punchHole(fd.fd, chunkBytes, 4_096);
    }
    rmSync(unmarked.file);
    writeFileSync(unmarked.file, new Uint8Array(3 * chunkBytes));
    writeFileSync(resized.file, 'x', { flag: 'a' });
    writeFileSync(path.join(cacheDirectory, 'tree', '0', 'stranger'), '');

    const results = new Map<string, string>();
    for await (const result of scanTree(cacheDirectory, cache.store.identity)) {
      const bytes = 'why' in result ? result.why : String(result.content.residentBytes);
      results.set(result.path, bytes);
    }
    assert.equal(results.get(copied.file), 'mark not believed: copied from another file');
    assert.equal(results.get(forged.file), 'mark not believed: seal broken');
    assert.equal(results.get(unmarked.file), 'no mark');
    assert.equal(results.get(resized.file), 'size changed');
    assert.equal(results.get(holed.file), String(2 * chunkBytes), 'a hole is never believed');
    assert.equal(results.get(kept.file), String(3 * chunkBytes));
    assert.equal(
      results.get(path.join(cacheDirectory, 'tree', '0', 'stranger')),
      'not a file of Ebb',
    );
  } finally {
    cache.abandon();
  }
});

/** Renames, so that the copied inode stands at the path. */
function copyOver(from: string, to: string): void {
  const moved = spawnSync('mv', [from, to], { encoding: 'utf8' });
  assert.equal(moved.status, 0, moved.stderr);
}

test('a copied tree starts empty', async () => {
  using directory = temporaryDirectory();
  const [source, copy] = ['source', 'copy'].map((name) => path.join(directory.path, name));
  assert.ok(source && copy);
  const cache = openCache(source);
  await cache.fill(cache.add('f', chunkBytes));
  await cache.store.log.flush();
  cache.abandon();
  const copied = spawnSync('cp', ['-a', source, copy], { encoding: 'utf8' });
  assert.equal(copied.status, 0, copied.stderr);
  loseCatalog(copy);
  const other = openCache(copy);
  try {
    const report = await rebuildCatalog(other.catalog, copy, other.store.identity);
    assert.equal(report.contents, 0);
    assert.match(report.ignored[0]?.why ?? '', /copied from another file/);
  } finally {
    other.abandon();
  }
});

test('without privileges the mark is a user attribute, and rebuild works the same', () => {
  using mount = mountImage('ext4');
  const program = path.join(import.meta.dirname, 'support', 'unprivileged-process.ts');
  spawnSync('chmod', ['0777', mount.path]);
  spawnSync('chmod', ['0755', path.dirname(mount.path)]);
  const cacheDirectory = path.join(mount.path, 'cache');
  const child = spawnSync(process.execPath, [program, cacheDirectory], {
    uid: 65_534,
    gid: 65_534,
    encoding: 'utf8',
    timeout: 30_000,
  });
  assert.equal(child.status, 0, child.stderr);
  assert.equal(child.stdout.trim(), 'user.ebb 4096 released');
  assert.ok(readdirSync(cacheDirectory).includes('ebb-tree.json'));
});

test('a rebuilt catalog is an ordinary one', async () => {
  using directory = temporaryDirectory();
  const cache = openCache(directory.path);
  const content = cache.add('f', chunkBytes);
  await cache.fill(content);
  await cache.store.log.flush();
  const { identity } = cache.store;
  cache.abandon();
  copyFileSync(catalogPath(directory.path), `${catalogPath(directory.path)}.old`);
  loseCatalog(directory.path);
  {
    using catalog = openSqliteCatalog(catalogPath(directory.path));
    await rebuildCatalog(catalog, directory.path, identity);
  }
  using again = openSqliteCatalog(catalogPath(directory.path));
  assert.equal(again.content(content.id)?.complete, true);
});
