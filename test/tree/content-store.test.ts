/** The tree on the file system of the tests: stubs, bytes, possession, and files that are not ours. */
import assert from 'node:assert/strict';
import {
  copyFileSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  mkdirSync,
} from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { contentPath } from '../../src/tree/layout.ts';
import {
  chunkBytes,
  openCache,
  remote,
  sourceByte,
  sourceBytes,
  temporaryDirectory,
} from './support/cache.ts';
import type { TestCache } from './support/cache.ts';
import { mountTmpfs } from './support/image.ts';

function check(title: string, body: (cache: TestCache) => Promise<void> | void): void {
  test(title, async () => {
    using directory = temporaryDirectory();
    const cache = openCache(directory.path);
    try {
      await body(cache);
    } finally {
      cache.abandon();
    }
  });
}

check('a stub has its full size and no blocks', ({ add, store, directory, catalog }) => {
  for (const sizeBytes of [0, 1, 5 * chunkBytes + 7, 2 ** 40]) {
    const content = add(`f${sizeBytes}`, sizeBytes);
    const file = statSync(contentPath(directory, content.id));
    assert.equal(file.size, sizeBytes);
    assert.equal(file.mode & 0o777, 0o600);
    // ext4 may keep an attribute that does not fit into the inode in a block of its own.
    assert.ok(store.allocatedBytes(content.id) <= 4_096);
    assert.equal(content.residency.complete, sizeBytes === 0);
    assert.equal(catalog.content(content.id)?.complete, sizeBytes === 0);
  }
});

check('bytes that were written are read back, here and by the kernel', async (cache) => {
  const { add, fill, store } = cache;
  const content = add('f', 5 * chunkBytes + 7);
  await fill(content, 1, 2);
  await fill(content, 5, 1);
  assert.equal(content.residency.residentBytes, 2 * chunkBytes + 7);
  const into = new Uint8Array(chunkBytes + 100);
  assert.equal(content.readSync(into, 2 * chunkBytes - 50), into.length);
  assert.deepEqual(into.subarray(0, 50), sourceBytes(2 * chunkBytes - 50, 50));
  assert.equal(content.readSync(into, 5 * chunkBytes), 7);
  using fd = store.openForPassthrough(content.id);
  const bytes = readFileSync(`/proc/self/fd/${fd.fd}`);
  assert.equal(bytes[chunkBytes], sourceByte(chunkBytes));
  assert.equal(bytes[0], 0);
});

check('a write outside of the file is a mistake of ours', async ({ add }) => {
  const content = add('f', 10);
  await assert.rejects(content.write(new Uint8Array(11), 0), /Bug/);
  await assert.rejects(content.write(new Uint8Array(1), 10), /Bug/);
});

test('claims survive an orderly end, with and without commits in between', async () => {
  using directory = temporaryDirectory();
  let id = 0;
  {
    await using stack = new AsyncDisposableStack();
    const { store, catalog, add, fill } = openCache(directory.path);
    stack.use(catalog);
    stack.use(store);
    const content = add('f', 3 * chunkBytes);
    id = content.id;
    await fill(content, 0, 2);
    assert.equal(catalog.content(id)?.residentBytes, 0, 'not durable yet');
  }
  const again = openCache(directory.path);
  const content = again.store.get(id);
  assert.equal(content, again.store.get(id), 'one object per content');
  assert.deepEqual(content?.residency.runs(), [{ first: 0, count: 2 }]);
  const into = new Uint8Array(2 * chunkBytes);
  content.readSync(into, 0);
  assert.deepEqual(into, sourceBytes(0, 2 * chunkBytes));
  assert.equal(again.store.get(id + 1), undefined);
  again.abandon();
});

check('one daemon per cache, one remote per cache', ({ directory }) => {
  const message = new RegExp(`Another daemon \\(pid ${process.pid}\\) uses the cache`);
  assert.throws(() => openCache(directory), { code: 'EBUSY', message });
  assert.equal(statSync(path.join(directory, 'secret')).mode & 0o777, 0o600);
  assert.equal(statSync(path.join(directory, 'secret')).size, 32);
});

test('the identity of a tree stays, and damage to it is said', () => {
  using directory = temporaryDirectory();
  const open = (owner = remote): string => {
    const { store, abandon } = openCache(directory.path, { remote: owner });
    abandon();
    return store.identity.treeId;
  };
  const treeId = open();
  assert.equal(open(), treeId);
  assert.throws(() => open('http://other/'), { code: 'EEXIST', message: /belongs to http:.*pub/ });
  const facts = path.join(directory.path, 'ebb-tree.json');
  const json = readFileSync(facts, 'utf8');
  writeFileSync(facts, json.replace('"format": 1', '"format": 2'));
  assert.throws(() => open(), { code: 'EPROTO', message: /newer Ebb/ });
  writeFileSync(facts, '{');
  assert.throws(() => open(), { code: 'EUCLEAN' });
  writeFileSync(facts, json);
  writeFileSync(path.join(directory.path, 'secret'), 'short');
  assert.throws(() => open(), { code: 'EUCLEAN' });
});

