/** Retries: what is tried again, from where, how often, after which pause, and what is not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ebbError } from '../../src/base/errors.ts';
import { faultyRemote } from '../../src/remote/fault.ts';
import type { DecideFault, Fault, FaultCall } from '../../src/remote/fault.ts';
import { MemoryRemote } from '../../src/remote/memory/memory-remote.ts';
import type { MemoryRemoteOptions } from '../../src/remote/memory/memory-remote.ts';
import type { ListingBatch, Remote } from '../../src/remote/remote.ts';
import { retryingRemote } from '../../src/remote/retry.ts';
import type { RetryOptions } from '../../src/remote/retry.ts';
import { generator, seededFaults } from '../../src/remote/seeded-faults.ts';
import {
  CollectingSink,
  listAll,
  noSignal,
  readAll,
  rejectsWith,
  rejectsWithReason,
} from '../conformance/collect.ts';
import { patternBytes } from '../support/pattern.ts';

const content = patternBytes(1, 3_000_000);

interface Setup {
  readonly memory: MemoryRemote;
  readonly remote: Remote;
  readonly calls: FaultCall[];
  readonly pausesMs: number[];
}

/** Faults in the order of the calls; no real pauses. */
function setup(
  faults: readonly (Fault | undefined)[] | DecideFault,
  options: RetryOptions = {},
  memoryOptions: MemoryRemoteOptions = {},
): Setup {
  const memory = new MemoryRemote({ batchObjectsMax: 3, ...memoryOptions });
  memory.putFile('file', content);
  const calls: FaultCall[] = [];
  const pausesMs: number[] = [];
  const faulty = faultyRemote(memory, (call) => {
    calls.push(call);
    return typeof faults === 'function' ? faults(call) : faults[call.index];
  });
  const remote = retryingRemote(faulty, {
    random: () => 0.5,
    sleep: async (durationMs) => void pausesMs.push(durationMs),
    ...options,
  });
  return { memory, remote, calls, pausesMs };
}

const breakAfter = (after: number): Fault => ({ kind: 'error', after });

void test('a read goes on at the byte where it broke', async () => {
  const { remote, calls } = setup([
    breakAfter(1),
    breakAfter(99_999),
    breakAfter(70_000),
    undefined,
  ]);
  const { bytes } = await readAll(remote, 'file', { offsetBytes: 1000, lengthBytes: 500_000 });
  assert.ok(bytes.equals(content.subarray(1000, 501_000)));
  assert.deepEqual(
    calls.map((call) => call.offsetBytes),
    [1000, 1001, 101_000, 171_000],
  );
});

void test('a read that broke after its last byte is complete', async () => {
  const { remote, calls } = setup([breakAfter(500)]);
  assert.equal((await readAll(remote, 'file', { lengthBytes: 500 })).bytes.length, 500);
  const whole = setup([breakAfter(content.length)]);
  assert.equal((await readAll(whole.remote, 'file')).bytes.length, content.length);
  assert.deepEqual([calls.length, whole.calls.length], [1, 1]);
});

void test('whole files only: the second try throws away what was delivered', async () => {
  const { remote, calls } = setup(
    [breakAfter(700_001), breakAfter(900_000)],
    {},
    { supportsRanges: false },
  );
  assert.ok((await readAll(remote, 'file')).bytes.equals(content));
  assert.deepEqual(
    calls.map((call) => call.offsetBytes),
    [0, 0, 0],
  );
});

void test('a version that moved between two tries is ESTALE', async () => {
  const faults: Fault[] = [breakAfter(1000)];
  const { memory, remote } = setup(({ index }) => {
    if (index === 1) memory.putFile('file', patternBytes(2, content.length));
    return faults[index];
  });
  const sink = new CollectingSink();
  await rejectsWith(readAll(remote, 'file', {}, sink), 'ESTALE');
  assert.ok(sink.bytes().equals(content.subarray(0, 1000)));
});

void test('without a version a read cannot go on, but it can begin anew', async () => {
  const started = setup([breakAfter(1000)]);
  started.memory.putFile('file', content, { version: null });
  await rejectsWith(readAll(started.remote, 'file'), 'EIO');
  assert.equal(started.calls.length, 1);
  const fresh = setup([breakAfter(0)]);
  fresh.memory.putFile('file', content, { version: null });
  assert.ok((await readAll(fresh.remote, 'file')).bytes.equals(content));
});

void test('pauses double with full jitter and respect Retry-After', async () => {
  const { remote, pausesMs } = setup(
    [
      breakAfter(0),
      breakAfter(0),
      { kind: 'error', error: { code: 'EBUSY', retryAfterMs: 3000 } },
      breakAfter(0),
      undefined,
    ],
    { baseMs: 100, maxMs: 350, attemptsMax: 5 },
  );
  await remote.stat('file', { signal: noSignal });
  assert.deepEqual(pausesMs, [50, 100, 3175, 175]);
});

