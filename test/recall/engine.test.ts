/** The engine over a remote whose every byte the test lets through, and a real local file. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '../../src/base/clock.ts';
import { ebbError } from '../../src/base/errors.ts';
import type { EbbError } from '../../src/base/errors.ts';
import { RecallEngine } from '../../src/recall/engine.ts';
import type { RecallEngineOptions } from '../../src/recall/options.ts';
import { by, chunk, HeldRemote, isCode, KiB, LocalFile, MiB, settle } from './support.ts';
import type { LocalFileOptions } from './support.ts';

interface Scene extends AsyncDisposable {
  readonly remote: HeldRemote;
  readonly file: LocalFile;
  readonly engine: RecallEngine;
  readonly clock: ManualClock;
}

function scene(
  sizeBytes: number,
  options: Partial<RecallEngineOptions> = {},
  file: Partial<LocalFileOptions> = {},
): Scene {
  const remote = new HeldRemote(sizeBytes);
  const local = new LocalFile({ sizeBytes, ...file });
  const clock = new ManualClock();
  const engine = new RecallEngine({ remote, clock, ...options });
  return {
    remote,
    file: local,
    engine,
    clock,
    async [Symbol.asyncDispose]() {
      await engine.close();
      assert.equal(remote.active, 0);
      assert.deepEqual(engine.flights(), []);
      assert.equal(engine.totals().waiting, 0);
      assert.equal(engine.isBusy(local.id), false);
      assert.deepEqual(local.wrongChunks(1), []);
      local[Symbol.dispose]();
    },
  };
}

/** The ranges asked of the remote, in chunks. */
function asked(remote: HeldRemote): string[] {
  return remote.seen.map(({ offsetBytes, lengthBytes }) => {
    const first = offsetBytes / chunk;
    if (lengthBytes === undefined) return `${first}..`;
    return `${first}+${Math.ceil(lengthBytes / chunk)}`;
  });
}

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

test('a refused reservation is the reader error, before anything is asked of the remote', async () => {
  const reserve = (): Promise<void> => Promise.reject(ebbError('EDQUOT', 'quota'));
  await using it = scene(64 * MiB, { reserve });
  await assert.rejects(it.engine.ensure(it.file, 0, 10, by(1)), isCode('EDQUOT'));
  assert.equal(it.remote.seen.length, 0);
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
