/** The engine over a remote whose every byte the test lets through, and a real local file. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ebbError } from '../../src/base/errors.ts';
import type { EbbError } from '../../src/base/errors.ts';
import { asked, scene } from './scene.ts';
import { by, chunk, isCode, KiB, MiB, settle } from './support.ts';

test('one 4 KiB read costs one chunk, in one request', async () => {
  await using it = scene(64 * MiB);
  it.remote.open();
  await it.engine.ensure(it.file, 33 * MiB + 5, 4096, by(1, 'demand', { streamId: 1 }));
  assert.deepEqual(asked(it.remote), ['132+1']);
  assert.equal(it.file.residency.residentChunks, 1);
  assert.equal(it.engine.totals().recalledBytes, chunk);
  assert.equal(it.engine.totals().requests, 1);
});

test('ten readers of one range cost one fetch, and are woken together', async () => {
  await using it = scene(64 * MiB);
  const reads = Array.from({ length: 10 }, (_, index) =>
    it.engine.ensure(it.file, 8 * MiB + index * 4096, 4096, by(index)),
  );
  await settle();
  assert.equal(it.engine.totals().waiting, 10);
  it.remote.open();
  await Promise.all(reads);
  assert.deepEqual(asked(it.remote), ['32+1']);
});

test('ranges are clamped to the file; its last chunk is partial', async () => {
  await using it = scene(5 * MiB + 100);
  it.remote.open();
  await it.engine.ensure(it.file, 5 * MiB, MiB, by(1));
  assert.deepEqual(
    it.remote.seen.map((seen) => seen.lengthBytes),
    [100],
  );
  assert.equal(it.file.residency.residentBytes, 100);
  await it.engine.ensure(it.file, 9 * MiB, MiB, by(1));
  await it.engine.ensure(it.file, 0, 0, by(1));
  assert.equal(it.remote.seen.length, 1);
});

test('waiters are woken when their chunk is written, not when the flight ends', async () => {
  await using it = scene(64 * MiB);
  const whole = it.engine.ensure(it.file, 0, MiB, by(1));
  await settle();
  assert.deepEqual(asked(it.remote), ['0+4']);
  const second = it.engine.ensure(it.file, chunk, 10, by(2));
  it.remote.grant(0, 2 * chunk + 10);
  await second;
  assert.equal(it.file.residency.residentChunks, 2);
  assert.equal(
    await Promise.race([whole.then(() => 'done'), settle().then(() => 'waiting')]),
    'waiting',
  );
  it.remote.open();
  await whole;
  assert.equal(it.remote.seen.length, 1);
});

test('who joins late gets what was received but not yet written', async () => {
  await using it = scene(64 * MiB);
  const get = it.engine.ensure(it.file, 0, 4 * MiB, by(1, 'get'));
  await settle();
  const first = it.engine.flights()[0];
  assert.equal(first?.intent, 'get');
  it.remote.grant(0, chunk);
  await settle();
  await it.engine.ensure(it.file, 0, 10, by(2));
  it.remote.open();
  await get;
});

test('a sequential reader causes read-ahead beside its own small request', async () => {
  await using it = scene(64 * MiB);
  it.remote.open();
  await it.engine.ensure(it.file, 0, 128 * KiB, by(1, 'demand', { streamId: 7 }));
  await settle();
  assert.deepEqual(asked(it.remote), ['0+1', '1+4']);
  for (let at = 128 * KiB; at < 64 * MiB; at += 128 * KiB) {
    if (it.file.residency.has(at, 128 * KiB)) it.engine.advance(it.file, at, 128 * KiB, 7);
    else await it.engine.ensure(it.file, at, 128 * KiB, by(1, 'demand', { streamId: 7 }));
  }
  await settle();
  assert.ok(it.file.residency.complete);
  assert.ok([...it.file.writesOfChunk.values()].every((count) => count === 1));
  assert.ok(it.remote.seen.length < 64, `${it.remote.seen.length} requests`);
  assert.ok(it.remote.activeMax <= 8);
});

test('closing the file stops its read-ahead; a reader who joined keeps what it needs', async () => {
  await using it = scene(64 * MiB);
  const read = it.engine.ensure(it.file, 0, 128 * KiB, by(1, 'demand', { streamId: 7 }));
  await settle();
  assert.equal(it.remote.seen.length, 2);
  it.engine.endStream(7);
  await settle();
  assert.deepEqual(
    it.remote.seen.map((seen) => seen.signal.aborted),
    [false, true],
  );
  it.remote.open();
  await read;
});

test('demand goes before read-ahead, which goes before get and prefetch', async () => {
  const limits = { parallelRequestsMax: 1, smallFileMaxBytes: 0 };
  await using it = scene(64 * MiB, { limits });
  const all = [it.engine.ensure(it.file, 0, 1, by(1))];
  all.push(it.engine.ensure(it.file, 10 * MiB, 1, by(2, 'prefetch')));
  all.push(it.engine.ensure(it.file, 20 * MiB, 1, by(3, 'get')));
  all.push(it.engine.ensure(it.file, 30 * MiB, 1, by(4, 'readahead')));
  all.push(it.engine.ensure(it.file, 40 * MiB, 1, by(5)));
  it.remote.open();
  await Promise.all(all);
  assert.deepEqual(asked(it.remote), ['0+1', '160+1', '120+1', '80+1', '40+1']);
});

test('demand inside a queued flight of lesser urgency takes its part and goes first', async () => {
  await using it = scene(64 * MiB, { limits: { parallelRequestsMax: 1 } });
  const first = it.engine.ensure(it.file, 0, 1, by(1));
  const get = it.engine.ensure(it.file, 16 * MiB, MiB, by(2, 'get'));
  const demand = it.engine.ensure(it.file, 16 * MiB + 2 * chunk, 1, by(3));
  it.remote.open();
  await Promise.all([first, get, demand]);
  assert.deepEqual(asked(it.remote), ['0+1', '66+1', '64+2', '67+1']);
});

test('prefetch leaves slots for demand', async () => {
  await using it = scene(64 * MiB, { limits: { rangeMinBytes: chunk } });
  const prefetch = it.engine.ensure(it.file, 0, 32 * MiB, by(1, 'prefetch'));
  await settle();
  assert.equal(it.remote.active, 5);
  const reads = [40, 44, 48].map((at) => it.engine.ensure(it.file, at * MiB, 1, by(2)));
  await settle();
  assert.equal(it.remote.active, 8);
  it.remote.open();
  await Promise.all([prefetch, ...reads]);
});

test('a small file comes whole, in one request', async () => {
  await using it = scene(900 * KiB);
  it.remote.open();
  await it.engine.ensure(it.file, 300 * KiB, 10, by(1));
  await settle();
  assert.deepEqual(asked(it.remote), ['0+4']);
  assert.ok(it.file.residency.complete);
});

test('a verdict may allow the exact range only, or deny', async () => {
  let verdict: 'exact' | EbbError = 'exact';
  await using it = scene(900 * KiB, { verdict: () => verdict });
  it.remote.open();
  await it.engine.ensure(it.file, 0, 10, by(1, 'demand', { streamId: 1 }));
  assert.deepEqual(asked(it.remote), ['0+1']);
  verdict = ebbError('EACCES', 'not for you');
  await assert.rejects(it.engine.ensure(it.file, 600 * KiB, 10, by(1)), isCode('EACCES'));
  await it.engine.ensure(it.file, 0, 10, by(1));
});

test('a caller may want the exact range only', async () => {
  await using it = scene(900 * KiB);
  it.remote.open();
  await it.engine.ensure(it.file, 0, 10, by(1, 'demand', { exact: true, streamId: 1 }));
  assert.deepEqual(asked(it.remote), ['0+1']);
});

test('a remote without ranges: one whole-file flight, readers woken as its front passes', async () => {
  for (const refuses of [false, true]) {
    await using it = scene(8 * MiB);
    if (refuses) it.remote.refusesRanges = true;
    else it.remote.supportsRanges = false;
    const reads = [6, 1, 3].map((at) => it.engine.ensure(it.file, at * MiB, 10, by(at)));
    await settle();
    const whole = it.remote.seen.length - 1;
    assert.equal(asked(it.remote)[whole], '0..');
    it.remote.grant(whole, 2 * MiB);
    await reads[1];
    assert.equal(it.engine.totals().waiting, 2);
    it.remote.open();
    await Promise.all(reads);
    await settle();
    assert.ok(it.file.residency.complete);
    assert.ok([...it.file.writesOfChunk.values()].every((count) => count === 1));
  }
});

test('a whole-file flight does not write again what is resident', async () => {
  await using it = scene(8 * MiB);
  it.remote.open();
  await it.engine.ensure(it.file, 3 * MiB, 10, by(1));
  it.remote.supportsRanges = false;
  await it.engine.ensure(it.file, 7 * MiB, 10, by(1));
  await settle();
  assert.equal(it.file.writesOfChunk.get(12), 1);
});

test('a get of a huge file queues no more than its maximum, and demand still gets in', async () => {
  const TiB = 1024 * 1024 * MiB;
  await using it = scene(TiB, { limits: { queuedFlightsMax: 40, flightsPerWaiterMax: 16 } });
  const gone = new AbortController();
  const gets = Array.from({ length: 8 }, (_, index) =>
    it.engine.ensure(
      it.file,
      (index * TiB) / 8,
      TiB / 8,
      by(index, 'get', { signal: gone.signal }),
    ),
  );
  await settle();
  assert.ok(it.engine.flights().length <= 16 * 8);
  assert.ok(it.engine.flights().length <= 40 + 8);
  const reads = Array.from({ length: 60 }, (_, index) =>
    it.engine.ensure(it.file, 5 * 1024 * MiB + index * 9 * MiB, 10, by(100)),
  );
  assert.ok(it.engine.flights().length <= 40 + 8);
  gone.abort();
  for (const get of gets) await assert.rejects(get, isCode('EINTR'));
  it.remote.open();
  await Promise.all(reads);
});

test('too many waiters are refused', async () => {
  await using it = scene(64 * MiB, { limits: { waitersMax: 3 } });
  const reads = [0, 1, 2].map((at) => it.engine.ensure(it.file, at * MiB, 1, by(at)));
  await assert.rejects(it.engine.ensure(it.file, 9 * MiB, 1, by(9)), isCode('EAGAIN'));
  it.remote.open();
  await Promise.all(reads);
});

test('chunks larger than a receive buffer are marked when all their parts are written', async () => {
  await using it = scene(20 * MiB + 5, {}, { chunkBytes: 4 * MiB });
  const read = it.engine.ensure(it.file, 5 * MiB, 10, by(1));
  await settle();
  it.remote.grant(0, 3 * MiB);
  await settle();
  assert.equal(it.file.residency.residentChunks, 0);
  it.remote.open();
  await read;
  await it.engine.ensure(it.file, 20 * MiB, 10, by(1));
  assert.equal(it.file.residency.residentBytes, 4 * MiB + 5);
});

test('who caused what is counted', async () => {
  await using it = scene(64 * MiB);
  it.remote.open();
  await it.engine.ensure(it.file, 0, 10, by(11));
  await it.engine.ensure(it.file, 8 * MiB, 2 * MiB, by(12));
  assert.deepEqual(
    it.engine.requesters().map(({ requester, recalls, bytes }) => [requester.pid, recalls, bytes]),
    [
      [12, 1, 2 * MiB],
      [11, 1, chunk],
    ],
  );
});
