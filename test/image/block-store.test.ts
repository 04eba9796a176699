/** Parts of a remote image in memory: in whatever order, the bytes are those of the source, and few are kept. */
import { once } from 'node:events';
import { MessageChannel, Worker } from 'node:worker_threads';
import { ChannelState, newChannelMemory } from '../../src/image/remote-device/channel.ts';
import { ChannelDevice } from '../../src/image/remote-device/device.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { ebbError } from '../../src/base/errors.ts';
import { BlockStore } from '../../src/image/remote-device/block-store.ts';
import { patternBytes } from '../support/pattern.ts';

const mebibyte = 1024 * 1024;
const sizeBytes = 12 * mebibyte + 12_345;
const source = patternBytes(3, sizeBytes);
const runs = Number(process.env['EBB_STORE_RUNS'] ?? 30);

const asked = fc.record({
  offset: fc.nat(sizeBytes - 1),
  size: fc.oneof(fc.nat(5000), fc.constantFrom(65_536, 300_000, mebibyte)),
  ahead: fc.boolean(),
  fails: fc.integer({ min: 0, max: 9 }).map((each) => each === 0),
});

test('reads, reads ahead and failures in any order give the bytes of the source or the error', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(asked, { maxLength: 40 }), async (requests) => {
      let failing = false;
      let largest = 0;
      const store = new BlockStore({
        sizeBytes,
        cacheMaxBytes: 2 * mebibyte,
        fetch: async (offsetBytes, into) => {
          const fails = failing;
          largest = Math.max(largest, into.length);
          await setImmediate();
          if (fails) throw ebbError('ECONNRESET', 'gone');
          into.set(source.subarray(offsetBytes, offsetBytes + into.length));
        },
      });
      for (const { offset, size, ahead, fails } of requests) {
        failing = fails;
        const length = Math.min(size, sizeBytes - offset);
        if (ahead) {
          store.prefetch([{ offsetBytes: offset, sizeBytes: length + mebibyte }]);
          continue;
        }
        const into = new Uint8Array(length);
        try {
          await store.read(offset, into);
        } catch (error) {
          // What was on its way already may have failed, too: who asks again gets it.
          assert.equal((error as { code?: string }).code, 'ECONNRESET');
          failing = false;
          await setImmediate();
          await store.read(offset, into);
        }
        assert.ok(source.subarray(offset, offset + length).equals(into));
      }
      assert.ok(largest <= mebibyte);
    }),
    { numRuns: runs },
  );
});

test('who was refused a part of a read finds nothing of the rest in his buffer later', async () => {
  const late = Promise.withResolvers<undefined>();
  const store = new BlockStore({
    sizeBytes,
    fetch: async (offsetBytes, into) => {
      if (offsetBytes === 0) throw ebbError('EIO', 'gone');
      await late.promise;
      into.set(source.subarray(offsetBytes, offsetBytes + into.length));
    },
  });
  // A request of its own.
  store.prefetch([{ offsetBytes: 0, sizeBytes: 1 }]);
  const into = new Uint8Array(2 * 65_536);
  await assert.rejects(store.read(0, into), { code: 'EIO' });
  into.fill(7);
  late.resolve(undefined);
  const byte = new Uint8Array(1);
  await store.read(65_536, byte);
  assert.equal(byte[0], source[65_536]);
  assert.ok(into.every((each) => each === 7));
});

test('content in order is fetched before it is asked for, metadata is fetched once', async () => {
  let fetched = 0;
  const store = new BlockStore({
    sizeBytes,
    fetch: async (offsetBytes, into) => {
      fetched += into.length;
      into.set(source.subarray(offsetBytes, offsetBytes + into.length));
      await setImmediate();
    },
  });
  const small = new Uint8Array(4096);
  for (let round = 0; round < 100; round += 1) await store.read(5000 + round, small);
  assert.equal(fetched, 65_536);
  const piece = new Uint8Array(mebibyte);
  await store.read(2 * mebibyte, piece);
  assert.equal(fetched, 65_536 + mebibyte);
  await store.read(3 * mebibyte, piece);
  const ahead = fetched;
  assert.ok(ahead >= 65_536 + 5 * mebibyte, 'the window is on its way');
  await store.read(4 * mebibyte, piece);
  assert.ok(fetched - ahead <= mebibyte, 'nothing is fetched twice');
});

const lateNotifier = `
const { asked, answered, state } = require('node:worker_threads').workerData;
const words = new Int32Array(state);
while (Atomics.load(words, 0) !== asked);
// Each of them is one of an answer before.
for (let left = 100_000; left > 0; left -= 1) Atomics.notify(words, 0);
Atomics.store(words, 0, answered);
Atomics.notify(words, 0);
`;

test('a notification that comes late is no answer to the next question', async () => {
  const memory = newChannelMemory(1000);
  const { port1, port2 } = new MessageChannel();
  Atomics.store(new Int32Array(memory.state), 0, ChannelState.answered);
  const { asked, answered } = ChannelState;
  const workerData = { asked, answered, state: memory.state };
  const worker = new Worker(lateNotifier, { eval: true, workerData });
  try {
    await once(worker, 'online');
    new ChannelDevice(memory, port2).read(0, new Uint8Array(10));
  } finally {
    port1.close();
    await worker.terminate();
  }
});
