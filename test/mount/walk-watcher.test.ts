/** What the FUSE thread asks for when it sees a walker; who walks is tested in test/recall/walk.test.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeName } from '../../src/base/name.ts';
import { NodeKind, ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import type { Node } from '../../src/catalog/catalog.ts';
import { MemoryCatalog } from '../../src/catalog/memory/catalog.ts';
import type { Bridge } from '../../src/mount/bridge.ts';
import type { ToMain } from '../../src/mount/messages.ts';
import { NodeView } from '../../src/mount/node-view.ts';
import { WalkWatcher } from '../../src/mount/walk-watcher.ts';
import { fileRow } from './rows.ts';

type Prefetch = Extract<ToMain, { kind: 'prefetch' }>;

const walker = { pid: 7, uid: 0, gid: 0 };
const stranger = { pid: 8, uid: 0, gid: 0 };
const filesPerDirectory = 10;

/** Directories `d0`, `d1`, ... with ten vague files of 100 bytes each. */
function scene(directories: number): { watcher: WalkWatcher; files: Node[][]; asked: Prefetch[] } {
  const catalog = new MemoryCatalog();
  const listing = { listedAtMs: 1, updated: [], removedIds: [] };
  const row = (parentId: number, name: string): ReturnType<typeof fileRow> => ({
    ...fileRow(name, { exact: false, version: null, sizeBytes: 100 }),
    parentId,
  });
  const made = catalog.applyListing({
    ...listing,
    directoryId: ROOT_NODE_ID,
    inserted: Array.from({ length: directories }, (_, index) => ({
      ...row(ROOT_NODE_ID, `d${index}`),
      kind: NodeKind.directory,
      name: encodeName(`d${index}`),
    })),
  });
  const files = made.map(({ id }) =>
    catalog.applyListing({
      ...listing,
      directoryId: id,
      inserted: Array.from({ length: filesPerDirectory }, (_, index) => row(id, `f${index}`)),
    }),
  );
  const asked: Prefetch[] = [];
  const bridge = { tell: (message: ToMain) => asked.push(message as Prefetch) };
  const view = new NodeView(catalog, 60_000, () => 1_000);
  const watcher = new WalkWatcher(view, bridge as unknown as Bridge, () => 1_000);
  return { watcher, files, asked };
}

test('a program that walked one directory gets the whole of the next with its first step', () => {
  const { watcher, files, asked } = scene(2);
  const [first = [], second = []] = files;
  for (const file of first.slice(0, 4)) watcher.looked(file, walker);
  assert.ok(asked.length > 0, 'it proved itself in the first directory');
  asked.length = 0;
  const [entry] = second;
  assert.ok(entry);
  watcher.looked(entry, walker);
  assert.deepEqual(
    asked.flatMap((message) => message.factIds),
    second.slice(1).map((file) => file.id),
  );
});

test('a program that looks at one file per directory gets nothing, nor does another one profit', () => {
  const { watcher, files, asked } = scene(6);
  for (const [one] of files) if (one !== undefined) watcher.looked(one, stranger);
  assert.deepEqual(asked, []);
});

test('opening files in order brings contents, and no facts beside them', () => {
  const { watcher, files, asked } = scene(2);
  const [first = [], second = []] = files;
  for (const file of first.slice(0, 4)) {
    watcher.looked(file, walker);
    watcher.opened(file, walker);
  }
  asked.length = 0;
  const [entry] = second;
  assert.ok(entry);
  watcher.opened(entry, walker);
  assert.deepEqual(asked.flatMap((message) => message.contentIds).length, filesPerDirectory - 1);
  asked.length = 0;
  for (const file of second.slice(1)) watcher.looked(file, walker);
  assert.deepEqual(
    asked.flatMap((message) => message.factIds),
    [],
  );
});