const intruders: readonly [string, (file: string) => void][] = [
  [
    'a copy in its place',
    (file) => {
      copyFileSync(file, `${file}.copy`);
      renameSync(`${file}.copy`, file);
    },
  ],
  ['nothing', (file) => rmSync(file)],
  [
    'a symlink to it',
    (file) => {
      renameSync(file, `${file}.moved`);
      symlinkSync(`${file}.moved`, file);
    },
  ],
  ['another size', (file) => truncateSync(file, 1)],
  [
    'one with a hole, as when the catalog claims too much',
    (file) => {
      truncateSync(file, chunkBytes);
      truncateSync(file, 2 * chunkBytes);
    },
  ],
];

for (const [what, replace] of intruders) {
  test(`a cache file that was replaced by ${what} is never used`, async () => {
    using directory = temporaryDirectory();
    const first = openCache(directory.path);
    const { id } = first.add('f', 2 * chunkBytes);
    const content = first.store.get(id);
    assert.ok(content);
    await first.fill(content);
    await first.store.log.flush();
    first.abandon();

    replace(contentPath(directory.path, id));
    const cache = openCache(directory.path);
    try {
      const claimed = cache.store.get(id);
      assert.equal(claimed?.residency.complete, true);
      const notOurs = { code: 'EIO', message: /cannot be used/ };
      assert.throws(() => cache.store.openForPassthrough(id), notOurs);
      assert.throws(() => claimed.readSync(new Uint8Array(5), 0), notOurs);
      await assert.rejects(claimed.write(new Uint8Array(5), 0), notOurs);
      assert.equal(claimed.residency.residentChunks, 0);
      assert.equal(cache.catalog.content(id)?.residentBytes, 0);
      assert.equal(cache.problems[0]?.kind, 'not ours');
      await cache.store.delete(id);
      const anew = cache.store.create(id, 'f', 'v1', 2 * chunkBytes);
      cache.catalog.putContent({ ...cache.store.factsOf(anew), accessedAtMs: 1, lost: false });
      await cache.fill(anew);
      assert.equal(anew.readSync(new Uint8Array(5), 0), 5);
      assert.throws(() => claimed.markResident(0, 1, claimed.losses), { code: 'ESTALE' });
    } finally {
      cache.abandon();
    }
  });
}

check('a file that a crash left under the id is replaced', async ({ store, directory }) => {
  mkdirSync(path.dirname(contentPath(directory, 77)));
  writeFileSync(contentPath(directory, 77), 'left over');
  const content = store.create(77, 'f', 'v1', 3);
  assert.equal(statSync(contentPath(directory, 77)).size, 3);
  assert.equal(readFileSync(contentPath(directory, 77))[0], 0);
  await store.delete(content.id);
  await store.delete(content.id);
  assert.throws(() => statSync(contentPath(directory, 77)), { code: 'ENOENT' });
});

test('a bounded number of descriptors serves any number of files', async () => {
  using directory = temporaryDirectory();
  const cache = openCache(directory.path, { limits: { openDescriptorsMax: 3 } });
  try {
    const contents = Array.from({ length: 8 }, (_, index) => cache.add(`f${index}`, 10));
    for (const content of contents) {
      await cache.fill(content);
      await cache.store.log.flush();
    }
    for (const content of contents) assert.equal(content.readSync(new Uint8Array(10), 0), 10);
  } finally {
    cache.abandon();
  }
});

test('a full cache says so and claims nothing', async () => {
  using mount = mountTmpfs(4 * 2 ** 20);
  const limits = { reservedBytes: 2 ** 20 };
  const cache = openCache(path.join(mount.path, 'cache'), { limits });
  try {
    const content = cache.add('f', 2 ** 26);
    const { availableBytes, totalBytes } = cache.store.space();
    assert.ok(availableBytes > 0 && availableBytes <= totalBytes && totalBytes === 4 * 2 ** 20);
    const write = content.write(new Uint8Array(8 * 2 ** 20), 0);
    await assert.rejects(write, { code: 'ENOSPC', message: /cache is full: f/ });
    assert.equal(content.residency.residentChunks, 0);
    // Filled to the reserve, the record can still be written.
    let chunk = 0;
    const fillAll = async (): Promise<void> => {
      for (; ; chunk += 16) await cache.fill(content, chunk, 16);
    };
    await assert.rejects(fillAll(), { code: 'ENOSPC' });
    assert.ok(chunk > 0);
    await cache.store.log.flush();
    assert.equal(cache.catalog.content(content.id)?.residentBytes, chunk * chunkBytes);
  } finally {
    cache.abandon();
  }
});
