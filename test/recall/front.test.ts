/** Readers who need some bytes of a chunk are served when these are in the file; the rest of it follows. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ebbError } from '../../src/base/errors.ts';
import { defaultRecallLimits } from '../../src/recall/limits.ts';
import { asked, scene } from './scene.ts';
import type { Scene } from './scene.ts';
import { by, chunk, KiB, MiB, settle } from './support.ts';

const { frontBytes } = defaultRecallLimits;

interface Read {
  readonly done: Promise<string>;
  /** What is said in the end, or `waiting`. */
  now(): Promise<string>;
}

/** `bytes`: he said that bytes are enough, and was served by them; `chunks`: his chunks are resident. */
function read(it: Scene, offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Read {
  let served = 'chunks';
  const onBytes = (): void => void (served = 'bytes');
  const more = signal === undefined ? { onBytes } : { onBytes, signal };
  const done = it.engine.ensure(it.file, offsetBytes, lengthBytes, by(1, 'demand', more)).then(
    () => {
      assert.equal(it.file.differenceTo(1, offsetBytes, lengthBytes), -1);
      assert.ok(served === 'bytes' || it.file.residency.has(offsetBytes, lengthBytes));
      return served;
    },
    (error: unknown) => (error as { code: string }).code,
  );
  const waiting = async (): Promise<string> => {
    await settle();
    return 'waiting';
  };
  return { done, now: () => Promise.race([done, waiting()]) };
}

test('who needs the front of a chunk is served before the rest has come; the others wait for it', async () => {
  await using it = scene(64 * MiB);
  const at = 5 * chunk;
  const front = read(it, at, 4 * KiB);
  const page = read(it, at + frontBytes - 4 * KiB, 4 * KiB);
  const behind = read(it, at + frontBytes, 4 * KiB);
  const all = it.engine.ensure(it.file, at, 1, by(2));
  await settle();
  it.remote.grant(0, frontBytes - 1);
  assert.equal(await front.now(), 'waiting');
  it.remote.grant(0, 1);
  assert.equal(await front.done, 'bytes');
  assert.equal(await page.done, 'bytes');
  assert.equal(await behind.now(), 'waiting');
  assert.equal(it.file.residency.residentChunks, 0);
  // Who comes now waits for what is under way.
  const late = read(it, at, 4 * KiB);
  assert.equal(await late.now(), 'waiting');
  it.remote.open();
  assert.deepEqual([await behind.done, await late.done], ['chunks', 'chunks']);
  await all;
  assert.deepEqual(asked(it.remote), ['5+1']);
  assert.equal(it.file.writesOfChunk.get(5), 1);
});

test('who needs more than half of a chunk, or parts of two, gets chunks', async () => {
  await using it = scene(64 * MiB);
  it.remote.open();
  assert.equal(await read(it, 0, chunk / 2).done, 'bytes');
  assert.equal(await read(it, 7 * chunk, chunk / 2 + 1).done, 'chunks');
  assert.equal(await read(it, 11 * chunk - 10, 20).done, 'chunks');
  assert.equal(await read(it, 13 * chunk + chunk / 2, 20).done, 'chunks');
});

test('the end of a file that is no more than a front comes as a chunk', async () => {
  await using it = scene(4 * MiB + 100);
  it.remote.open();
  assert.equal(await read(it, 4 * MiB, 100).done, 'chunks');
  assert.equal(await read(it, 4 * MiB + 50, 4 * KiB).done, 'chunks');
});

for (const code of ['EIO', 'ESTALE'] as const) {
  test(`the rest fails with ${code}: nothing is claimed, and who comes again gets right bytes`, async () => {
    await using it = scene(64 * MiB);
    const front = read(it, 0, 4 * KiB);
    const behind = read(it, 200 * KiB, 4 * KiB);
    await settle();
    it.remote.grant(0, frontBytes + 10);
    assert.equal(await front.done, 'bytes');
    it.remote.fail(0, ebbError(code, 'broken', { retryable: false }));
    assert.equal(await behind.done, code);
    assert.equal(it.file.residency.residentChunks, 0);
    const again = read(it, 0, 4 * KiB);
    await settle();
    it.remote.open();
    assert.equal(await again.done, 'bytes');
    await it.engine.ensure(it.file, 0, chunk, by(1));
    assert.equal(it.file.residency.residentChunks, 1);
  });
}

test('a reader who was served and goes does not stop the rest', async () => {
  await using it = scene(64 * MiB);
  const gone = new AbortController();
  const front = read(it, 0, 4 * KiB, gone.signal);
  await settle();
  it.remote.grant(0, frontBytes);
  assert.equal(await front.done, 'bytes');
  gone.abort(ebbError('EINTR', 'gone'));
  await settle();
  it.remote.open();
  await settle();
  assert.equal(it.file.residency.residentChunks, 1);
});

test('a front that the disk does not take serves nobody; room that is made is used', async () => {
  let full = 2;
  let asks = 0;
  const beforeWrite = (): void => {
    full -= 1;
    if (full >= 0) throw ebbError('ENOSPC', 'full');
  };
  const reserve = (): void => void (asks += 1);
  await using it = scene(64 * MiB, { reserve }, { beforeWrite });
  it.remote.open();
  assert.equal(await read(it, 0, 4 * KiB).done, 'ENOSPC');
  assert.equal(it.file.residency.residentChunks, 0);
  full = 1;
  const before = asks;
  assert.equal(await read(it, 0, 4 * KiB).done, 'bytes');
  assert.equal(asks, before + 2);
  await settle();
  assert.equal(it.file.residency.residentChunks, 1);
});

test('what a failed sync took meanwhile is not claimed', async () => {
  await using it = scene(64 * MiB);
  const front = read(it, 0, 4 * KiB);
  await settle();
  it.remote.grant(0, frontBytes);
  assert.equal(await front.done, 'bytes');
  it.file.losses += 1;
  it.remote.open();
  await settle();
  assert.equal(it.file.residency.residentChunks, 0);
});

test('cancelled between front and rest: nothing is claimed, and nobody waits', async () => {
  await using it = scene(64 * MiB);
  const front = read(it, 0, 4 * KiB);
  const behind = read(it, 200 * KiB, 4 * KiB);
  await settle();
  it.remote.grant(0, frontBytes);
  assert.equal(await front.done, 'bytes');
  await it.engine.cancel(it.file.id);
  assert.equal(await behind.done, 'ESTALE');
  assert.equal(it.file.residency.residentChunks, 0);
});
