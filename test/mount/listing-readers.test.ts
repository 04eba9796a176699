/** Programs that take longer to go through a directory than its listing is trusted. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../src/base/errno.ts';
import { encodeName } from '../../src/base/name.ts';
import { NodeKind, ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import type { NewNode, Node } from '../../src/catalog/catalog.ts';
import { ListingReaders, readersMax } from '../../src/mount/listing-readers.ts';
import { readOnly, Scene } from './front-scene.ts';
import { fileRow } from './rows.ts';

const ttlMs = 60_000;
const pid = 77;

/** A root with files `a`, `b`, `c`, opened by `pid` at once; the listing is 61 s old by now. */
function oldListing(change: Partial<NewNode> = {}): { scene: Scene; nodes: Node[] } {
  const scene = new Scene(ttlMs);
  const nodes = scene.list(['a', 'b', 'c'].map((name) => fileRow(name, change)));
  openRoot(scene);
  scene.nowMs += ttlMs - 1_000;
  readRoot(scene, false);
  scene.nowMs += 2_000;
  assert.deepEqual(scene.told(), []);
  return { scene, nodes };
}

function openRoot(scene: Scene): void {
  const call = scene.kernel.call({ pid });
  scene.fileSystem.opendir(call, ROOT_NODE_ID);
  call.expect('opened');
}

function readRoot(scene: Scene, plus: boolean): (number | undefined)[] {
  const call = scene.kernel.call({ pid, directoryEntries: 100 });
  scene.fileSystem.readdir(call, ROOT_NODE_ID, 1, 0, plus);
  return call.expect('directory').entries.map(({ entry }) => entry?.entryTimeoutMs);
}

/** The time to live of the answer; undefined: main was asked. */
function lookup(scene: Scene, name: string, who = pid): number | undefined {
  const call = scene.kernel.call({ pid: who });
  scene.fileSystem.lookup(call, ROOT_NODE_ID, encodeName(name));
  const asked = scene.told();
  if (asked.length === 0) return call.expect('entry').entry.entryTimeoutMs;
  for (const question of asked) if ('id' in question) scene.answer(question, Errno.EIO);
  assert.equal(call.errno, Errno.EIO);
  return undefined;
}

test('who began with a fresh listing is served from it to its end: nobody is asked about single names', () => {
  const { scene } = oldListing();
  using _scene = scene;
  assert.equal(lookup(scene, 'a'), 1_000);
  scene.nowMs += ttlMs - 1;
  assert.equal(lookup(scene, 'c'), 1_000);
});

test('each name once and in order; others, and who paused, are served by the time to live', () => {
  const { scene } = oldListing();
  using _scene = scene;
  assert.equal(lookup(scene, 'a', pid + 1), undefined, 'another process');
  assert.equal(lookup(scene, 'absent'), undefined, 'a name that the listing does not have');
  assert.equal(lookup(scene, 'b'), 1_000);
  assert.equal(lookup(scene, 'b'), undefined, 'again');
  assert.equal(lookup(scene, 'a'), undefined, 'backwards');
  scene.nowMs += ttlMs;
  assert.equal(lookup(scene, 'c'), undefined, 'after a pause');
});

test('directories too are looked up without a new listing of where they are', () => {
  const { scene } = oldListing({ kind: NodeKind.directory, version: null });
  using _scene = scene;
  assert.equal(lookup(scene, 'a'), 1_000);
});

test('what the listing does not tell is asked for, and opening asks for the version', () => {
  const vague = oldListing({ exact: false, version: null, sizeBytes: -1 });
  using _vague = vague.scene;
  assert.equal(lookup(vague.scene, 'a'), undefined);
  const { scene, nodes } = oldListing();
  using _scene = scene;
  assert.equal(lookup(scene, 'a'), 1_000);
  scene.fileSystem.open(scene.kernel.call({ pid }), nodes[0]?.id ?? 0, readOnly);
  scene.question('open');
});

test('names are given along with facts, once', () => {
  const { scene } = oldListing();
  using _scene = scene;
  const plus = true;
  const past = readRoot(scene, plus).slice(2);
  assert.deepEqual(past, [0, 0, 0], 'these were given before');
  scene.list([]);
  scene.post({ kind: 'directoryChanged', directoryId: ROOT_NODE_ID, namesChanged: false });
  openRoot(scene);
  scene.nowMs += ttlMs - 1;
  assert.equal(lookup(scene, 'a'), 1);
  scene.nowMs += 2;
  assert.deepEqual(readRoot(scene, plus).slice(2), [1_000, 1_000, 1_000]);
  assert.deepEqual(readRoot(scene, plus).slice(2), [0, 0, 0], 'again');
});

test('a listing that could not be refreshed is no fresh one', () => {
  using scene = new Scene(ttlMs);
  scene.list([fileRow('a')]);
  scene.nowMs += ttlMs;
  const call = scene.kernel.call({ pid });
  scene.fileSystem.opendir(call, ROOT_NODE_ID);
  scene.answer(scene.question('list'));
  call.expect('opened');
  assert.equal(lookup(scene, 'a'), undefined);
});

test('with a ttl of 0 nobody is trusted, and a bounded number of readers is remembered', () => {
  using scene = new Scene(0);
  scene.list([fileRow('a')]);
  const call = scene.kernel.call({ pid });
  scene.fileSystem.opendir(call, ROOT_NODE_ID);
  scene.answer(scene.question('list'));
  assert.equal(lookup(scene, 'a'), undefined);
  const readers = new ListingReaders(ttlMs, () => 1);
  for (let one = 0; one <= readersMax; one += 1) readers.opened(one, pid, 1);
  assert.equal(readers.count, readersMax);
  assert.equal(readers.find(0, pid), undefined);
  assert.ok(readers.find(readersMax, pid));
});

test('what a long listing told first is served like the rest of it', () => {
  using scene = new Scene(ttlMs);
  const told = (name: string, agoMs: number): NewNode =>
    fileRow(name, { checkedAtMs: scene.nowMs - agoMs });
  scene.list([told('early', 2 * ttlMs), told('late', 1)]);
  scene.nowMs += 1_000;
  for (const name of ['early', 'late']) assert.equal(lookup(scene, name), ttlMs - 1_000);
});
