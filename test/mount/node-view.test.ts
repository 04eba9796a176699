/** What the FUSE thread remembers of the catalog, and how long it and the kernel may trust it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeName } from '../../src/base/name.ts';
import { ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import { MemoryCatalog } from '../../src/catalog/memory/catalog.ts';
import { NodeView } from '../../src/mount/node-view.ts';
import { fileRow, listRoot } from './rows.ts';

const ttlMs = 1_000;

function setUp(): { catalog: MemoryCatalog; view: NodeView; clock: { nowMs: number } } {
  const catalog = new MemoryCatalog();
  const clock = { nowMs: 10_000 };
  return { catalog, clock, view: new NodeView(catalog, ttlMs, () => clock.nowMs) };
}

test('rows are remembered until their facts are said to have changed', () => {
  const { catalog, view } = setUp();
  const [node] = listRoot(catalog, 10_000, [fileRow('a', { sizeBytes: 5 })]);
  assert.ok(node);
  assert.equal(view.node(node.id)?.sizeBytes, 5);
  catalog.updateNode({ ...node, mode: 0o600 });
  assert.equal(view.node(node.id)?.mode, -1);
  view.forget(node.id);
  assert.equal(view.node(node.id)?.mode, 0o600);
});

test('a name is always looked up in the catalog', () => {
  const { catalog, view } = setUp();
  const [node] = listRoot(catalog, 10_000, [fileRow('a')]);
  assert.ok(node);
  assert.equal(view.child(ROOT_NODE_ID, encodeName('a'))?.id, node.id);
  const next = catalog.replaceNode(node.id, fileRow('a', { version: 'v2' }));
  assert.equal(view.child(ROOT_NODE_ID, encodeName('a'))?.id, next.id);
});

test('freshness ends with the time to live, of the listing or of the file', () => {
  const { catalog, clock, view } = setUp();
  const [node] = listRoot(catalog, 10_000, [fileRow('a', { checkedAtMs: 10_500 })]);
  const root = catalog.node(ROOT_NODE_ID);
  assert.ok(node && root);
  clock.nowMs = 10_900;
  assert.equal(view.isListingFresh(root), true);
  assert.equal(view.entryTimeoutMs(node, root), 600);
  clock.nowMs = 11_000;
  assert.equal(view.isListingFresh(root), false);
  assert.equal(view.isVersionFresh(node), true);
  clock.nowMs = 11_500;
  assert.equal(view.isVersionFresh(node), false);
  assert.equal(view.entryTimeoutMs(node, root), 0);
});

test('without exact facts or a version nothing is fresh, and with a ttl of 0 nothing ever is', () => {
  const { catalog, view } = setUp();
  const rows = [fileRow('vague', { exact: false }), fileRow('new', { version: null })];
  for (const node of listRoot(catalog, 10_000, rows))
    assert.equal(view.isVersionFresh(node), false);
  const strict = new NodeView(catalog, 0, () => 10_000);
  const root = catalog.node(ROOT_NODE_ID);
  assert.ok(root);
  assert.equal(strict.isListingFresh(root), false);
});

test('an orphan is no longer part of the tree', () => {
  const { catalog, view } = setUp();
  const [node] = listRoot(catalog, 10_000, [fileRow('a')]);
  const root = catalog.node(ROOT_NODE_ID);
  assert.ok(node && root);
  assert.ok(view.isNamed(node) && view.isNamed(root));
  assert.equal(view.isNamed({ ...node, parentId: 0 }), false);
});
