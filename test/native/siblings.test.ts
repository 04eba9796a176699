/** Small files come before they are opened when others of their directory, or of their name, are. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { patternBytes } from '../support/pattern.ts';
import { waitFor } from '../support/wait-for.ts';
import { nativeScene } from './native-scene.ts';
import type { NativeScene } from './native-scene.ts';

const sizeBytes = 5_000;

/** `count` small files in a directory. */
function addDirectory(scene: NativeScene, directory: string, count: number): void {
  // Directories raise no events.
  mkdirSync(path.join(scene.path, directory));
  for (let at = 0; at < count; at += 1) {
    scene.add(`${directory}/f${at}`, sizeBytes, { seed: at });
  }
}

async function read(scene: NativeScene, name: string): Promise<Buffer> {
  const { code, stdout, stderr } = await scene.shell(`cat ${name}`);
  assert.equal(code, 0, stderr.toString());
  return stdout;
}

/** Nothing is under way, and so many requests were made since the start. */
async function isQuiet(scene: NativeScene, requests: number): Promise<void> {
  const what = `${requests} requests`;
  await waitFor(() => scene.requests.length >= requests, { what, timeoutMs: 60_000 });
  await waitFor(() => scene.engine.totals().inFlight === 0, { what, timeoutMs: 60_000 });
  assert.equal(scene.requests.length, requests, what);
}

test('the third small file of a directory brings the next ones, and each two that are used bring more', async () => {
  await using scene = await nativeScene('xfs', { siblingMaxBytes: 256 * 1024 });
  addDirectory(scene, 'd', 40);
  addDirectory(scene, 'other', 40);
  scene.add('d/large', 300 * 1024);
  for (const at of [0, 20]) {
    assert.ok((await read(scene, `d/f${at}`)).equals(patternBytes(at, sizeBytes)));
    assert.ok((await read(scene, `other/f${at}`)).equals(patternBytes(at, sizeBytes)));
  }
  await isQuiet(scene, 4);
  await read(scene, 'd/f1');
  await isQuiet(scene, 5 + 8);
  for (let at = 2; at < 10; at += 1) {
    const file = scene.catalog.byKey(`d/f${at}`);
    assert.ok(file && scene.store.get(file.id)?.residency.complete === true, `f${at} is here`);
    await scene.store.settled(file.id);
  }
  await scene.server.changesTakenIn();
  const { opens } = scene.server.counters();
  for (const at of [2, 3]) {
    assert.ok((await read(scene, `d/f${at}`)).equals(patternBytes(at, sizeBytes)));
  }
  await isQuiet(scene, 13 + 6);
  assert.equal(scene.server.counters().opens, opens, 'the event thread lets their readers in');
  for (let at = 0; at < 40; at += 1) {
    assert.ok((await read(scene, `d/f${at}`)).equals(patternBytes(at, sizeBytes)), `f${at}`);
  }
  await isQuiet(scene, 40 + 2);
  assert.deepEqual(scene.problems, []);
});

test('the third small file of one name brings others of that name, each from its own directory', async () => {
  await using scene = await nativeScene('xfs', { siblingMaxBytes: 256 * 1024 });
  for (let at = 0; at < 30; at += 1) {
    mkdirSync(path.join(scene.path, `d${at}`));
    scene.add(`d${at}/name`, sizeBytes, { seed: at });
    scene.add(`d${at}/own${at}`, sizeBytes, { seed: at });
  }
  for (const at of [0, 20, 2]) {
    assert.ok((await read(scene, `d${at}/name`)).equals(patternBytes(at, sizeBytes)));
  }
  await isQuiet(scene, 3 + 8);
  for (const at of [1, 3, 4, 5, 6, 7, 8, 9]) {
    const file = scene.catalog.byKey(`d${at}/name`);
    assert.ok(file && scene.store.get(file.id)?.residency.complete === true, `d${at}/name is here`);
    await scene.store.settled(file.id);
  }
  await scene.server.changesTakenIn();
  const { opens } = scene.server.counters();
  for (const at of [3, 4]) {
    assert.ok((await read(scene, `d${at}/name`)).equals(patternBytes(at, sizeBytes)));
  }
  await isQuiet(scene, 11 + 6);
  assert.equal(scene.server.counters().opens, opens, 'the event thread lets their readers in');
  for (let at = 0; at < 30; at += 1) {
    assert.ok((await read(scene, `d${at}/name`)).equals(patternBytes(at, sizeBytes)), `d${at}`);
  }
  await isQuiet(scene, 30);
  assert.deepEqual(scene.problems, []);
});

test('who writes into a file that is being brought has his own; a failing remote is seen by who reads', async () => {
  await using scene = await nativeScene('xfs', { siblingMaxBytes: 256 * 1024 });
  addDirectory(scene, 'd', 12);
  scene.fault = ({ key }) =>
    key === 'd/f5'
      ? { kind: 'error', after: 0, error: { code: 'EIO', retryable: false } }
      : { kind: 'delay', delayMs: 100 };
  await scene.shellOk('cat d/f0 d/f1 d/f2 > /dev/null; echo mine >> d/f3; echo mine > d/f4');
  const cut = await scene.shell('cat d/f5');
  assert.match(cut.stderr.toString(), /Input\/output error/);
  scene.fault = undefined;
  assert.equal((await read(scene, 'd/f4')).toString(), 'mine\n');
  const appended = Buffer.concat([patternBytes(3, sizeBytes), Buffer.from('mine\n')]);
  assert.ok((await read(scene, 'd/f3')).equals(appended));
  for (const at of [0, 1, 2, 5, 6, 7, 8, 9, 10, 11]) {
    assert.ok((await read(scene, `d/f${at}`)).equals(patternBytes(at, sizeBytes)), `f${at}`);
  }
  assert.deepEqual(scene.problems, []);
});

test('a file that is all here, and not yet for certain, is read without the main thread', async () => {
  await using scene = await nativeScene('ext4', {});
  const file = scene.add('f', sizeBytes);
  await read(scene, 'f');
  await scene.server.changesTakenIn();
  const { opens } = scene.server.counters();
  assert.equal(opens, 1);
  for (let round = 0; round < 3; round += 1) await read(scene, 'f');
  await scene.server.changesTakenIn();
  assert.equal(scene.server.counters().opens, opens);
  // Nor does main hear what it knows already: that all is here, and that it is used.
  assert.ok(!scene.told.has('complete') && !scene.told.has('touched'));
  await scene.shellOk('echo mine >> f');
  await waitFor(() => file.change === 3, { what: 'the change to be known', timeoutMs: 60_000 });
  assert.ok((await read(scene, 'f')).toString('latin1').endsWith('mine\n'));
});
