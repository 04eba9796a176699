/** What the engine answers when something goes wrong, and what it keeps. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ebbError } from '../../src/base/errors.ts';
import type { EbbError } from '../../src/base/errors.ts';
import { ContentRecall } from '../../src/recall/content-recall.ts';
import { RecallEngine } from '../../src/recall/engine.ts';
import { asked, scene } from './scene.ts';
import { by, chunk, HeldRemote, isCode, KiB, LocalFile, MiB, settle } from './support.ts';

test('another version or size: everybody gets ESTALE, nothing is stored', async () => {
  for (const change of [{ version: 'v2' }, { sizeBytes: 64 * MiB - 1 }, { version: undefined }]) {
    const stale: string[] = [];
    await using it = scene(64 * MiB, { onStale: (_file, error) => stale.push(error.code) });
    Object.assign(it.remote, change);
    const reads = [0, 8, 16].map((at) => it.engine.ensure(it.file, at * MiB, 10, by(at)));
    it.remote.grant(1, chunk);
    const results = await Promise.allSettled(reads);
    for (const result of results) {
      assert.ok(result.status === 'rejected' && (result.reason as EbbError).code === 'ESTALE');
    }
    assert.deepEqual(stale, ['ESTALE']);
    assert.equal(it.file.writesOfChunk.size, 0);
  }
});

test('what arrived before a failure stays; the others get the error; a later call tries anew', async () => {
  await using it = scene(64 * MiB);
  const early = it.engine.ensure(it.file, 0, 10, by(1));
  await settle();
  const flight = it.engine.ensure(it.file, 4 * MiB, MiB, by(2));
  const late = it.engine.ensure(it.file, 4 * MiB + 3 * chunk, 10, by(3));
  const lucky = it.engine.ensure(it.file, 4 * MiB, 10, by(4));
  await settle();
  it.remote.grant(1, chunk + 10);
  await lucky;
  it.remote.fail(1, ebbError('ECONNRESET', 'gone'));
  await assert.rejects(flight, isCode('EIO'));
  await assert.rejects(late, isCode('EIO'));
  assert.equal(it.file.residency.residentChunks, 1);
  it.remote.open();
  await early;
  await it.engine.ensure(it.file, 4 * MiB, MiB, by(2));
  assert.deepEqual(asked(it.remote), ['0+1', '16+4', '17+3']);
  assert.equal(it.engine.totals().failures, 1);
});

test('who joined a less urgent flight that fails gets a flight of its own, once', async () => {
  await using it = scene(64 * MiB);
  const get = it.engine.ensure(it.file, 0, MiB, by(1, 'get'));
  await settle();
  const read = it.engine.ensure(it.file, 2 * chunk, 10, by(2));
  it.remote.fail(0, ebbError('EIO', 'broken'));
  await assert.rejects(get, isCode('EIO'));
  await settle();
  assert.deepEqual(asked(it.remote), ['0+4', '2+1']);
  it.remote.fail(1, ebbError('EIO', 'broken again'));
  await assert.rejects(read, isCode('EIO'));
  assert.equal(it.remote.seen.length, 2);
});

test('a deadline ends the wait with EIO and stops what was only for that reader', async () => {
  await using it = scene(64 * MiB);
  const read = it.engine.ensure(it.file, 0, 10, by(1, 'demand', { deadlineMs: 500 }));
  const other = it.engine.ensure(it.file, 8 * MiB, 10, by(2));
  const joined = it.engine.ensure(it.file, 8 * MiB, 10, by(3, 'demand', { deadlineMs: 500 }));
  await settle();
  it.clock.advance(499);
  it.engine.tick();
  assert.equal(it.engine.totals().waiting, 3);
  it.clock.advance(1);
  it.engine.tick();
  await assert.rejects(read, /deadline of 500 ms passed while recalling file/);
  await assert.rejects(joined, isCode('EIO'));
  assert.deepEqual(
    it.remote.seen.map((seen) => seen.signal.aborted),
    [true, false],
  );
  it.remote.open();
  await other;
});

test('hundreds who wait for a file whose request fails cost one look at each flight', async (context) => {
  const crowd = 500;
  await using it = scene(64 * MiB);
  const others = [8, 16, 24].map((at) => it.engine.ensure(it.file, at * MiB, 10, by(at)));
  const reads = Array.from({ length: crowd }, (_unused, index) =>
    it.engine.ensure(it.file, 0, 64 * MiB, by(100 + index)),
  );
  await settle();
  const looks = context.mock.method(ContentRecall.prototype, 'hasUse');
  const flights = it.engine.flights().length;
  it.remote.fail(0, ebbError('EIO', 'broken'));
  for (const read of reads) await assert.rejects(read, isCode('EIO'));
  assert.ok(looks.mock.callCount() <= 4 * flights, `${looks.mock.callCount()} of ${flights}`);
  it.remote.open();
  const [broken, ...whole] = await Promise.allSettled(others);
  assert.equal(broken?.status, 'rejected');
  for (const { status } of whole) assert.equal(status, 'fulfilled');
});

test('a stalled request is given up, also when only read-ahead waits for it', async () => {
  await using it = scene(64 * MiB, { limits: { stallMaxMs: 1000 } });
  const get = it.engine.ensure(it.file, 0, MiB, by(1, 'get'));
  await settle();
  it.clock.advance(900);
  it.remote.grant(0, 10);
  await settle();
  it.clock.advance(900);
  it.engine.tick();
  assert.equal(it.engine.totals().waiting, 1);
  it.clock.advance(100);
  it.engine.tick();
  await assert.rejects(get, /sent nothing of file for 1000 ms/);
});

test('a request is not given up as stalled while it is the local disk that takes its time', async () => {
  const written = Promise.withResolvers<void>();
  const slow = { beforeWrite: () => written.promise };
  await using it = scene(64 * MiB, { limits: { stallMaxMs: 1000 } }, slow);
  const get = it.engine.ensure(it.file, 0, MiB, by(1, 'get'));
  it.remote.grant(0, chunk);
  await settle();
  it.clock.advance(5_000);
  it.engine.tick();
  written.resolve();
  it.remote.open();
  await get;
});

test('the engine rings by itself when the clock is real', async () => {
  const remote = new HeldRemote(MiB * 8);
  using file = new LocalFile({ sizeBytes: 8 * MiB });
  const engine = new RecallEngine({ remote });
  const read = engine.ensure(file, 0, 10, by(1, 'demand', { deadlineMs: 30 }));
  await assert.rejects(read, isCode('EIO'));
  await engine.close();
});

test('an interrupted reader gets EINTR; its request is stopped, read-ahead may finish', async () => {
  await using it = scene(64 * MiB);
  const gone = new AbortController();
  const options = by(1, 'demand', { signal: gone.signal, streamId: 3 });
  const read = it.engine.ensure(it.file, 0, 256 * KiB, options);
  await settle();
  gone.abort();
  await assert.rejects(read, isCode('EINTR'));
  assert.deepEqual(
    it.remote.seen.map((seen) => seen.signal.aborted),
    [true, false],
  );
  await assert.rejects(it.engine.ensure(it.file, 0, 1, options), isCode('EINTR'));
  it.remote.open();
  await settle();
  assert.equal(it.file.residency.residentChunks, 4);
});

test('a full disk: space is asked for, one more try, then ENOSPC; other files go on', async () => {
  let full = 1;
  const asks: number[] = [];
  const reserve = (bytes: number): void => {
    asks.push(bytes);
  };
  const beforeWrite = (): void => {
    if (full > 0) {
      full -= 1;
      throw ebbError('ENOSPC', 'no space left');
    }
  };
  await using it = scene(64 * MiB, { reserve }, { beforeWrite });
  using other = new LocalFile({ id: 2, key: 'other', sizeBytes: 64 * MiB });
  it.remote.open();
  await it.engine.ensure(it.file, 0, 10, by(1));
  assert.deepEqual(asks, [chunk, chunk]);
  full = Infinity;
  const read = it.engine.ensure(it.file, 8 * MiB, 10, by(1));
  const fine = it.engine.ensure(other, 8 * MiB, 10, by(1));
  await assert.rejects(read, isCode('ENOSPC'));
  await fine;
  assert.equal(it.file.residency.residentChunks, 1);
});

test('who was given up while space was made writes nothing into a file that is all here by then', async () => {
  const room = Promise.withResolvers<void>();
  const asks: number[] = [];
  const reserve = (bytes: number): void | Promise<void> =>
    asks.push(bytes) === 2 ? room.promise : undefined;
  let writes = 0;
  const beforeWrite = (): void => {
    writes += 1;
    if (writes === 1) throw ebbError('ENOSPC', 'no space left');
  };
  await using it = scene(chunk, { reserve }, { beforeWrite });
  it.remote.open();
  const gone = new AbortController();
  const first = it.engine.ensure(it.file, 0, 10, by(1, 'demand', { signal: gone.signal }));
  await settle();
  assert.equal(asks.length, 2);
  gone.abort();
  await assert.rejects(first, isCode('EINTR'));
  await it.engine.ensure(it.file, 0, 10, by(2));
  assert.ok(it.file.residency.complete);
  // From here on a user may have it open for writing, and nobody asks the engine.
  assert.equal(writes, 2);
  room.resolve();
  await settle();
  assert.equal(writes, 2);
  assert.equal(it.engine.isBusy(it.file.id), false);
});

test('a refused reservation is the reader error, before anything is asked of the remote', async () => {
  const reserve = (): Promise<void> => Promise.reject(ebbError('EDQUOT', 'quota'));
  await using it = scene(64 * MiB, { reserve });
  await assert.rejects(it.engine.ensure(it.file, 0, 10, by(1)), isCode('EDQUOT'));
  assert.equal(it.remote.seen.length, 0);
});

test('a guess without room is nobody’s failure, and who reads meanwhile has room made', async () => {
  const refusal = Promise.withResolvers<void>();
  const asked: string[] = [];
  const reserve = (_bytes: number, intent: string): void | Promise<void> => {
    asked.push(intent);
    return intent === 'prefetch' ? refusal.promise : undefined;
  };
  await using it = scene(64 * MiB, { reserve });
  it.remote.open();
  const guess = it.engine.ensure(it.file, 0, 10, { ...by(1), intent: 'prefetch' });
  const read = it.engine.ensure(it.file, 0, 10, by(2));
  refusal.reject(ebbError('EAGAIN', 'There is no room.'));
  await assert.rejects(guess, isCode('EAGAIN'));
  await read;
  assert.deepEqual(asked, ['prefetch', 'demand']);
  assert.equal(it.remote.seen.length, 1);
  assert.equal(it.engine.totals().failures, 0);
});

test('cancel rejects the readers, stops everything and leaves the file alone afterwards', async () => {
  await using it = scene(64 * MiB);
  const reads = [0, 8, 16].map((at) => it.engine.ensure(it.file, at * MiB, MiB, by(at)));
  await settle();
  it.remote.grant(0, chunk);
  const cancelled = it.engine.cancel(it.file.id);
  for (const read of reads) await assert.rejects(read, isCode('ESTALE'));
  await cancelled;
  assert.equal(it.engine.isBusy(it.file.id), false);
  assert.equal(it.remote.active, 0);
  await it.engine.cancel(99);
});

test('close rejects the readers with EINTR, and whoever comes later', async () => {
  await using it = scene(64 * MiB);
  const reads = [0, 8].map((at) => it.engine.ensure(it.file, at * MiB, MiB, by(at)));
  const closed = it.engine.close();
  for (const read of reads) await assert.rejects(read, isCode('EINTR'));
  await closed;
  await assert.rejects(it.engine.ensure(it.file, 0, 1, by(1)), isCode('EINTR'));
});
