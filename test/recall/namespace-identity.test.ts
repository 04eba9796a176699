/** One node, one version, seen from the namespace: what was shown under an id stays true of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeName } from '../../src/base/name.ts';
import { ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import type { Node } from '../../src/catalog/catalog.ts';
import { transferVersion } from '../../src/recall/namespace/reconcile.ts';
import { MemoryRemote } from '../../src/remote/memory/memory-remote.ts';
import type { CallOptions, ListingBatch } from '../../src/remote/remote.ts';
import { namespaceScene } from './namespace-scene.ts';
import { isCode } from './support.ts';

/** Lists size and time, but no version, as JSON listings do. */
class VersionlessListing extends MemoryRemote {
  override async *list(key: string, options: CallOptions): AsyncGenerator<ListingBatch> {
    for await (const batch of super.list(key, options)) {
      yield { ...batch, objects: batch.objects.map(({ version: _version, ...rest }) => rest) };
    }
  }
}

function setUp(ttlMs = 60_000) {
  const scene = namespaceScene(new VersionlessListing(), ttlMs);
  return { ...scene, child: (): Node => scene.child('a') };
}

test('a size that was shown is never corrected in place: the name gets a new node', async () => {
  const { remote, namespace, child } = setUp();
  remote.putFile('a', new Uint8Array(100));
  await namespace.list(ROOT_NODE_ID);
  const shown = child();
  assert.ok(shown.exact && shown.version === null && shown.sizeBytes === 100);
  remote.putFile('a', new Uint8Array(50));
  const resolved = await namespace.resolve(shown.id);
  assert.notEqual(resolved.id, shown.id);
  assert.equal(resolved.sizeBytes, 50);
  await assert.rejects(namespace.revalidate(shown.id), isCode('ESTALE'));
});

test('the same holds for facts that come with the content', async () => {
  const { remote, namespace, child } = setUp();
  remote.putFile('a', new Uint8Array(100));
  await namespace.list(ROOT_NODE_ID);
  const shown = child();
  const learned = namespace.learn(shown.id, {
    kind: 'file',
    sizeBytes: 101,
    mtime: { seconds: shown.mtimeSeconds, nanoseconds: shown.mtimeNanoseconds },
    version: 'v9',
  });
  assert.notEqual(learned.id, shown.id);
});

test('a version that fits what was shown is learned in place', async () => {
  const { remote, namespace, child } = setUp();
  remote.putFile('a', new Uint8Array(100), { version: 'v1' });
  await namespace.list(ROOT_NODE_ID);
  const shown = child();
  const resolved = await namespace.resolve(shown.id);
  assert.deepEqual([resolved.id, resolved.version], [shown.id, 'v1']);
});

test('names that appear are told where the directory had been listed before', async () => {
  const { remote, changes, namespace } = setUp();
  remote.putFile('a', new Uint8Array(1));
  await namespace.list(ROOT_NODE_ID);
  remote.putFile('b', new Uint8Array(1));
  await namespace.list(ROOT_NODE_ID, undefined, true);
  const appeared = changes.map((change) =>
    change.kind === 'directory' ? change.appeared.map((name) => decodeName(name)) : [],
  );
  assert.deepEqual(appeared, [[], ['b']]);
});

test('what only a transfer could show rests for a second, then is asked about again', async () => {
  const { remote, clock, namespace, child } = setUp(0);
  remote.putFile('a', new Uint8Array(100), { version: null });
  await namespace.list(ROOT_NODE_ID);
  const facts = { kind: 'file', sizeBytes: 100, version: transferVersion('1') } as const;
  const fetched = namespace.learn(child().id, facts);
  clock.advance(999);
  assert.equal((await namespace.revalidate(fetched.id)).id, fetched.id);
  assert.equal(namespace.confirm(fetched.id).checkedAtMs, clock.nowMs());
  clock.advance(999);
  assert.equal((await namespace.revalidate(fetched.id)).id, fetched.id);
  clock.advance(1);
  // The same size at the same time is all that can be compared; a version would be news.
  remote.putFile('a', new Uint8Array(100), { version: 'real' });
  await assert.rejects(namespace.revalidate(fetched.id), isCode('ESTALE'));
});
