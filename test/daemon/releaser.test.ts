/** Releasing through a mount: what is refused and why, and what happens to contents whose name is gone. */
import assert from 'node:assert/strict';
import { closeSync, existsSync, fstatSync, unlinkSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { contentPath } from '../../src/tree/layout.ts';
import { servedScene, who } from '../mount/served-scene.ts';
import type { ServedScene } from '../mount/served-scene.ts';
import { patternBytes } from '../support/pattern.ts';

const whole = patternBytes(1, 700_000);
const { signal } = new AbortController();

/** A file `a`, all here and recorded. */
async function resident(scene: ServedScene): Promise<number> {
  scene.remote.putFile('a', whole, { version: 'one' });
  const { node, file } = await scene.preparer.open((await scene.node('a')).id);
  await scene.recall.ensure(file, 0, whole.length, { intent: 'get', requester: who });
  await scene.contents.store.log.flush();
  return node.id;
}

/** Answers the server's question as a thread that has nothing open. */
async function nothingOpen(scene: ServedScene, nodeId: number): Promise<void> {
  await scene.message('quiesce');
  scene.server.take({ kind: 'quiesced', nodeId, openCount: 0 });
}

async function release(scene: ServedScene, id: number): Promise<string> {
  const outcome = scene.releaser.release(id, { dryRun: false, signal });
  await nothingOpen(scene, id);
  return JSON.stringify(await outcome);
}

test('what is not here needs no release', async () => {
  await using scene = await servedScene();
  scene.remote.putFile('a', whole);
  const { id } = await scene.node('a');
  assert.deepEqual(await scene.releaser.release(id, { dryRun: false, signal }), {
    releasedBytes: 0,
  });
});

test('pinned, changed at the remote, unreachable: each is refused with its own code', async () => {
  await using scene = await servedScene();
  const id = await resident(scene);
  scene.releaser.setPinned(id, true);
  assert.match(await release(scene, id), /EPERM/);
  scene.releaser.setPinned(id, false);
  scene.remote.putFile('a', whole, { version: 'two' });
  assert.match(await release(scene, id), /ESTALE/);
  scene.remote.remove('a');
  assert.match(await release(scene, id), /ENOENT/);
  assert.equal(scene.contents.get(id)?.residency.complete, true);
});

test('a dry run asks and frees nothing', async () => {
  await using scene = await servedScene();
  const id = await resident(scene);
  const dryRun = async (): Promise<unknown> => {
    const outcome = scene.releaser.release(id, { dryRun: true, signal });
    await nothingOpen(scene, id);
    return await outcome;
  };
  assert.deepEqual(await dryRun(), { releasedBytes: whole.length });
  assert.equal(scene.contents.get(id)?.residency.complete, true);
  scene.remote.putFile('a', whole, { version: 'two' });
  assert.match(JSON.stringify(await dryRun()), /ESTALE/);
});

test('an orphan goes when its version is definitely gone, not while the remote still has it', async () => {
  await using scene = await servedScene();
  const id = await resident(scene);
  scene.contents.catalog.removeNode(id);
  assert.equal(await scene.releaser.dropOrphan(id, signal), 0);
  scene.remote.putFile('a', whole, { version: 'two' });
  const dropped = scene.releaser.dropOrphan(id, signal);
  await nothingOpen(scene, id);
  assert.equal(await dropped, whole.length);
  assert.equal(existsSync(contentPath(scene.directory, id)), false);
  assert.equal(scene.contents.get(id), undefined);
});

test('an orphan that was taken up again while the remote was asked stays', async () => {
  await using scene = await servedScene();
  const id = await resident(scene);
  scene.contents.catalog.removeNode(id);
  scene.remote.remove('a');
  const dropped = scene.releaser.dropOrphan(id, signal);
  await scene.message('quiesce');
  scene.remote.putFile('a', whole, { version: 'one' });
  await scene.namespace.list(1, undefined, true);
  assert.equal(scene.child('a').id, id);
  scene.server.take({ kind: 'quiesced', nodeId: id, openCount: 0 });
  assert.equal(await dropped, 0);
  assert.equal(scene.contents.get(id)?.residency.complete, true);
});

/** A file `a` of which the remote shows nothing but that it is there. */
async function residentUnversioned(scene: ServedScene): Promise<number> {
  scene.remote.showsNothing = true;
  scene.remote.putFile('a', whole);
  const { node } = await scene.preparer.open((await scene.node('a')).id);
  assert.equal(scene.contents.get(node.id)?.residency.complete, true);
  await scene.contents.store.log.flush();
  return node.id;
}

test('of a file without a version: a directory in its place, or another size, is no proof', async () => {
  await using scene = await servedScene();
  const id = await residentUnversioned(scene);
  scene.remote.stat = () => Promise.resolve({ kind: 'directory' });
  assert.match(await release(scene, id), /ESTALE/);
  scene.remote.stat = () => Promise.resolve({ kind: 'file', sizeBytes: whole.length - 1 });
  assert.match(await release(scene, id), /ESTALE/);
  scene.remote.stat = () => Promise.resolve({ kind: 'file' });
  assert.match(await release(scene, id), /^{"releasedBytes":70\d{4}}$/);
});

test('a file whose size the remote never tells is proven by its version', async () => {
  await using scene = await servedScene();
  const id = await resident(scene);
  scene.remote.stat = () => Promise.resolve({ kind: 'file', version: 'two' });
  assert.match(await release(scene, id), /ESTALE/);
  scene.remote.stat = () => Promise.resolve({ kind: 'file', version: 'one' });
  assert.match(await release(scene, id), /^{"releasedBytes":70\d{4}}$/);
});

test('two who find that a cache file is not ours make it anew once', async () => {
  await using scene = await servedScene();
  const id = await resident(scene);
  const file = contentPath(scene.directory, id);
  const node = scene.child('a');
  // The second comes so many turns of the queue of promises after the first.
  for (let turns = 0; turns < 12; turns += 1) {
    unlinkSync(file);
    writeFileSync(file, whole);
    const first = scene.contents.openLocal(node, 'a');
    for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
    const both = await Promise.all([first, scene.contents.openLocal(node, 'a')]);
    assert.equal(both[0].file, both[1].file, `${turns} turns`);
    for (const { descriptor } of both) {
      assert.equal(fstatSync(descriptor).nlink, 1, `${turns} turns: nobody took it away again`);
      closeSync(descriptor);
    }
    assert.equal(scene.contents.get(id), both[0].file);
  }
});
