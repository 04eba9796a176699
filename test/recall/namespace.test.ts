/** Freshness, versions and failures of the namespace, over the in-memory remote and catalog. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '../../src/base/clock.ts';
import { ebbError } from '../../src/base/errors.ts';
import type { EbbError } from '../../src/base/errors.ts';
import { encodeName } from '../../src/base/name.ts';
import { ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import type { Node } from '../../src/catalog/catalog.ts';
import { MemoryCatalog } from '../../src/catalog/memory/catalog.ts';
import { Namespace } from '../../src/recall/namespace/namespace.ts';
import { partNames } from '../../src/recall/namespace/listing-entry.ts';
import { MemoryRemote } from '../../src/remote/memory/memory-remote.ts';
import type { CallOptions, ListingBatch, ObjectAttributes } from '../../src/remote/remote.ts';
import { waitFor } from '../support/wait-for.ts';
import { namespaceScene } from './namespace-scene.ts';
import type { NamespaceScene } from './namespace-scene.ts';

const ttlMs = 1_000;

/** Counts calls, and fails or cuts short on request. */
class WatchedRemote extends MemoryRemote {
  lists = 0;
  stats = 0;
  failure: EbbError | undefined;
  cutListing = false;
  /** Of this directory nothing can be listed. */
  missing: string | undefined;
  /** For this directory the server takes too long. */
  slow: string | undefined;
  /** Shows neither version nor exact time, as a listing that rounds. */
  vague = false;
  listingWaitsForStat = false;
  readonly #statCame = Promise.withResolvers<void>();

  override async *list(key: string, options: CallOptions): AsyncGenerator<ListingBatch> {
    this.lists += 1;
    if (this.failure !== undefined) throw this.failure;
    if (key === this.slow) throw ebbError('ETIMEDOUT', 'too slow', { retryable: true });
    if (key === this.missing) throw ebbError('ENOENT', 'not here');
    if (this.listingWaitsForStat) await this.#statCame.promise;
    for await (const batch of super.list(key, options)) {
      yield this.vague
        ? {
            ...batch,
            objects: batch.objects.map(({ name, kind, sizeBytes }) => ({ name, kind, sizeBytes })),
          }
        : batch;
      if (this.cutListing) throw ebbError('EIO', 'the listing broke off', { retryable: true });
    }
  }

  override async stat(key: string, options: CallOptions): Promise<ObjectAttributes> {
    if (key !== '') {
      this.stats += 1;
      this.#statCame.resolve();
    }
    if (this.failure !== undefined) throw this.failure;
    return await super.stat(key, options);
  }
}

const setUp = (): NamespaceScene<WatchedRemote> => namespaceScene(new WatchedRemote(), ttlMs);

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const hasCode =
  (code: string) =>
  (error: unknown): boolean =>
    (error as EbbError).code === code;

test('a directory is listed once, then trusted for the time to live', async () => {
  const { remote, clock, namespace, child } = setUp();
  remote.putFile('a', bytes('1'));
  await Promise.all([namespace.list(ROOT_NODE_ID), namespace.list(ROOT_NODE_ID)]);
  assert.equal(remote.lists, 1, 'asked together, fetched once');
  const { id } = child('a');
  await namespace.list(ROOT_NODE_ID);
  assert.equal(remote.lists, 1);
  clock.advance(ttlMs);
  await namespace.list(ROOT_NODE_ID);
  assert.equal(remote.lists, 2);
  assert.equal(child('a').id, id, 'an unchanged file keeps its node');
});

test('a file looked for in a directory that was never listed is asked about with the listing', async () => {
  const { remote, catalog, namespace, child } = setUp();
  const within = (name: string): Node | undefined => catalog.child(child('d').id, encodeName(name));
  remote.putFile('f.txt', bytes('1'));
  remote.putFile('d/a.txt', bytes('22'));
  remote.putFile('d/b', bytes('3'));
  remote.putFile('e/a.txt', bytes('4'));
  remote.vague = true;
  await namespace.list(ROOT_NODE_ID);
  // The listing comes only when the file was asked about.
  remote.listingWaitsForStat = true;
  await namespace.listFor(child('d').id, encodeName('a.txt'));
  assert.equal(remote.stats, 1);
  assert.equal(within('a.txt')?.exact, true);
  assert.equal(within('a.txt')?.sizeBytes, 2);
  assert.equal(within('b')?.exact, false);
  remote.listingWaitsForStat = false;
  await namespace.listFor(child('d').id, encodeName('b.txt'));
  assert.equal(remote.stats, 1, 'listed already');
  await namespace.listFor(child('e').id, encodeName('missing.txt'));
  assert.equal(remote.stats, 2, 'its absence is told by the listing');
});

