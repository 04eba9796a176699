/** The limiting and the tracing wrapper, and the token bucket. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { faultyRemote } from '../../src/remote/fault.ts';
import { limitedRemote } from '../../src/remote/limit.ts';
import { MemoryRemote } from '../../src/remote/memory/memory-remote.ts';
import { TokenBucket } from '../../src/remote/token-bucket.ts';
import { tracedRemote } from '../../src/remote/trace.ts';
import type { RequestTrace } from '../../src/remote/trace.ts';
import { CollectingSink, noSignal, readAll, rejectsWithReason } from '../conformance/collect.ts';

void test('the token bucket keeps the rate, allows a small burst, forgets idle time', () => {
  const bucket = new TokenBucket(1_000_000);
  assert.equal(bucket.take(100_000, 0), 0);
  assert.equal(bucket.take(50_000, 0), 50);
  assert.equal(bucket.take(50_000, 50), 50);
  assert.equal(bucket.take(100_000, 10_000), 0);
  assert.equal(bucket.take(100_000, 10_000), 100);
});

void test('bytes per second over concurrent reads', async () => {
  const memory = new MemoryRemote();
  memory.putFile('file', Buffer.alloc(200_000));
  const remote = limitedRemote(memory, { bytesPerSecond: 2_000_000 });
  const startMs = performance.now();
  await Promise.all([readAll(remote, 'file'), readAll(remote, 'file'), readAll(remote, 'file')]);
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs >= 190, `600 kB at 2 MB/s took ${tookMs} ms`);
});

void test('so many requests at a time; those who wait can give up', async () => {
  const memory = new MemoryRemote();
  memory.putFile('file', Buffer.alloc(10));
  let active = 0;
  let activeMax = 0;
  const inner = tracedRemote(memory, { onRequest: () => (active -= 1) });
  const counting = faultyRemote(inner, () => {
    active += 1;
    activeMax = Math.max(activeMax, active);
    return { kind: 'delay', delayMs: 2 };
  });
  const remote = limitedRemote(counting, { requestsMax: 3 });
  await Promise.all(Array.from({ length: 20 }, () => remote.stat('file', { signal: noSignal })));
  assert.equal(activeMax, 3);

  const busy = limitedRemote(
    faultyRemote(memory, () => ({ kind: 'stall' })),
    { requestsMax: 1 },
  );
  const stopAll = new AbortController();
  const stuck = busy.stat('file', { signal: stopAll.signal });
  const impatient = new AbortController();
  const reason = new Error('impatient');
  const waiting = busy.stat('file', { signal: impatient.signal });
  impatient.abort(reason);
  await rejectsWithReason(waiting, reason);
  stopAll.abort(reason);
  await rejectsWithReason(stuck, reason);
});

void test('a listing leaves room for requests between its batches', async () => {
  const memory = new MemoryRemote({ batchObjectsMax: 1 });
  for (const name of ['a', 'b', 'c']) memory.putFile(name, Buffer.of(1));
  const remote = limitedRemote(memory, { requestsMax: 1 });
  const sizes: (number | undefined)[] = [];
  for await (const { objects } of remote.list('', { signal: noSignal })) {
    for (const { name } of objects) {
      sizes.push((await remote.stat(name, { signal: noSignal })).sizeBytes);
    }
  }
  assert.deepEqual(sizes, [1, 1, 1]);
});

void test('a read whose receiver waits leaves room for one stat more, which making room may need', async () => {
  const memory = new MemoryRemote();
  for (const name of ['one', 'two']) memory.putFile(name, Buffer.alloc(10));
  for (const requestsMax of [1, 2]) {
    const remote = limitedRemote(memory, { requestsMax });
    const proofs: (number | undefined)[] = [];
    const prove = async (): Promise<void> => {
      // Several at a time: they take turns.
      const asked = ['one', 'two'].map((name) => remote.stat(name, { signal: noSignal }));
      for (const { sizeBytes } of await Promise.all(asked)) proofs.push(sizeBytes);
    };
    const early = remote.stat('one', { signal: noSignal });
    const reads = ['one', 'two', 'one'].map((name) =>
      remote.read(
        name,
        { head: () => undefined, buffer: () => new Uint8Array(10), filled: prove },
        { offsetBytes: 0, lengthBytes: 10, version: undefined, signal: noSignal },
      ),
    );
    await Promise.all([early, ...reads]);
    assert.deepEqual(proofs, [10, 10, 10, 10, 10, 10]);
  }
});

void test('a stat that waits for either place gives up with its signal, and loses none', async () => {
  const memory = new MemoryRemote();
  memory.putFile('file', Buffer.alloc(10));
  let active = 0;
  let activeMax = 0;
  const go = Promise.withResolvers<void>();
  const inner = tracedRemote(memory, { onRequest: () => (active -= 1) });
  const counting = faultyRemote(inner, () => {
    active += 1;
    activeMax = Math.max(activeMax, active);
    return { kind: 'delay', delayMs: 2 };
  });
  const remote = limitedRemote(counting, { requestsMax: 1 });
  const reading = remote.read(
    'file',
    { head: () => undefined, buffer: () => new Uint8Array(10), filled: () => go.promise },
    { offsetBytes: 0, lengthBytes: 10, version: undefined, signal: noSignal },
  );
  const stop = new AbortController();
  const reason = new Error('stop');
  const stats = Array.from({ length: 20 }, (_, index) =>
    remote.stat('file', { signal: index % 2 === 0 ? noSignal : stop.signal }),
  );
  const outcomes = Promise.allSettled(stats);
  stop.abort(reason);
  const settled = await outcomes;
  assert.ok(settled.every(({ status }, index) => index % 2 === 1 || status === 'fulfilled'));
  assert.ok(settled.some(({ status }) => status === 'rejected'));
  go.resolve();
  await reading;
  assert.equal(activeMax, 2);
  await Promise.all(Array.from({ length: 5 }, () => remote.stat('file', { signal: noSignal })));
});

void test('every request is traced once, with its outcome', async () => {
  const memory = new MemoryRemote({ batchObjectsMax: 1 });
  memory.putFile('file', Buffer.alloc(1000));
  memory.putFile('other', Buffer.alloc(1));
  const traces: RequestTrace[] = [];
  const remote = tracedRemote(memory, { onRequest: (trace) => traces.push(trace) });
  await readAll(remote, 'file', { offsetBytes: 10, lengthBytes: 100 });
  await assert.rejects(remote.stat('absent', { signal: noSignal }));
  for await (const batch of remote.list('', { signal: noSignal })) {
    assert.equal(batch.objects.length, 1);
    break;
  }
  const controller = new AbortController();
  const sink = new CollectingSink({ onFilled: () => controller.abort(new Error('stop')) });
  await assert.rejects(readAll(remote, 'file', { signal: controller.signal }, sink));
  assert.deepEqual(
    traces.map((trace) => [trace.call, trace.key, trace.bytes, trace.objects, trace.outcome]),
    [
      ['read', 'file', 100, 0, 'ok'],
      ['stat', 'absent', 0, 0, 'ENOENT'],
      ['list', '', 0, 1, 'left'],
      ['read', 'file', 1000, 0, 'aborted'],
    ],
  );
  assert.deepEqual([traces[0]?.offsetBytes, traces[0]?.lengthBytes], [10, 100]);
});
