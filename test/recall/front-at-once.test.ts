/** The front of a chunk that the remote has ready is brought in the turn in which it is asked for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ebbError } from '../../src/base/errors.ts';
import { defaultRecallLimits } from '../../src/recall/limits.ts';
import { asked, scene } from './scene.ts';
import type { Scene } from './scene.ts';
import { by, chunk, KiB, MiB, settle } from './support.ts';

const { frontBytes } = defaultRecallLimits;

/** With a remote that has everything ready. */
function readyScene(...parameters: Parameters<typeof scene>): Scene {
  const it = scene(...parameters);
  it.remote.ready = () => true;
  return it;
}

test('it is in the file, nothing is claimed or asked for; its chunk follows by one request', async () => {
  await using it = readyScene(64 * MiB);
  const at = 5 * chunk;
  assert.equal(it.engine.front(it.file, at + 60 * KiB, 4 * KiB), true);
  assert.equal(it.file.differenceTo(1, at, frontBytes), -1);
  assert.notEqual(it.file.differenceTo(1, at + frontBytes, 1), -1);
  assert.equal(it.file.residency.residentChunks, 0);
  assert.equal(it.engine.isBusy(it.file.id), false);
  assert.deepEqual(asked(it.remote), []);
  it.remote.open();
  await it.engine.ensure(it.file, at + 60 * KiB, 4 * KiB, by(1));
  assert.deepEqual(asked(it.remote), ['5+1']);
  assert.equal(it.file.residency.residentChunks, 1);
  assert.equal(it.engine.front(it.file, at, 4 * KiB), false, 'it is here');
});

test('who needs more than half of a chunk, parts of two, or the end of the file gets chunks', async () => {
  await using it = readyScene(4 * MiB + 100);
  const front = (offsetBytes: number, lengthBytes: number) =>
    it.engine.front(it.file, offsetBytes, lengthBytes);
  assert.equal(front(0, chunk / 2), true);
  assert.equal(front(0, chunk / 2 + 1), false);
  assert.equal(front(chunk - 10, 20), false);
  assert.equal(front(chunk / 2, 20), false);
  assert.equal(front(4 * MiB, 100), false);
  assert.equal(front(4 * MiB + 100, 4 * KiB), false, 'nothing is there');
});

test('huge chunks come as they did, however large their front would be', async () => {
  await using it = readyScene(64 * MiB, {}, { chunkBytes: 4 * MiB });
  assert.equal(it.engine.front(it.file, 0, 100 * KiB), true);
  assert.equal(it.engine.front(it.file, 100 * KiB, 100 * KiB), false);
});

test('while anything of the file is being recalled, nothing is written beside it', async () => {
  await using it = readyScene(64 * MiB);
  const other = it.engine.ensure(it.file, 9 * chunk, 1, by(1));
  assert.equal(it.engine.front(it.file, 0, 4 * KiB), false);
  it.remote.open();
  await other;
  await settle();
  assert.equal(it.engine.front(it.file, 0, 4 * KiB), true);
});

test('what is not ready is said: not at all, or not yet', async () => {
  await using it = readyScene(64 * MiB);
  it.remote.ready = () => false;
  assert.equal(it.engine.front(it.file, 0, 4 * KiB), false);
  const opening = Promise.resolve();
  it.remote.ready = () => opening;
  assert.equal(it.engine.front(it.file, 0, 4 * KiB), opening);
  assert.notEqual(it.file.differenceTo(1, 0, 1), -1);
});

test('a file that cannot take it leaves it to the recall; what makes every write fail is thrown', async () => {
  let say = (): boolean => false;
  await using it = readyScene(64 * MiB, {}, { mayTryWrite: () => say() });
  assert.equal(it.engine.front(it.file, 0, 4 * KiB), false);
  for (const code of ['ENOSPC', 'EDQUOT'] as const) {
    say = () => {
      throw ebbError(code, 'full');
    };
    assert.equal(it.engine.front(it.file, 0, 4 * KiB), false, 'room can be made');
  }
  say = () => {
    throw ebbError('ESTALE', 'cut');
  };
  assert.throws(() => it.engine.front(it.file, 0, 4 * KiB), { code: 'ESTALE' });
});

test('where room has to be made first, and where nobody may have it, it is not brought', async () => {
  for (const reserve of [
    () => Promise.resolve(),
    // Nobody waits for it: that must not end the process.
    () => Promise.reject(ebbError('ENOSPC', 'full')),
    () => {
      throw ebbError('ENOSPC', 'full');
    },
  ]) {
    await using it = readyScene(64 * MiB, { reserve });
    assert.equal(it.engine.front(it.file, 0, 4 * KiB), false);
    await settle();
    assert.notEqual(it.file.differenceTo(1, 0, 1), -1);
  }
  await using it = readyScene(64 * MiB, { verdict: () => 'allow' });
  assert.equal(it.engine.front(it.file, 0, 4 * KiB), false, 'the verdict is asked by ensure');
  await using closed = readyScene(64 * MiB);
  await closed.engine.close();
  assert.equal(closed.engine.front(closed.file, 0, 4 * KiB), false);
});