test('a directory that was looked up is listed next, and one to which alone the way leads from there', async () => {
  const { remote, catalog, namespace, child } = setUp();
  remote.putFile('d/e/f/g/leaf', bytes('1'));
  remote.putFile('d/e/f/other/leaf', bytes('1'));
  remote.putFile('d/e/beside', bytes('1'));
  await namespace.list(ROOT_NODE_ID);
  const { id } = child('d');
  const listed = (...names: string[]): boolean => {
    let at = id;
    for (const name of names) at = catalog.child(at, encodeName(name))?.id ?? 0;
    return (catalog.node(at)?.listedAtMs ?? 0) > 0;
  };
  await namespace.listFor(id, encodeName('e'));
  assert.ok(listed());
  await waitFor(() => listed('e', 'f'), { what: 'the listing of the only directory in it' });
  await namespace.close();
  assert.ok(listed('e'));
  assert.ok(!listed('e', 'f', 'g') && !listed('e', 'f', 'other'), 'nobody knows which of two');
});

test('a name stays when its listing, that nobody has asked for, is not there', async () => {
  const { remote, catalog, namespace, child } = setUp();
  remote.putFile('d/e/leaf', bytes('1'));
  await namespace.list(ROOT_NODE_ID);
  const { id } = child('d');
  remote.missing = 'd/e';
  const looked = await namespace.listFor(id, encodeName('e'));
  assert.ok(looked);
  await waitFor(() => !namespace.isListing(looked.id), { what: 'the end of the guess' });
  assert.equal(remote.lists, 3);
  assert.ok(catalog.child(id, encodeName('e')));
  await assert.rejects(namespace.list(looked.id), hasCode('ENOENT'));
  assert.equal(catalog.child(id, encodeName('e')), undefined, 'who goes in hears it');
});

test('a listing that nobody has asked for and that fails says nothing about the remote', async () => {
  const { remote, namespace, child } = setUp();
  remote.putFile('d/e/leaf', bytes('1'));
  await namespace.list(ROOT_NODE_ID);
  remote.slow = 'd/e';
  const looked = await namespace.listFor(child('d').id, encodeName('e'));
  assert.ok(looked);
  await waitFor(() => !namespace.isListing(looked.id), { what: 'the end of the guess' });
  assert.equal(remote.lists, 3);
  assert.ok(namespace.remoteReachable);
  await assert.rejects(namespace.list(looked.id), hasCode('ETIMEDOUT'));
  assert.ok(!namespace.remoteReachable, 'somebody waited for this one');
});

test('a directory whose way is too long to be listed is found all the same', async () => {
  const { remote, catalog, namespace, child } = setUp();
  const long = 'n'.repeat(200);
  const way = Array.from({ length: 20 }, () => long);
  const last = 'l'.repeat(150);
  remote.putFile([...way, last, 'leaf'].join('/'), bytes('1'));
  await namespace.list(ROOT_NODE_ID);
  let { id } = child(long);
  for (const name of way.slice(1)) {
    await namespace.list(id);
    id = catalog.child(id, encodeName(name))?.id ?? 0;
  }
  assert.ok(await namespace.listFor(id, encodeName(last)));
});

test('with a time to live of zero nothing is listed ahead', async () => {
  const { remote, namespace, child } = namespaceScene(new WatchedRemote(), 0);
  remote.putFile('d/e/leaf', bytes('1'));
  await namespace.list(ROOT_NODE_ID);
  const looked = await namespace.listFor(child('d').id, encodeName('e'));
  assert.ok(looked);
  assert.ok(!namespace.isListing(looked.id));
  assert.equal(remote.lists, 2);
});

