/** Conformance under load: many calls at once, slow receivers, callers that give up, close. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { patternBytes } from '../support/pattern.ts';
import { CollectingSink, listAll, noSignal, readAll, rejectsWithReason } from './collect.ts';
import type { ConformanceOptions, MakeFixture, RemoteFixture } from './remote.ts';

export function concurrencyConformance(
  makeFixture: MakeFixture,
  options: ConformanceOptions,
): void {
  void describe('concurrency and giving up', () => {
    const sizeBytes = options.bigFileBytes ?? 9 * 1024 * 1024 + 3;
    const content = patternBytes(21, sizeBytes);
    let fixture: RemoteFixture;
    before(async () => {
      fixture = await makeFixture();
      await fixture.put('big', content);
      for (let index = 0; index < 20; index += 1) {
        await fixture.put(`some/file-${index}`, patternBytes(index, 1000 + index));
      }
    });
    after(async () => fixture[Symbol.asyncDispose]());

    void test('32 reads at once, with stats and listings between them', async () => {
      const { version } = await fixture.remote.stat('big', { signal: noSignal });
      const work = Array.from({ length: 32 }, async (_, index) => {
        const offsetBytes = (index * 7_654_321) % (sizeBytes - 1000);
        const lengthBytes = Math.min(sizeBytes - offsetBytes, 100_000 + index * 10_007);
        const { bytes } = await readAll(fixture.remote, 'big', {
          offsetBytes,
          lengthBytes,
          version,
        });
        assert.ok(bytes.equals(content.subarray(offsetBytes, offsetBytes + lengthBytes)));
        const key = `some/file-${index % 20}`;
        const small = await readAll(fixture.remote, key);
        assert.ok(small.bytes.equals(patternBytes(index % 20, 1000 + (index % 20))));
        assert.equal(
          (await fixture.remote.stat(key, { signal: noSignal })).sizeBytes,
          1000 + (index % 20),
        );
        assert.equal((await listAll(fixture.remote, 'some')).objects.size, 20);
      });
      await Promise.all(work);
    });

    void test('a slow receiver holds the remote back', async () => {
      let inside = 0;
      const sink = new CollectingSink({
        bufferBytes: () => 50_000,
        onFilled: async () => {
          inside += 1;
          assert.equal(inside, 1, 'one filled at a time');
          await sleep(2);
          inside -= 1;
        },
      });
      const { bytes } = await readAll(fixture.remote, 'big', { lengthBytes: 2_000_000 }, sink);
      assert.ok(bytes.equals(content.subarray(0, 2_000_000)));
    });

    void test('aborting during a read rejects before its end, with the reason, and nothing follows', async () => {
      const controller = new AbortController();
      const reason = new Error('gave up');
      const sink = new CollectingSink({
        onFilled: async (_count, total) => {
          if (total > 100_000 && !controller.signal.aborted) {
            controller.abort(reason);
            await sleep(5);
          }
        },
      });
      const reading = readAll(fixture.remote, 'big', { signal: controller.signal }, sink);
      await rejectsWithReason(reading, reason);
      assert.ok(sink.totalBytes < sizeBytes);
      await sleep(20);
      const passed = sink.bytes();
      assert.ok(passed.equals(content.subarray(0, passed.length)));
    });

    void test('aborting at any moment leaves the remote usable', async () => {
      for (let delayMs = 0; delayMs < 8; delayMs += 1) {
        const controller = new AbortController();
        const reason = new Error(`after ${delayMs} ms`);
        const reading = readAll(fixture.remote, 'big', { signal: controller.signal });
        const outcome = reading.then(
          (all) => assert.ok(all.bytes.equals(content)),
          (error: unknown) => assert.equal(error, reason),
        );
        if (delayMs > 0) await sleep(delayMs);
        controller.abort(reason);
        await outcome;
      }
      const { bytes } = await readAll(fixture.remote, 'big', { offsetBytes: 5, lengthBytes: 50 });
      assert.ok(bytes.equals(content.subarray(5, 55)));
    });

    void test('a call that was aborted before it began does nothing', async () => {
      const reason = new Error('never');
      const sink = new CollectingSink();
      const reading = readAll(fixture.remote, 'big', { signal: AbortSignal.abort(reason) }, sink);
      await rejectsWithReason(reading, reason);
      assert.equal(sink.totalBytes, 0);
    });

    // The last one: the remote is of no use afterwards.
    void test('close makes calls under way reject', async () => {
      const sink = new CollectingSink({ bufferBytes: () => 4096, onFilled: () => sleep(1) });
      const reading = readAll(fixture.remote, 'big', {}, sink);
      const rejected = assert.rejects(reading);
      await sleep(20);
      await fixture.remote.close();
      await rejected;
      await assert.rejects(fixture.remote.stat('big', { signal: noSignal }));
    });
  });
}
