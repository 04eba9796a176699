/** Conformance of `read`: exactly the bytes asked for, of one version, or an error. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { patternBytes } from '../support/pattern.ts';
import { CollectingSink, noSignal, readAll, rejectsWith, rejectsWithReason } from './collect.ts';
import type { ConformanceOptions, MakeFixture, RemoteFixture } from './remote.ts';

const chunkBytes = 256 * 1024;
const defaultBigFileBytes = 9 * 1024 * 1024 + 3;

export function readingConformance(makeFixture: MakeFixture, options: ConformanceOptions): void {
  void describe('read', () => {
    const sizeBytes = options.bigFileBytes ?? defaultBigFileBytes;
    const content = patternBytes(1, sizeBytes);
    let fixture: RemoteFixture;
    before(async () => {
      fixture = await makeFixture();
      await fixture.put('big', content);
      await fixture.put('empty', Buffer.alloc(0));
    });
    after(async () => fixture[Symbol.asyncDispose]());

    const expectRange = async (
      offsetBytes: number,
      lengthBytes: number | undefined,
    ): Promise<void> => {
      const { bytes } = await readAll(fixture.remote, 'big', { offsetBytes, lengthBytes });
      const end = lengthBytes === undefined ? sizeBytes : offsetBytes + lengthBytes;
      assert.ok(bytes.equals(content.subarray(offsetBytes, end)), `${offsetBytes}+${lengthBytes}`);
    };

    void test('a whole file, with what its head says', async () => {
      const attributes = await fixture.remote.stat('big', { signal: noSignal });
      const { bytes, head } = await readAll(fixture.remote, 'big');
      assert.ok(bytes.equals(content));
      assert.equal(head?.kind, 'file');
      assert.equal(head?.sizeBytes, sizeBytes);
      assert.equal(head?.version, attributes.version);
      assert.deepEqual(head?.mtime, attributes.mtime);
    });

    void test('a whole file of the version that stat gave', async () => {
      const { version } = await fixture.remote.stat('big', { signal: noSignal });
      const { bytes, head } = await readAll(fixture.remote, 'big', { version });
      assert.ok(bytes.equals(content));
      assert.equal(head?.version, version);
    });

    void test('an empty file', async () => {
      const { version } = await fixture.remote.stat('empty', { signal: noSignal });
      assert.equal((await readAll(fixture.remote, 'empty', { version })).bytes.length, 0);
      assert.equal((await readAll(fixture.remote, 'empty')).bytes.length, 0);
    });

    void test('ranges: one byte, chunk borders, unaligned, more than 4 MiB, the end', async () => {
      await expectRange(0, 1);
      await expectRange(1, 1);
      await expectRange(sizeBytes - 1, 1);
      await expectRange(0, chunkBytes);
      await expectRange(chunkBytes, chunkBytes);
      await expectRange(chunkBytes - 1, 2);
      await expectRange(12_345, 67_891);
      await expectRange(3, 4 * 1024 * 1024 + 5);
      await expectRange(0, sizeBytes);
      await expectRange(sizeBytes - 10, undefined);
      await expectRange(chunkBytes * 3 + 7, undefined);
    });

    void test('nothing at the end and nothing in the middle are nothing', async () => {
      await expectRange(sizeBytes, 0);
      await expectRange(0, 0);
      await expectRange(5000, 0);
    });

    void test('beyond the end is an error, and no byte is made up', async () => {
      for (const [offset, length] of [
        [sizeBytes, 1],
        [sizeBytes - 5, 10],
        [sizeBytes + 1000, 10],
        [0, sizeBytes + 1],
      ] as const) {
        const sink = new CollectingSink();
        const reading = readAll(
          fixture.remote,
          'big',
          { offsetBytes: offset, lengthBytes: length },
          sink,
        );
        await rejectsWith(reading, 'EIO', 'EINVAL');
        const passed = sink.bytes();
        assert.ok(passed.equals(content.subarray(offset, offset + passed.length)));
      }
    });

    void test('what is no range is refused', async () => {
      for (const [offset, length] of [
        [-1, 5],
        [0, -1],
        [0.5, 1],
        [Number.NaN, 1],
        [0, Number.NaN],
      ] as const) {
        const reading = readAll(fixture.remote, 'big', {
          offsetBytes: offset,
          lengthBytes: length,
        });
        await rejectsWith(reading, 'EINVAL');
      }
    });

    void test('any range equals the source', async () => {
      const range = fc
        .tuple(fc.nat(sizeBytes), fc.nat(sizeBytes))
        .map(([one, other]) => ({ start: Math.min(one, other), end: Math.max(one, other) }));
      const bufferSizes = fc.array(fc.integer({ min: 1, max: 300_000 }), {
        minLength: 1,
        maxLength: 5,
      });
      await fc.assert(
        fc.asyncProperty(range, bufferSizes, async ({ start, end }, sizes) => {
          const sink = new CollectingSink({
            bufferBytes: (call) =>
              Math.max(end - start > 100_000 ? 4096 : 1, sizes[call % sizes.length] ?? 1),
          });
          const { bytes } = await readAll(
            fixture.remote,
            'big',
            { offsetBytes: start, lengthBytes: end - start },
            sink,
          );
          assert.ok(bytes.equals(content.subarray(start, end)));
        }),
        { numRuns: options.randomRanges ?? 60 },
      );
    });

    void test('buffers of odd sizes', async () => {
      for (const size of [1, 2, 3, 7, 4095, 4097, 65_537, 1_000_003]) {
        const lengthBytes = Math.min(sizeBytes, size < 10 ? 2000 : 1_500_000);
        const sink = new CollectingSink({ bufferBytes: () => size });
        const { bytes } = await readAll(
          fixture.remote,
          'big',
          { offsetBytes: 11, lengthBytes },
          sink,
        );
        assert.ok(bytes.equals(content.subarray(11, 11 + lengthBytes)), `buffers of ${size} bytes`);
      }
    });

    void test('another version is ESTALE before the first byte', async () => {
      await fixture.put('moving', patternBytes(2, 1000));
      const { version } = await fixture.remote.stat('moving', { signal: noSignal });
      await readAll(fixture.remote, 'moving', { version, lengthBytes: 500 });
      await fixture.put('moving', patternBytes(3, 1001));
      const sink = new CollectingSink();
      await rejectsWith(
        readAll(fixture.remote, 'moving', { version, offsetBytes: 500 }, sink),
        'ESTALE',
      );
      assert.equal(sink.totalBytes, 0);
      const now = await readAll(fixture.remote, 'moving');
      assert.ok(now.bytes.equals(patternBytes(3, 1001)));
      assert.notEqual(now.head?.version, version);
    });

    void test('same size, other bytes: still ESTALE', async (context) => {
      if (!fixture.features.exactVersions) return context.skip('the origin cannot tell');
      await fixture.put('sly', patternBytes(4, 1000));
      const { version } = await fixture.remote.stat('sly', { signal: noSignal });
      await fixture.put('sly', patternBytes(5, 1000));
      await rejectsWith(readAll(fixture.remote, 'sly', { version }), 'ESTALE');
    });

    void test('a file replaced during a read: old bytes or ESTALE, never a mix', async () => {
      const old = patternBytes(6, sizeBytes);
      await fixture.put('swapped', old);
      const { version } = await fixture.remote.stat('swapped', { signal: noSignal });
      const sink = new CollectingSink({
        onFilled: async (_count, total) => {
          if (total <= 65_536) await fixture.put('swapped', patternBytes(7, sizeBytes + 1));
        },
      });
      await readAll(fixture.remote, 'swapped', { version }, sink).catch((error: { code: string }) =>
        assert.equal(error.code, 'ESTALE'),
      );
      const passed = sink.bytes();
      assert.ok(passed.equals(old.subarray(0, passed.length)));
    });

    void test('a deleted file is ENOENT', async () => {
      await fixture.put('doomed', Buffer.from('here'));
      const { version } = await fixture.remote.stat('doomed', { signal: noSignal });
      await fixture.remove('doomed');
      await rejectsWith(readAll(fixture.remote, 'doomed', { version }), 'ENOENT');
    });

    void test('a directory cannot be read', async () => {
      await fixture.put('folder/file', Buffer.from('f'));
      const sink = new CollectingSink();
      await rejectsWith(readAll(fixture.remote, 'folder', {}, sink), 'EISDIR', 'EIO', 'ENOENT');
      assert.equal(sink.totalBytes, 0);
    });

    void test('what the sink throws comes back as it is, and nothing follows', async () => {
      const refusal = new Error('not this one');
      const atHead = new CollectingSink({
        onHead: () => {
          throw refusal;
        },
      });
      await rejectsWithReason(readAll(fixture.remote, 'big', {}, atHead), refusal);
      assert.equal(atHead.totalBytes, 0);
      const later = new CollectingSink({ onFilled: () => Promise.reject(refusal) });
      await rejectsWithReason(readAll(fixture.remote, 'big', {}, later), refusal);
      assert.ok(later.totalBytes <= 65_536);
      assert.ok((await readAll(fixture.remote, 'big', { lengthBytes: 100 })).bytes.length === 100);
    });

    void test('sizes and offsets above 4 GiB', async (context) => {
      if (!fixture.features.hugeFiles || fixture.putSparse === undefined) {
        return context.skip('the origin cannot make such a file quickly');
      }
      const hugeBytes = 5 * 1024 ** 3 + 7;
      const tail = patternBytes(8, 5000);
      await fixture.putSparse('huge', hugeBytes, tail);
      const { sizeBytes: seen, version } = await fixture.remote.stat('huge', { signal: noSignal });
      assert.equal(seen, hugeBytes);
      const offsetBytes = hugeBytes - tail.length - 3000;
      const { bytes } = await readAll(fixture.remote, 'huge', {
        offsetBytes,
        lengthBytes: 8000,
        version,
      });
      assert.ok(bytes.equals(Buffer.concat([Buffer.alloc(3000), tail])));
      const last = await readAll(fixture.remote, 'huge', { offsetBytes: hugeBytes - 1, version });
      assert.ok(last.bytes.equals(tail.subarray(-1)));
      const middle = await readAll(fixture.remote, 'huge', {
        offsetBytes: 2 ** 32 - 5,
        lengthBytes: 10,
      });
      assert.ok(middle.bytes.equals(Buffer.alloc(10)), 'a hole reads as zeros');
    });
  });
}