test('what a file was said to be while the listing came is entered with it', async () => {
  const { remote, catalog, namespace, child } = setUp();
  remote.putFile('f.txt', bytes('1'));
  remote.putFile('d/a.txt', bytes('22'));
  remote.vague = true;
  await namespace.list(ROOT_NODE_ID);
  remote.listingWaitsForStat = true;
  const together = catalog.together.bind(catalog);
  let transactions = 0;
  catalog.together = (work) => {
    transactions += 1;
    return together(work);
  };
  const found = await namespace.listFor(child('d').id, encodeName('a.txt'));
  assert.equal(found?.exact, true);
  assert.equal(transactions, 1);
  assert.equal(remote.stats, 1);
});

test('a listing that nobody has asked for ends where it is long, unless somebody asks meanwhile', async () => {
  const { remote, catalog, namespace, child } = setUp();
  for (let index = 0; index < 2 * partNames; index += 1)
    remote.putFile(`d/long/${index}`, bytes(''));
  await namespace.list(ROOT_NODE_ID);
  const { id } = child('d');
  await namespace.listFor(id, encodeName('long'));
  const long = catalog.child(id, encodeName('long'));
  assert.ok(long);
  await waitFor(() => !namespace.isListing(long.id), { what: 'the end of the guess' });
  assert.equal(catalog.node(long.id)?.listedAtMs, 0);
  assert.equal(catalog.children(long.id, 0, 1).length, 0, 'nothing of it was entered');
  const lists = remote.lists;

  await namespace.listFor(id, encodeName('long'));
  assert.ok(namespace.isListing(long.id), 'guessed again');
  await namespace.list(long.id);
  assert.equal(catalog.children(long.id, 0, 3 * partNames).length, 2 * partNames);
  assert.equal(remote.lists, lists + 1, 'the guess went on for who asked');
});

test('a listing that breaks off removes nothing', async () => {
  const { remote, clock, namespace, child } = setUp();
  for (let index = 0; index < 250; index += 1) remote.putFile(`f${index}`, bytes('x'));
  await namespace.list(ROOT_NODE_ID);
  const before = child('f249');
  remote.cutListing = true;
  clock.advance(ttlMs);
  await namespace.list(ROOT_NODE_ID);
  assert.equal(child('f249').id, before.id);
});

test('a changed file gets a new node, and its old id answers ESTALE', async () => {
  const { remote, clock, namespace, changes, child } = setUp();
  remote.putFile('a', bytes('old'));
  await namespace.list(ROOT_NODE_ID);
  const old = child('a');
  remote.putFile('a', bytes('new!'));
  clock.advance(ttlMs);
  await assert.rejects(namespace.revalidate(old.id), hasCode('ESTALE'));
  assert.notEqual(child('a').id, old.id);
  assert.equal(child('a').sizeBytes, 4);
  const gone = changes.flatMap((change) => (change.kind === 'directory' ? change.gone : []));
  assert.deepEqual(
    gone.map((node) => node.id),
    [old.id],
  );
  await assert.rejects(namespace.revalidate(old.id), hasCode('ESTALE'));
});

test('a file that the remote says is gone disappears; one it cannot be asked about stays', async () => {
  const { remote, catalog, clock, namespace, child } = setUp();
  remote.putFile('a', bytes('1'));
  remote.putFile('b', bytes('2'));
  await namespace.list(ROOT_NODE_ID);
  const a = child('a');
  const b = child('b');
  remote.remove('a');
  clock.advance(ttlMs);
  await assert.rejects(namespace.revalidate(a.id), hasCode('ENOENT'));
  assert.equal(catalog.child(ROOT_NODE_ID, encodeName('a')), undefined);
  remote.failure = ebbError('ECONNREFUSED', 'down');
  assert.equal((await namespace.revalidate(b.id)).id, b.id);
  assert.equal(namespace.remoteReachable, false);
  const asked = remote.stats;
  await namespace.revalidate(b.id);
  assert.equal(remote.stats, asked, 'not asked again while it is known to be down');
  clock.advance(10_000);
  remote.failure = undefined;
  await namespace.revalidate(b.id);
  assert.equal(namespace.remoteReachable, true);
});

