/** Guesses: bounded, harmless when wrong, gone when the daemon stops. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ebbError } from '../../src/base/errors.ts';
import { Prefetcher } from '../../src/daemon/mount/prefetcher.ts';
import { wholeFileMaxBytes } from '../../src/recall/namespace/prepare.ts';
import type { Reserve } from '../../src/recall/recall.ts';
import { servedScene, who } from '../mount/served-scene.ts';
import type { ServedScene } from '../mount/served-scene.ts';
import { patternBytes } from '../support/pattern.ts';
import { waitFor } from '../support/wait-for.ts';

function setUp(
  scene: ServedScene,
  reserve: Reserve = () => undefined,
): { prefetcher: Prefetcher; offered: number[] } {
  const offered: number[] = [];
  const { namespace, preparer, wholeFetch, recall, contents } = scene;
  const prefetcher = new Prefetcher({
    namespace,
    preparer,
    wholeFetch,
    recall,
    catalog: contents.catalog,
    requestsMax: 16,
    reserve,
    offer: async ({ node }) => void offered.push(node.id),
  });
  return { prefetcher, offered };
}

const nothing = { kind: 'prefetch', directoryIds: [], factIds: [], contentIds: [] } as const;

test('contents and facts come, and contents are offered', async () => {
  await using scene = await servedScene();
  scene.remote.putFile('a', patternBytes(1, 10_000));
  const { id } = await scene.node('a');
  const { prefetcher, offered } = setUp(scene);
  prefetcher.take({ ...nothing, contentIds: [id, 999_999], requester: who });
  await waitFor(() => offered.length === 1, { what: 'the offer' });
  assert.equal(scene.contents.get(id)?.residency.complete, true);
  await prefetcher.close();
});

test('a file whose facts are vague comes with one request, on its requester’s account', async () => {
  await using scene = await servedScene();
  scene.remote.showsNothing = true;
  scene.remote.putFile('a', patternBytes(1, 10_000));
  const { id } = await scene.node('a');
  const { prefetcher, offered } = setUp(scene);
  prefetcher.take({ ...nothing, contentIds: [id], requester: who });
  await waitFor(() => offered.length === 1, { what: 'the offer' });
  assert.deepEqual(scene.fetched, [{ nodeId: id, key: 'a', bytes: 10_000, requester: who }]);
  await prefetcher.close();
});

test('where there is no room without releasing something, a vague file is not asked for on suspicion', async () => {
  await using scene = await servedScene();
  scene.remote.showsNothing = true;
  for (const name of ['a', 'b', 'c']) scene.remote.putFile(name, patternBytes(1, 10_000));
  await scene.node('a');
  const ids = ['a', 'b', 'c'].map((name) => scene.child(name).id);
  const asked: number[] = [];
  const { prefetcher } = setUp(scene, (bytes, intent) => {
    assert.equal(intent, 'prefetch');
    asked.push(bytes);
    if (bytes > wholeFileMaxBytes) throw ebbError('EAGAIN', 'no room');
  });
  scene.remote.held.add('read');
  prefetcher.take({ ...nothing, contentIds: ids, requester: who });
  await waitFor(() => asked.length === ids.length, { what: 'the questions for room' });
  scene.remote.letGo();
  await waitFor(() => scene.fetched.length > 0, { what: 'the file for which there is room' });
  await prefetcher.close();
  assert.deepEqual(
    scene.remote.seen.filter((call) => call.startsWith('read')),
    ['read a'],
  );
});

test('failures are nobody’s business', async () => {
  await using scene = await servedScene(0);
  scene.remote.putFile('a', patternBytes(1, 10_000));
  const { id } = await scene.node('a');
  scene.remote.remove('a');
  const { prefetcher, offered } = setUp(scene);
  prefetcher.take({
    ...nothing,
    contentIds: [id],
    factIds: [id],
    directoryIds: [id],
    requester: who,
  });
  await sleep(50);
  assert.deepEqual(offered, []);
  await prefetcher.close();
});

test('closing does not wait for a remote that hangs', async () => {
  await using scene = await servedScene(0);
  for (let index = 0; index < 30; index += 1) {
    scene.remote.putFile(`f${index}`, patternBytes(1, 10_000));
  }
  await scene.node('f0');
  const ids = scene.contents.catalog.children(1, 0, 100).map((node) => node.id);
  scene.remote.held.add('stat');
  scene.remote.held.add('read');
  const { prefetcher } = setUp(scene);
  const before = scene.remote.seen.length;
  prefetcher.take({ ...nothing, contentIds: ids, requester: who });
  await waitFor(() => scene.remote.seen.length > before, { what: 'a request that hangs' });
  await prefetcher.close();
  prefetcher.take({ ...nothing, contentIds: ids, requester: who });
  await prefetcher.close();
});
