/** Who gets read-ahead and who does not; how large a request is. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Pace } from '../../src/recall/pace.ts';
import { ReadStream } from '../../src/recall/readahead.ts';
import { generator } from '../../src/remote/seeded-faults.ts';
import { chunk, KiB, MiB } from './support.ts';

const limits = { readAheadInitialBytes: 1 * MiB, readAheadMaxBytes: 64 * MiB };
const GiB = 1024 * MiB;

test('a sequential reader gets a window that doubles to its maximum and stays ahead', () => {
  const stream = new ReadStream(limits, chunk);
  let aheadEnd = 0;
  const windows = new Set<number>();
  for (let at = 0; at < 512 * MiB; at += 128 * KiB) {
    const { ahead, seeked } = stream.observe(at, 128 * KiB, GiB);
    assert.equal(seeked, false);
    windows.add(stream.windowBytes);
    if (ahead === undefined) continue;
    assert.ok(ahead.fromBytes >= aheadEnd, 'nothing is read ahead twice');
    assert.ok(ahead.toBytes > ahead.fromBytes);
    aheadEnd = ahead.toBytes;
    assert.ok(aheadEnd - at <= 64 * MiB + 128 * KiB);
  }
  assert.deepEqual(
    [...windows],
    [1, 2, 4, 8, 16, 32, 64].map((size) => size * MiB),
  );
});

test('read-ahead never passes the end of the file', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 3 * MiB }),
      fc.constantFrom(4096, 65_536, MiB),
      (size, step) => {
        const stream = new ReadStream(limits, chunk);
        for (let at = 0; at < size; at += step) {
          const { ahead } = stream.observe(at, Math.min(step, size - at), size);
          if (ahead !== undefined) {
            assert.ok(ahead.toBytes <= size && ahead.fromBytes < ahead.toBytes);
          }
        }
      },
    ),
  );
});

test('the unordered READs of the kernel own read-ahead are one stream', () => {
  const random = generator(7);
  const stream = new ReadStream(limits, chunk);
  // Each READ overtakes at most three others.
  const reads = Array.from({ length: 400 }, (_, index) => ({ index, place: index + random() * 4 }))
    .sort((a, b) => a.place - b.place)
    .map(({ index }) => index * 128 * KiB);
  let seeks = 0;
  for (const at of reads) if (stream.observe(at, 128 * KiB, GiB).seeked) seeks += 1;
  assert.equal(seeks, 0);
  assert.ok(stream.windowBytes >= 16 * MiB);
});

test('a random reader gets exactly its chunks', () => {
  const random = generator(11);
  const stream = new ReadStream(limits, chunk);
  let fired = 0;
  for (let index = 0; index < 5000; index += 1) {
    const at = Math.floor((random() * GiB) / 4096) * 4096;
    if (stream.observe(at, 4096, GiB).ahead !== undefined) fired += 1;
  }
  assert.equal(fired, 0);
});

test('strided, backward and repeated reads get nothing', () => {
  for (const step of [MiB, -128 * KiB, 0]) {
    const stream = new ReadStream(limits, chunk);
    for (let index = 0; index < 200; index += 1) {
      const at = 512 * MiB + index * step;
      assert.equal(stream.observe(at, 4096, GiB).ahead, undefined, `step ${step}`);
    }
  }
});

test('a seek collapses the window, and the stream proves itself again', () => {
  const stream = new ReadStream(limits, chunk);
  for (let at = 0; at < 8 * MiB; at += 128 * KiB) stream.observe(at, 128 * KiB, GiB);
  assert.ok(stream.windowBytes > MiB);
  assert.deepEqual(stream.observe(700 * MiB, 128 * KiB, GiB), { ahead: undefined, seeked: false });
  assert.deepEqual(stream.observe(700 * MiB + 128 * KiB, 128 * KiB, GiB), {
    ahead: { fromBytes: 700 * MiB + 256 * KiB, toBytes: 701 * MiB + 256 * KiB },
    seeked: true,
  });
});

test('one read elsewhere (an index at the end) does not end a stream', () => {
  const stream = new ReadStream(limits, chunk);
  for (let at = 0; at < 8 * MiB; at += 128 * KiB) stream.observe(at, 128 * KiB, GiB);
  const { windowBytes } = stream;
  stream.observe(GiB - 4096, 4096, GiB);
  assert.equal(stream.observe(8 * MiB, 128 * KiB, GiB).seeked, false);
  assert.equal(stream.windowBytes >= windowBytes, true);
});

test('who reads 4 KiB at the start of a file does not cause read-ahead; going on does', () => {
  const stream = new ReadStream(limits, chunk);
  assert.equal(stream.observe(0, 4096, GiB).ahead, undefined);
  assert.ok(stream.observe(256 * KiB, 4096, GiB).ahead !== undefined);
});

test('what could not be planned is asked for again', () => {
  const stream = new ReadStream(limits, chunk);
  assert.equal(stream.observe(0, 128 * KiB, GiB).ahead?.toBytes, MiB + 128 * KiB);
  stream.plannedTo(256 * KiB);
  assert.equal(stream.observe(128 * KiB, 128 * KiB, GiB).ahead?.fromBytes, 256 * KiB);
});

test('no read-ahead when its maximum is 0', () => {
  const stream = new ReadStream({ ...limits, readAheadMaxBytes: 0 }, chunk);
  for (let at = 0; at < 8 * MiB; at += MiB) {
    assert.equal(stream.observe(at, MiB, GiB).ahead, undefined);
  }
});

test('requests grow with the rate and the latency of the remote, within the limits', () => {
  const pace = new Pace({ rangeMinBytes: MiB, rangeMaxBytes: 8 * MiB });
  assert.equal(pace.pieceBytes(), MiB, 'nothing known');
  pace.record({ firstByteMs: 1, bodyMs: 1000, bodyBytes: MiB });
  assert.equal(pace.pieceBytes(), MiB, 'slow');
  for (let index = 0; index < 50; index += 1) {
    pace.record({ firstByteMs: 1, bodyMs: 10, bodyBytes: 4 * MiB });
  }
  assert.equal(pace.pieceBytes(), 8 * MiB, 'fast');
  const far = new Pace({ rangeMinBytes: MiB, rangeMaxBytes: 8 * MiB });
  far.record({ firstByteMs: 200, bodyMs: 200, bodyBytes: MiB });
  assert.ok(far.pieceBytes() > 3.9 * MiB, 'the body outlasts the latency');
  far.record({ firstByteMs: 200, bodyMs: 0, bodyBytes: 4096 });
  assert.ok(far.pieceBytes() < 8 * MiB, 'tiny bodies say nothing of the rate');
});