test("a directory never listed fails with the remote's error; a refusal is passed on even when known", async () => {
  const { remote, clock, namespace } = setUp();
  remote.failure = ebbError('ECONNREFUSED', 'down');
  await assert.rejects(namespace.list(ROOT_NODE_ID), hasCode('ECONNREFUSED'));
  remote.failure = undefined;
  clock.advance(10_000);
  await namespace.list(ROOT_NODE_ID);
  remote.failure = ebbError('EACCES', '403');
  clock.advance(ttlMs);
  await assert.rejects(namespace.list(ROOT_NODE_ID), hasCode('EACCES'));
});

test('facts that the listing rounds are asked for before they are shown', async () => {
  const { remote, namespace, child } = setUp();
  remote.putFile('a', bytes('12345'));
  remote.vague = true;
  await namespace.list(ROOT_NODE_ID);
  assert.equal(child('a').exact, false);
  const resolved = await namespace.resolve(child('a').id);
  assert.equal(resolved.exact, true);
  assert.equal(resolved.id, child('a').id, 'nobody saw the rounded facts: the node stays');
  assert.notEqual(resolved.version, null);
  assert.equal(remote.stats, 1);
  await namespace.resolve(resolved.id);
  assert.equal(remote.stats, 1);
});

test('with a time to live of zero every open asks', async () => {
  const remote = new WatchedRemote();
  const catalog = new MemoryCatalog();
  remote.putFile('a', bytes('1'));
  const namespace = new Namespace({
    catalog,
    remote,
    clock: new ManualClock(),
    ttlMs: 0,
    deadlineMs: 5_000,
    onChange: () => undefined,
    onProblem: () => undefined,
  });
  await namespace.list(ROOT_NODE_ID);
  const node = catalog.child(ROOT_NODE_ID, encodeName('a'));
  assert.ok(node);
  await namespace.revalidate(node.id);
  await namespace.revalidate(node.id);
  assert.equal(remote.stats, 2);
});

test('a requester that gives up does not end the listing for the others', async () => {
  const { remote, namespace, child } = setUp();
  remote.putFile('a', bytes('1'));
  const controller = new AbortController();
  const first = namespace.list(ROOT_NODE_ID, controller.signal);
  const second = namespace.list(ROOT_NODE_ID);
  controller.abort();
  await assert.rejects(first, hasCode('EINTR'));
  await second;
  assert.equal(child('a').sizeBytes, 1);
});

test('one object that the server postpones does not make the whole remote unreachable', async () => {
  const { remote, clock, namespace, child } = setUp();
  for (const name of ['a', 'b', 'c', 'd']) remote.putFile(name, bytes(name));
  await namespace.list(ROOT_NODE_ID);
  clock.advance(ttlMs);
  const busy = { retryable: true, answered: true, retryAfterMs: 3_600_000 };
  remote.failure = ebbError('EIO', '503', busy);
  const a = child('a').id;
  assert.equal((await namespace.revalidate(a)).id, a, 'the known version is served');
  assert.equal(namespace.remoteReachable, true);
  remote.failure = undefined;
  const asked = remote.stats;
  await namespace.revalidate(a);
  assert.equal(remote.stats, asked, 'it rests');
  await namespace.revalidate(child('b').id);
  assert.equal(remote.stats, asked + 1, 'others are asked about');
  clock.advance(30_000);
  await namespace.revalidate(a);
  assert.equal(
    remote.stats,
    asked + 2,
    'Retry-After is not believed for longer than half a minute',
  );
});

test('several postponed objects in a row are a server in trouble, for half a minute at most', async () => {
  const { remote, clock, namespace, child } = setUp();
  for (const name of ['a', 'b', 'c', 'd']) remote.putFile(name, bytes(name));
  await namespace.list(ROOT_NODE_ID);
  clock.advance(ttlMs);
  const busy = { retryable: true, answered: true, retryAfterMs: 3_600_000 };
  remote.failure = ebbError('EIO', '503', busy);
  for (const name of ['a', 'b', 'c']) await namespace.revalidate(child(name).id);
  assert.equal(namespace.remoteReachable, false);
  clock.advance(30_000);
  assert.equal(namespace.remoteReachable, true);
});

