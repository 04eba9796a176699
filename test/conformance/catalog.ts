/** What every catalog must do: one suite over the SQLite and the memory one. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { NodeKind, ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import type { Catalog } from '../../src/catalog/catalog.ts';
import {
  insert,
  nameBytes,
  newContent,
  newDirectory,
  newNode,
  remove,
} from './catalog-fixtures.ts';

export interface CatalogFixture extends Disposable {
  readonly catalog: Catalog;
}

function first<Item>(items: readonly Item[]): Item {
  const [item] = items;
  assert.ok(item !== undefined);
  return item;
}

const gone = { name: 'EbbError', code: 'ENOENT' };
const taken = { name: 'EbbError', code: 'EEXIST' };

export function catalogConformance(kind: string, open: () => CatalogFixture): void {
  const check = (title: string, body: (catalog: Catalog) => void): void => {
    test(title, () => {
      using fixture = open();
      body(fixture.catalog);
    });
  };
  describe(`${kind} catalog`, () => {
    namespaceTests(check);
    changeTests(check);
    contentTests(check);
    orphanTests(check);
  });
}

type Check = (title: string, body: (catalog: Catalog) => void) => void;

function namespaceTests(check: Check): void {
  check('a new catalog holds an unlisted root and nothing else', (catalog) => {
    const root = catalog.node(ROOT_NODE_ID);
    assert.equal(root?.kind, NodeKind.directory);
    assert.equal(root.listedAtMs, 0);
    assert.equal(root.parentId, 0);
    assert.deepEqual(catalog.path(ROOT_NODE_ID), []);
    assert.deepEqual(catalog.children(ROOT_NODE_ID, 0, 10), []);
    const nothing = { files: 0, directories: 0, remoteBytes: 0, residentBytes: 0, contents: 0 };
    assert.deepEqual(catalog.totals(ROOT_NODE_ID), nothing);
  });

  check('a listing inserts nodes that keep every fact', (catalog) => {
    const xattrs = new Map([
      ['user.a', Uint8Array.of(0, 255)],
      ['user.empty', new Uint8Array(0)],
    ]);
    const odd = Uint8Array.of(0xff, 0x80, 0x20);
    const given = [
      newNode(1, 'a', { xattrs }),
      newNode(1, '', { name: odd, exact: false, sizeBytes: -1, mode: -1, version: null }),
      newNode(1, 'l', { kind: NodeKind.symlink, target: Uint8Array.of(0x2f, 0xfe), mode: 0o7777 }),
      newNode(1, 'big', { sizeBytes: Number.MAX_SAFE_INTEGER, mtimeSeconds: -62_135_596_800 }),
      newNode(1, 'v', { version: 'a\u0000b\udc80\ud800', target: new Uint8Array(0) }),
    ];
    const nodes = insert(catalog, 1, ...given);
    for (const [index, node] of nodes.entries()) {
      assert.deepEqual({ ...node }, { ...given[index], id: node.id, listedAtMs: 0 });
      assert.deepEqual({ ...catalog.node(node.id) }, { ...node });
      assert.deepEqual({ ...catalog.child(1, node.name) }, { ...node });
      assert.deepEqual(catalog.path(node.id), [node.name]);
    }
    assert.equal(catalog.node(1)?.listedAtMs, 7);
    assert.equal(catalog.child(1, nameBytes('b')), undefined);
    assert.equal(catalog.child(nodes[0]?.id ?? 0, nameBytes('a')), undefined);
  });

  check('names may lie in shared memory', (catalog) => {
    const name = new Uint8Array(new SharedArrayBuffer(3));
    name.set(nameBytes('abc'));
    insert(catalog, 1, newNode(1, '', { name }));
    assert.ok(catalog.child(1, name));
    assert.ok(catalog.child(1, nameBytes('abc')));
  });

  check('children come in the order of the listing, in pages', (catalog) => {
    const names = ['z', 'm', 'a', 'q', 'b'];
    const nodes = insert(catalog, 1, ...names.map((name) => newNode(1, name)));
    assert.deepEqual(catalog.children(1, 0, 100), nodes);
    assert.deepEqual(catalog.children(1, nodes[1]?.id ?? 0, 2), nodes.slice(2, 4));
    assert.deepEqual(catalog.children(1, nodes[4]?.id ?? 0, 2), []);
    const checks = nodes.map(({ id, checkedAtMs }) => [id, checkedAtMs]);
    assert.deepEqual(catalog.childChecks(1, 0, 100), checks);
    assert.deepEqual(catalog.childChecks(1, nodes[1]?.id ?? 0, 2), checks.slice(2, 4));
    assert.deepEqual(catalog.childChecks(2, 0, 2), []);
  });

  check('paths, subdirectories and totals below a directory', (catalog) => {
    const [a, , c] = insert(
      catalog,
      1,
      newDirectory(1, 'a'),
      newNode(1, 'f'),
      newDirectory(1, 'c'),
    );
    assert.ok(a && c);
    const [b] = insert(catalog, a.id, newDirectory(a.id, 'b'), newNode(a.id, 'g'));
    assert.ok(b);
    const [file] = insert(catalog, b.id, newNode(b.id, 'h', { sizeBytes: -1 }));
    assert.ok(file);
    catalog.putContent(newContent(file.id, 'a/b/h'));
    assert.deepEqual(catalog.path(file.id), ['a', 'b', 'h'].map(nameBytes));
    assert.equal(catalog.path(999), undefined);
    assert.equal(catalog.subdirectoryCount(1), 2);
    assert.equal(catalog.subdirectoryCount(c.id), 0);
    const below = { files: 2, directories: 1, remoteBytes: 100, residentBytes: 30, contents: 1 };
    assert.deepEqual(catalog.totals(a.id), below);
    assert.deepEqual(catalog.totals(1), { ...below, files: 3, directories: 3, remoteBytes: 200 });
    assert.equal(catalog.totals(c.id).contents, 0);
  });
}

function changeTests(check: Check): void {
  check('a listing is applied as a whole or not at all', (catalog) => {
    const [a, b] = insert(catalog, 1, newNode(1, 'a'), newNode(1, 'b'));
    assert.ok(a && b);
    const change = {
      directoryId: 1,
      listedAtMs: 9,
      inserted: [newNode(1, 'c'), newNode(1, 'b')],
      updated: [{ ...b, sizeBytes: 7 }],
      removedIds: [a.id],
    };
    assert.throws(() => catalog.applyListing(change), taken);
    assert.deepEqual(catalog.children(1, 0, 10), [a, b]);
    assert.equal(catalog.node(1)?.listedAtMs, 7);
    assert.equal(catalog.totals(1).remoteBytes, 200);
    assert.ok(first(insert(catalog, 1, newNode(1, 'd'))).id > b.id);
  });

  check('a listing of what is no directory is refused', (catalog) => {
    const file = first(insert(catalog, 1, newNode(1, 'a')));
    assert.throws(() => insert(catalog, 77), gone);
    assert.throws(() => insert(catalog, file.id), { code: 'ENOTDIR' });
  });

  check('a name that was removed can be used again in the same listing', (catalog) => {
    const old = first(insert(catalog, 1, newNode(1, 'a')));
    const change = { directoryId: 1, listedAtMs: 9, updated: [], removedIds: [old.id] };
    const [node] = catalog.applyListing({ ...change, inserted: [newDirectory(1, 'a')] });
    assert.equal(catalog.node(old.id), undefined);
    assert.equal(catalog.child(1, nameBytes('a'))?.id, node?.id);
    assert.notEqual(node?.id, old.id);
  });

  check('updates take over the facts, except what the listing does not know', (catalog) => {
    const file = first(insert(catalog, 1, newNode(1, 'a')));
    const sub = first(insert(catalog, 1, newDirectory(1, 's')));
    insert(catalog, sub.id);
    const xattrs = new Map([['user.x', Uint8Array.of(1)]]);
    const facts = {
      mode: 0,
      uid: 4_294_967_295,
      sizeBytes: 5,
      exact: false,
      version: null,
      xattrs,
    };
    catalog.applyListing({
      directoryId: 1,
      listedAtMs: 9,
      inserted: [],
      updated: [{ ...file, ...facts, name: nameBytes('other'), parentId: 5 }, sub],
      removedIds: [],
    });
    assert.deepEqual(catalog.node(file.id), { ...file, ...facts });
    assert.equal(catalog.node(sub.id)?.listedAtMs, 7);
    assert.equal(catalog.totals(1).remoteBytes, 5);
    catalog.updateNode({ ...sub, listedAtMs: 0 });
    assert.equal(catalog.node(sub.id)?.listedAtMs, 0);
  });

  check('changes of nodes that are elsewhere or gone are passed over', (catalog) => {
    const sub = first(insert(catalog, 1, newDirectory(1, 's')));
    const file = first(insert(catalog, sub.id, newNode(sub.id, 'f')));
    const lateUpdate = { ...file, sizeBytes: 1 };
    const gone = { ...file, id: 999 };
    catalog.applyListing({
      directoryId: 1,
      listedAtMs: 9,
      inserted: [],
      updated: [lateUpdate, gone],
      removedIds: [file.id, 999],
    });
    assert.deepEqual(catalog.node(file.id), file);
    assert.throws(() => catalog.updateNode(gone), { code: 'ENOENT' });
    catalog.removeNode(999);
  });

  check('a directory goes with everything below', (catalog) => {
    const a = first(insert(catalog, 1, newDirectory(1, 'a')));
    const b = first(insert(catalog, a.id, newDirectory(a.id, 'b'), newNode(a.id, 'x')));
    const f = first(insert(catalog, b.id, newNode(b.id, 'f'), newNode(b.id, 'g')));
    catalog.putContent(newContent(f.id, 'a/b/f'));
    catalog.removeNode(a.id);
    assert.equal(catalog.node(a.id), undefined);
    assert.equal(catalog.node(b.id), undefined);
    assert.equal(catalog.node(f.id)?.parentId, 0);
    assert.equal(catalog.content(f.id)?.lost, true);
    assert.equal(catalog.path(f.id), undefined);
    const rest = { files: 0, directories: 0, remoteBytes: 0, residentBytes: 30, contents: 1 };
    assert.deepEqual(catalog.totals(1), rest);
    assert.deepEqual(catalog.children(b.id, 0, 10), []);
  });

  check('ids are never used again', (catalog) => {
    const seen = new Set<number>([ROOT_NODE_ID]);
    for (let round = 0; round < 20; round += 1) {
      const nodes = insert(catalog, 1, newNode(1, 'a'), newNode(1, 'b'));
      for (const node of nodes) {
        assert.ok(!seen.has(node.id));
        seen.add(node.id);
      }
      remove(catalog, 1, ...nodes.map((node) => node.id));
    }
    catalog.continueIdsAfter(1_000_000);
    assert.equal(first(insert(catalog, 1, newNode(1, 'a'))).id, 1_000_001);
    catalog.continueIdsAfter(5);
    assert.equal(first(insert(catalog, 1, newNode(1, 'b'))).id, 1_000_002);
  });

  check('settings', (catalog) => {
    assert.equal(catalog.setting('tree'), undefined);
    catalog.setSetting('tree', 'x');
    catalog.setSetting('tree', 'y\u00e9');
    assert.equal(catalog.setting('tree'), 'y\u00e9');
  });
}

function contentTests(check: Check): void {
  check('a content keeps every fact and belongs to a file', (catalog) => {
    const [file, directory] = insert(catalog, 1, newNode(1, 'a'), newDirectory(1, 'd'));
    assert.ok(file && directory);
    const key = 'dir/\udc80\udcff/f';
    const content = newContent(file.id, key, {
      version: 'x\udcfe',
      handle: Uint8Array.of(0, 1, 255),
    });
    assert.equal(catalog.content(file.id), undefined);
    catalog.putContent(content);
    assert.deepEqual({ ...catalog.content(file.id) }, { ...content });
    const changed = { ...content, complete: true, residentBytes: 100, bitmap: new Uint8Array(0) };
    catalog.putContent({ ...changed, pinned: true, lost: true });
    assert.deepEqual(catalog.content(file.id), { ...changed, pinned: true, lost: true });
    assert.throws(() => catalog.putContent({ ...content, version: 'other' }), /Bug/);
    assert.throws(() => catalog.putContent(newContent(directory.id, 'd')), /Bug/);
    assert.throws(() => catalog.putContent(newContent(99, 'd')), gone);
    assert.throws(() => catalog.updateNode({ ...file, version: 'v2' }), /Bug/);
  });

  check('residency, accesses, pins and loss', (catalog) => {
    const [a, b] = insert(catalog, 1, newNode(1, 'a'), newNode(1, 'b'));
    assert.ok(a && b);
    catalog.putContent(newContent(a.id, 'a'));
    catalog.putContent(newContent(b.id, 'b', { residentBytes: 0 }));
    const bitmap = Uint8Array.of(7);
    catalog.commitResidency([
      { id: a.id, bitmap, residentBytes: 10, complete: false },
      { id: b.id, bitmap, residentBytes: 100, complete: true },
      { id: 99, bitmap, residentBytes: 100, complete: true },
    ]);
    assert.equal(catalog.totals(1).residentBytes, 110);
    assert.deepEqual(catalog.content(b.id)?.bitmap, bitmap);
    assert.equal(catalog.content(b.id)?.complete, true);
    catalog.touch(
      new Map([
        [a.id, 50_000],
        [99, 1],
      ]),
    );
    catalog.setPinned(a.id, true);
    catalog.setLost(a.id, true);
    const { accessedAtMs, pinned, lost } = catalog.content(a.id) ?? {};
    assert.deepEqual([accessedAtMs, pinned, lost], [50_000, true, true]);
    catalog.commitResidency([]);
    catalog.touch(new Map());
  });

  check('least recently used first, without what holds no bytes, in stable pages', (catalog) => {
    const nodes = insert(catalog, 1, ...'abcdefg'.split('').map((name) => newNode(1, name)));
    const times = [30, 10, 20, 10, 40, 10, 5];
    for (const [index, node] of nodes.entries()) {
      const residentBytes = index === 6 ? 0 : 1;
      const accessedAtMs = times[index] ?? 0;
      catalog.putContent(newContent(node.id, 'k', { residentBytes, accessedAtMs }));
    }
    const order: number[] = [];
    let page = catalog.leastRecentlyUsed(undefined, 2);
    while (page.length > 0) {
      order.push(...page.map((content) => nodes.findIndex(({ id }) => id === content.id)));
      page = catalog.leastRecentlyUsed(page.at(-1), 2);
    }
    assert.deepEqual(order, [1, 3, 5, 2, 0, 4]);
    assert.deepEqual(
      catalog.contents(nodes[3]?.id ?? 0, 2).map((content) => content.id),
      [nodes[4]?.id, nodes[5]?.id],
    );
  });

  check('deleting a content leaves the name', (catalog) => {
    const file = first(insert(catalog, 1, newNode(1, 'a')));
    catalog.putContent(newContent(file.id, 'a'));
    catalog.deleteContent(file.id);
    catalog.deleteContent(file.id);
    assert.equal(catalog.content(file.id), undefined);
    assert.deepEqual(catalog.node(file.id), file);
    assert.equal(catalog.totals(1).contents, 0);
    assert.equal(catalog.totals(1).residentBytes, 0);
  });
}

function orphanTests(check: Check): void {
  const orphanIds = (catalog: Catalog): number[] => catalog.orphans(0, 100).map(({ id }) => id);

  check('a replaced file with content becomes an orphan, one without goes', (catalog) => {
    const [a, b] = insert(catalog, 1, newNode(1, 'a'), newNode(1, 'b'));
    assert.ok(a && b);
    catalog.putContent(newContent(a.id, 'a'));
    const a2 = catalog.replaceNode(a.id, newNode(1, 'a', { version: 'v2', sizeBytes: 7 }));
    const b2 = catalog.replaceNode(b.id, newNode(1, 'b', { version: 'v2' }));
    assert.ok(a2.id > b.id && b2.id > a2.id);
    assert.equal(catalog.node(a.id)?.parentId, 0);
    assert.equal(catalog.content(a.id)?.lost, false);
    assert.equal(catalog.node(b.id), undefined);
    assert.equal(catalog.content(a2.id), undefined);
    assert.equal(catalog.child(1, nameBytes('a'))?.id, a2.id);
    assert.deepEqual(orphanIds(catalog), [a.id]);
    assert.equal(catalog.totals(1).remoteBytes, 107);
    assert.throws(() => catalog.replaceNode(a.id, newNode(1, 'a')), gone);
    catalog.deleteContent(a.id);
    assert.equal(catalog.node(a.id), undefined);
    assert.deepEqual(orphanIds(catalog), []);
  });

  check('a name that is gone for certain leaves its content as a lost orphan', (catalog) => {
    const file = first(insert(catalog, 1, newNode(1, 'a')));
    catalog.putContent(newContent(file.id, 'a'));
    catalog.removeNode(file.id);
    assert.equal(catalog.child(1, nameBytes('a')), undefined);
    assert.equal(catalog.content(file.id)?.lost, true);
    catalog.removeNode(file.id);
    assert.deepEqual(orphanIds(catalog), [file.id]);
  });

  check('the same version of the same key comes back to its content', (catalog) => {
    const dir = first(insert(catalog, 1, newDirectory(1, 'd')));
    const file = first(insert(catalog, dir.id, newNode(dir.id, 'f')));
    catalog.putContent(newContent(file.id, 'd/f'));
    catalog.updateNode({ ...file, listedAtMs: 5 });
    remove(catalog, 1, dir.id);
    assert.equal(catalog.orphanByKey('d/f', 'v1')?.id, file.id);
    assert.equal(catalog.orphanByKey('d/f', 'v2'), undefined);
    assert.equal(catalog.orphanByKey('f', 'v1'), undefined);
    const dir2 = first(insert(catalog, 1, newDirectory(1, 'd')));
    const other = first(insert(catalog, dir2.id, newNode(dir2.id, 'f', { version: 'v2' })));
    assert.notEqual(other.id, file.id);
    const back = catalog.replaceNode(other.id, newNode(dir2.id, 'f', { mode: 0o400 }));
    assert.equal(back.id, file.id);
    assert.equal(catalog.content(file.id)?.lost, false);
    assert.equal(catalog.node(file.id)?.mode, 0o400);
    assert.deepEqual(catalog.node(file.id), back, 'what is kept is what was answered');
    assert.deepEqual(catalog.path(file.id), ['d', 'f'].map(nameBytes));
    assert.deepEqual(orphanIds(catalog), []);
    assert.equal(catalog.totals(1).files, 1);
  });

  check('no adoption where size or kind differ, or the version is unknown', (catalog) => {
    for (const change of [
      { sizeBytes: 99 },
      { version: null },
      { kind: NodeKind.symlink, target: nameBytes('t') },
    ]) {
      const file = first(insert(catalog, 1, newNode(1, 'a')));
      catalog.putContent(newContent(file.id, 'a'));
      remove(catalog, 1, file.id);
      const node = first(insert(catalog, 1, newNode(1, 'a', change)));
      assert.notEqual(node.id, file.id, JSON.stringify(change));
      remove(catalog, 1, node.id);
      catalog.deleteContent(file.id);
    }
  });

  check('contents found in the tree come back as orphans and are adopted', (catalog) => {
    catalog.restoreOrphans([newContent(40, 'd/f', { pinned: true }), newContent(20, 'g')]);
    assert.deepEqual(orphanIds(catalog), [20, 40]);
    assert.deepEqual(catalog.node(40)?.name, nameBytes('f'));
    assert.throws(() => catalog.restoreOrphans([newContent(41, 'x'), newContent(20, 'g')]), taken);
    assert.equal(catalog.node(41), undefined);
    assert.equal(catalog.totals(1).residentBytes, 60);
    assert.equal(catalog.totals(1).files, 0);
    const [g, d] = insert(catalog, 1, newNode(1, 'g'), newDirectory(1, 'd'));
    assert.ok(g && d);
    assert.equal(g.id, 20);
    assert.ok(d.id > 40);
    const byId = newNode(d.id, 'renamed', { id: 40, version: null });
    assert.equal(first(insert(catalog, d.id, byId)).id, 40);
    assert.equal(catalog.content(40)?.pinned, true);
    assert.deepEqual(orphanIds(catalog), []);
    assert.throws(() => insert(catalog, 1, newNode(1, 'n', { id: 40 })), /Bug/);
  });
}
