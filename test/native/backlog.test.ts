/** What the event thread has told and main has not taken in is bounded, and neither waits for the other for ever. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { Backlog, messagesMax } from '../../src/native/backlog.ts';
import type { ToMain } from '../../src/native/messages.ts';
import { SharedWord, sharedWordsBytes } from '../../src/native/shared-words.ts';
import { StubChange } from '../../src/base/stub-facts.ts';
import { waitFor } from '../support/wait-for.ts';
import { nativeScene, settle } from './native-scene.ts';

const message: ToMain = { kind: 'opening', fileId: 1 };

/** Tells as fast as it can. The second word of `done` counts what it has told; the first one ends it. */
const teller = `
import { workerData } from 'node:worker_threads';
const { Backlog } = await import(workerData.module);
const backlog = new Backlog(workerData.shared, workerData.waitMs);
while (Atomics.load(workerData.done, 0) === 0) {
  backlog.add({ kind: 'opening', fileId: 1 });
  Atomics.add(workerData.done, 1, 1);
}`;

test('a thread that tells more than main takes in waits, and goes on when main has caught up', async () => {
  const shared = new SharedArrayBuffer(sharedWordsBytes);
  const done = new Int32Array(new SharedArrayBuffer(8));
  const module = new URL('../../src/native/backlog.ts', import.meta.url).href;
  const worker = new Worker(teller, { eval: true, workerData: { shared, done, module } });
  const told = (): number => Atomics.load(new Int32Array(shared), SharedWord.told);
  const backlog = new Backlog(shared);
  try {
    for (let round = 1; round <= 3; round += 1) {
      await waitFor(() => told() === messagesMax, { what: 'the thread to wait' });
      for (let taken = 0; taken < messagesMax / 2; taken += 1) backlog.taken(message);
      const toldAtLeast = messagesMax + (round * messagesMax) / 2;
      await waitFor(() => Atomics.load(done, 1) >= toldAtLeast, { what: 'the thread to go on' });
      assert.ok(told() <= messagesMax, `${told()}`);
    }
    // Questions and what main has asked for are counted elsewhere, and are never waited for.
    backlog.add({ kind: 'synced', id: 1 });
    assert.equal(told(), messagesMax);
  } finally {
    Atomics.store(done, 0, 1);
    await worker.terminate();
  }
});

test('a main thread that waits for the thread, and takes nothing in, is not waited for for ever', async () => {
  const shared = new SharedArrayBuffer(sharedWordsBytes);
  const done = new Int32Array(new SharedArrayBuffer(8));
  const module = new URL('../../src/native/backlog.ts', import.meta.url).href;
  const workerData = { shared, done, module, waitMs: 1 };
  const worker = new Worker(teller, { eval: true, workerData });
  try {
    const told = messagesMax + 3;
    await waitFor(() => Atomics.load(done, 1) >= told, { what: 'the thread to go on' });
  } finally {
    Atomics.store(done, 0, 1);
    await worker.terminate();
  }
});

test('what a writer does while main is busy is all told when it is not', async () => {
  await using scene = await nativeScene('ext4');
  const file = scene.add('f', 100_000);
  await settle(scene, 'f', file);
  await scene.shellOk(
    'python3 -c \'f = open("f", "r+b", 0)\nfor _ in range(3000): f.write(b"x")\'',
  );
  await scene.server.recorded(file.id);
  assert.equal(file.change, StubChange.dirty);
  await scene.server.changesTakenIn();
  assert.equal(new Int32Array(scene.server.pending)[SharedWord.told], 0);
  assert.ok(scene.changes > 0);
});