test('a refresh by force says that nobody could be asked', async () => {
  const { remote, namespace, child } = setUp();
  remote.putFile('a', bytes('1'));
  await namespace.list(ROOT_NODE_ID);
  remote.failure = ebbError('ECONNREFUSED', 'down');
  await assert.rejects(namespace.list(ROOT_NODE_ID, undefined, true), hasCode('ECONNREFUSED'));
  await assert.rejects(
    namespace.revalidate(child('a').id, undefined, true),
    hasCode('ECONNREFUSED'),
  );
  assert.equal(child('a').sizeBytes, 1, 'what is known stays');
});

test('answers that come together are entered together; when that fails nobody believes them', async () => {
  const scene = namespaceScene(new WatchedRemote(), ttlMs);
  const { remote, catalog, namespace, changes } = scene;
  for (const name of ['a', 'b', 'c']) remote.putFile(name, new Uint8Array(10));
  remote.vague = true;
  await namespace.list(ROOT_NODE_ID);
  const ids = ['a', 'b', 'c'].map((name) => scene.child(name).id);
  let groups = 0;
  let failing = true;
  catalog.together = (work) => {
    groups += 1;
    const before = ids.map((id) => catalog.node(id));
    changes.length = 0;
    const result = work();
    assert.deepEqual(changes, [], 'nobody hears of what is not entered yet');
    if (!failing) return result;
    for (const node of before) if (node !== undefined) catalog.updateNode(node);
    throw ebbError('ENOSPC', 'on purpose');
  };
  const results = await Promise.allSettled(ids.map((id) => namespace.resolve(id)));
  assert.deepEqual(new Set(results.map(({ status }) => status)), new Set(['rejected']));
  assert.ok(groups < ids.length, `${groups} transactions for ${ids.length} answers`);
  failing = false;
  const resolved = await Promise.all(ids.map((id) => namespace.resolve(id)));
  assert.deepEqual(new Set(resolved.map(({ exact }) => exact)), new Set([true]));
  assert.equal(changes.length, ids.length);
});

test('after the clock was set back nothing known counts as fresh, and everything is asked for once', async () => {
  const { remote, clock, namespace, catalog, child } = setUp();
  for (const name of ['a', 'gone']) remote.putFile(name, bytes(name));
  await namespace.list(ROOT_NODE_ID);
  const a = await namespace.revalidate(child('a').id, undefined, true);
  await namespace.revalidate(child('gone').id, undefined, true);
  clock.setWallClock(clock.nowMs() - 365 * 86_400_000);
  remote.remove('gone');
  const [lists, stats] = [remote.lists, remote.stats];
  await namespace.list(ROOT_NODE_ID);
  assert.equal(remote.lists, lists + 1);
  assert.equal(catalog.child(ROOT_NODE_ID, encodeName('gone')), undefined);
  await namespace.revalidate(a.id);
  await namespace.revalidate(a.id);
  await namespace.list(ROOT_NODE_ID);
  assert.deepEqual([remote.lists - lists, remote.stats - stats], [1, 0], 'the listing told it');
  assert.equal(catalog.node(a.id)?.checkedAtMs, clock.nowMs());
});

test('a rest after a failure is as long as it is, whatever is done to the clock', async () => {
  const { remote, clock, namespace, child } = setUp();
  remote.putFile('a', bytes('a'));
  await namespace.list(ROOT_NODE_ID);
  clock.advance(ttlMs);
  remote.failure = ebbError('EHOSTUNREACH', 'nobody there', { retryable: true });
  await namespace.revalidate(child('a').id);
  remote.failure = undefined;
  clock.setWallClock(clock.nowMs() + 86_400_000);
  assert.equal(namespace.remoteReachable, false, 'not shorter');
  clock.setWallClock(clock.nowMs() - 2 * 86_400_000);
  clock.advance(30_000);
  assert.equal(namespace.remoteReachable, true, 'nor longer');
});
