/** From a name to content that can be read: who asks the remote what, how often, and what ESTALE means. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { servedScene } from '../mount/served-scene.ts';
import { patternBytes } from '../support/pattern.ts';
import { isCode } from './support.ts';

const whole = patternBytes(1, 300_000);

test('an exact file is prepared without a request while it is fresh', async () => {
  await using scene = await servedScene();
  scene.remote.putFile('a', whole);
  const { id } = await scene.node('a');
  const { node, file } = await scene.preparer.open(id);
  assert.deepEqual([node.id, file.id, file.sizeBytes], [id, id, whole.length]);
  assert.ok(!scene.remote.seen.includes('stat a'));
  scene.clock.advance(61_000);
  await scene.preparer.open(id);
  assert.equal(scene.remote.seen.filter((call) => call === 'stat a').length, 1);
});

test('a file that shows nothing is fetched whole, once, however many ask', async () => {
  await using scene = await servedScene();
  scene.remote.showsNothing = true;
  scene.remote.putFile('a', whole);
  const { id } = await scene.node('a');
  const opened = await Promise.all([1, 2, 3].map(() => scene.preparer.open(id)));
  assert.ok(opened.every(({ file }) => file.residency.complete));
  assert.deepEqual(
    scene.remote.seen.filter((call) => call.startsWith('read')),
    ['read a'],
  );
});

test('a file that shows its size and no version: one request brings it, when it is opened', async () => {
  await using scene = await servedScene();
  scene.remote.showsSizesOnly = true;
  scene.remote.putFile('a', whole);
  const { id } = await scene.node('a');
  assert.equal((await scene.preparer.resolve(id)).sizeBytes, whole.length);
  const reads = (): string[] => scene.remote.seen.filter((call) => call.startsWith('read'));
  assert.deepEqual(reads(), []);
  const opened = await Promise.all([1, 2, 3].map(() => scene.preparer.open(id)));
  assert.ok(opened.every(({ node, file }) => node.id === id && file.residency.complete));
  assert.deepEqual(reads(), ['read a']);
  // Another content of the same size: whoever opens it later gets a new node with that content.
  scene.remote.putFile('a', patternBytes(2, whole.length));
  scene.clock.advance(61_000);
  await assert.rejects(scene.preparer.open(id), isCode('ESTALE'));
  const later = await scene.preparer.open(scene.child('a').id);
  assert.ok(later.node.id !== id && later.file.residency.complete);
  assert.equal(reads().length, 2);
});

test('a resolve joins a fetch under way, and does without it when it fails', async () => {
  await using scene = await servedScene();
  scene.remote.putFile('a', whole);
  const { id } = await scene.node('a');
  scene.remote.held.add('read');
  const controller = new AbortController();
  const fetching = scene.wholeFetch.fetch(id, 10).catch((error: unknown) => error);
  const resolved = scene.preparer.resolve(id, controller.signal);
  scene.remote.letGo();
  assert.ok(isCode('EFBIG')((await fetching) as never));
  assert.equal((await resolved).sizeBytes, whole.length);
});

test('errors: a directory, a name that is gone, a requester that gave up', async () => {
  await using scene = await servedScene(0);
  scene.remote.putDirectory('d');
  scene.remote.putFile('a', whole);
  const { id } = await scene.node('d');
  await assert.rejects(scene.preparer.open(id), isCode('EISDIR'));
  const file = scene.child('a');
  scene.remote.held.add('stat');
  const controller = new AbortController();
  const opening = scene.preparer.open(file.id, controller.signal);
  controller.abort();
  await assert.rejects(opening, isCode('EINTR'));
  scene.remote.letGo();
  // The question that nobody waits for any more has its answer, too.
  await scene.preparer.open(file.id);
  scene.remote.remove('a');
  await assert.rejects(scene.preparer.open(file.id), isCode('ENOENT'));
  await assert.rejects(scene.preparer.open(file.id), isCode('ESTALE'));
});
