/** What a listing may and may not change. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { NodeKind } from '../../src/catalog/catalog.ts';
import type { Node } from '../../src/catalog/catalog.ts';
import { judgeFile, newNode, reconcile, refreshed } from '../../src/recall/namespace/reconcile.ts';
import type { ListedObject } from '../../src/remote/remote.ts';

const nowMs = 1_000_000;

function file(change: Partial<Node> = {}): Node {
  return {
    id: 10,
    parentId: 1,
    name: Buffer.from('f'),
    kind: NodeKind.file,
    mode: -1,
    uid: -1,
    gid: -1,
    sizeBytes: 100,
    mtimeSeconds: 6_000,
    mtimeNanoseconds: 0,
    exact: true,
    version: 'v1',
    target: null,
    xattrs: null,
    checkedAtMs: 5,
    listedAtMs: 0,
    ...change,
  };
}

const listed = (change: Partial<ListedObject> = {}): ListedObject => ({
  name: 'f',
  kind: 'file',
  ...change,
});

test('the same exact size and time keep the node and confirm it', () => {
  const change = reconcile(
    1,
    [file()],
    [listed({ sizeBytes: 100, mtime: { seconds: 6_000, nanoseconds: 0 } })],
    nowMs,
  );
  assert.deepEqual(change.removedIds, []);
  assert.equal(change.updated[0]?.checkedAtMs, nowMs);
  assert.equal(change.updated[0]?.version, 'v1');
});

test('another size, time or version gives the name a new node', () => {
  const others: Partial<ListedObject>[] = [
    { sizeBytes: 101 },
    { sizeBytes: 100, mtime: { seconds: 6_001, nanoseconds: 0 } },
    { version: 'v2' },
  ];
  for (const other of others) {
    const change = reconcile(1, [file()], [listed(other)], nowMs);
    assert.deepEqual(change.removedIds, [10], JSON.stringify(other));
    assert.equal(change.inserted.length, 1);
  }
});

test('two answers about one version with different sizes are never taken for the same content', () => {
  assert.equal(judgeFile(file(), listed({ sizeBytes: 77, version: 'v1' })), 'changed');
});

test('a file without a time is exact once the remote was asked about it', () => {
  const timeless = newNode(
    1,
    Buffer.from('f'),
    NodeKind.file,
    listed({ sizeBytes: 1 }),
    nowMs,
    true,
  );
  assert.equal(timeless.exact, true);
  const node = file({ ...timeless, id: 10, version: null });
  assert.equal(judgeFile(node, listed({ sizeBytes: 1 })), 'unsure', 'nothing was compared');
  assert.equal(
    refreshed(file({ exact: false }), listed({ sizeBytes: 1 }), nowMs, true).exact,
    true,
  );
});

test('a listing that rounds confirms nothing, and a contradiction forces a question', () => {
  const agree = reconcile(
    1,
    [file()],
    [listed({ sizeBytes: 100, roundedMtime: { seconds: 6_000, nanoseconds: 0 } })],
    nowMs,
  );
  assert.deepEqual(agree.updated, [], 'keeps its old confirmation');
  const differ = reconcile(
    1,
    [file()],
    [listed({ sizeBytes: 100, roundedMtime: { seconds: 9_600, nanoseconds: 0 } })],
    nowMs,
  );
  assert.deepEqual(differ.removedIds, [], "it may only be the server's time zone");
  assert.equal(differ.updated[0]?.checkedAtMs, 0);
  assert.equal(judgeFile(file(), listed()), 'unsure');
});

test('a file seen for the first time is exact only with size and time', () => {
  const insert = (object: Partial<ListedObject>): boolean | undefined =>
    reconcile(1, [], [listed(object)], nowMs).inserted[0]?.exact;
  assert.equal(insert({ sizeBytes: 1, mtime: { seconds: 1, nanoseconds: 0 } }), true);
  assert.equal(insert({ sizeBytes: 1, roundedMtime: { seconds: 1, nanoseconds: 0 } }), false);
  assert.equal(insert({ mtime: { seconds: 1, nanoseconds: 0 } }), false);
  assert.equal(insert({}), false);
});

test('names that are gone, changed kind or changed target are removed; special files are not shown', () => {
  const link = file({
    id: 11,
    name: Buffer.from('l'),
    kind: NodeKind.symlink,
    target: Buffer.from('a'),
  });
  const directory = file({ id: 12, name: Buffer.from('d'), kind: NodeKind.directory });
  const change = reconcile(
    1,
    [file(), link, directory],
    [
      { name: 'l', kind: 'symlink', target: 'b' },
      { name: 'd', kind: 'file', sizeBytes: 1 },
      { name: 'socket', kind: 'other' },
    ],
    nowMs,
  );
  assert.deepEqual(
    change.removedIds.toSorted((left, right) => left - right),
    [10, 11, 12],
  );
  assert.deepEqual(change.inserted.map((node) => Buffer.from(node.name).toString()).toSorted(), [
    'd',
    'l',
  ]);
});

test('whatever is listed: applying the change gives exactly the listed names', () => {
  const names = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 3, unit: 'grapheme-ascii' }), {
    maxLength: 20,
  });
  const object = fc.record({
    sizeBytes: fc.option(fc.nat(5), { nil: undefined }),
    version: fc.option(fc.constantFrom('v1', 'v2'), { nil: undefined }),
  });
  fc.assert(
    fc.property(names, names, fc.infiniteStream(object), (before, after, facts) => {
      const existing = before.map((name, index) =>
        file({ id: 100 + index, name: Buffer.from(name), ...facts.next().value } as Partial<Node>),
      );
      const listing = after.map((name): ListedObject => ({
        name,
        kind: 'file',
        ...facts.next().value,
      }));
      const change = reconcile(1, existing, listing, nowMs);
      const kept = existing
        .filter((node) => !change.removedIds.includes(node.id))
        .map((node) => Buffer.from(node.name).toString());
      const result = [...kept, ...change.inserted.map((node) => Buffer.from(node.name).toString())];
      assert.deepEqual(result.toSorted(), after.toSorted());
    }),
  );
});