void test('gives up: attempts, patience, errors that stay', async () => {
  const always = setup(() => breakAfter(0), { attemptsMax: 3 });
  await rejectsWith(always.remote.stat('file', { signal: noSignal }), 'EIO');
  assert.equal(always.calls.length, 3);
  const late = setup([{ kind: 'error', error: { code: 'EBUSY', retryAfterMs: 100_000 } }]);
  const error = await rejectsWith(late.remote.stat('file', { signal: noSignal }), 'EBUSY');
  assert.equal(error.retryAfterMs, 100_000);
  for (const code of ['ENOENT', 'EACCES', 'ESTALE'] as const) {
    const lasting = setup([{ kind: 'error', error: { code } }]);
    await rejectsWith(readAll(lasting.remote, 'file'), code);
    assert.equal(lasting.calls.length, 1);
  }
});

void test('progress renews the attempts', async () => {
  const { remote, calls } = setup(({ index }) => (index < 2 ? breakAfter(1_100_000) : undefined), {
    attemptsMax: 2,
  });
  assert.ok((await readAll(remote, 'file')).bytes.equals(content));
  assert.equal(calls.length, 3);
});

void test('the signal ends a pause', async () => {
  const controller = new AbortController();
  const reason = new Error('enough');
  const memory = new MemoryRemote();
  const remote = retryingRemote(
    faultyRemote(memory, () => breakAfter(0)),
    {
      baseMs: 60_000,
      maxMs: 60_000,
      random: () => 0.9,
      onRetry: () => setTimeout(() => controller.abort(reason), 10),
    },
  );
  await rejectsWithReason(remote.stat('file', { signal: controller.signal }), reason);
});

void test('what the sink throws is not retried, however retryable it looks', async () => {
  const { remote, calls } = setup([]);
  const refusal = ebbError('EAGAIN', 'not now');
  const sink = new CollectingSink({ onFilled: () => Promise.reject(refusal) });
  await rejectsWithReason(readAll(remote, 'file', {}, sink), refusal);
  assert.equal(calls.length, 1);
});

void test('a listing begins anew without names twice, and fails when it stays broken', async () => {
  const { memory, remote, calls } = setup([breakAfter(1), breakAfter(2), undefined]);
  for (let index = 0; index < 20; index += 1) memory.putFile(`many/${index}`, Buffer.of(1));
  assert.equal((await listAll(remote, 'many')).objects.size, 20);
  assert.equal(calls.length, 3);
  const broken = setup(() => breakAfter(1), { attemptsMax: 4 });
  for (let index = 0; index < 20; index += 1) broken.memory.putFile(`many/${index}`, Buffer.of(1));
  await rejectsWith(listAll(broken.remote, 'many'), 'EIO');
});

void test('any faults, any range: the right bytes or an error', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer(),
      fc.nat(content.length),
      fc.nat(400_000),
      async (seed, offsetBytes, wantedBytes) => {
        const rates = { error: 0.2, broken: 0.5, changed: 0.05, brokenMaxBytes: 100_000 };
        const { remote } = setup(seededFaults(seed, rates), { random: generator(seed) });
        const lengthBytes = Math.min(wantedBytes, content.length - offsetBytes);
        const sink = new CollectingSink({ bufferBytes: (call) => 1 + ((call * 7919) % 70_000) });
        const outcome = await readAll(remote, 'file', { offsetBytes, lengthBytes }, sink).then(
          () => 'ok',
          (error: { code: string }) => error.code,
        );
        const passed = sink.bytes();
        assert.ok(passed.equals(content.subarray(offsetBytes, offsetBytes + passed.length)));
        if (outcome === 'ok') assert.equal(passed.length, lengthBytes);
        else assert.equal(outcome, 'ESTALE');
      },
    ),
    { numRuns: 150 },
  );
});

void test('a name that the remote itself lists twice is let through once, and told', async () => {
  const listsTwice = new (class extends MemoryRemote {
    override async *list(): AsyncGenerator<ListingBatch> {
      const [a, b] = ['a', 'b'].map((name) => ({ name, kind: 'directory' as const }));
      assert.ok(a && b);
      yield { objects: [a, b], skipped: [] };
      yield { objects: [b], skipped: [] };
    }
  })();
  const { objects, skipped } = await listAll(retryingRemote(listsTwice), '');
  assert.deepEqual([...objects.keys()], ['a', 'b']);
  assert.deepEqual(
    skipped.map(({ raw, why }) => `${raw}: ${why}`),
    ['b: the name is listed twice'],
  );
});
