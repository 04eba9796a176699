/** Main hears of what is read in time to read ahead, and not more often than it has to. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { consumedStepBytes, Consumption } from '../../src/native/consumption.ts';
import { StreamFinder } from '../../src/native/stream-finder.ts';
import { ReadStream } from '../../src/recall/readahead.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const chunkBytes = 256 * KiB;

/** Reads in order, each part of which arrives as soon as it is asked for. Counts reads that had to wait. */
function readInOrder(sizeBytes: number, readBytes: number, windowBytes: number, stepBytes: number) {
  const limits = { readAheadInitialBytes: MiB, readAheadMaxBytes: windowBytes };
  const stream = new ReadStream(limits, chunkBytes);
  const consumption = new Consumption(stepBytes);
  let hereBytes = 0;
  let waits = 0;
  let reports = 0;
  const heard = (offsetBytes: number, countBytes: number): void => {
    const { ahead } = stream.observe(offsetBytes, countBytes, sizeBytes);
    if (ahead !== undefined) hereBytes = ahead.toBytes;
  };
  for (let at = 0; at < sizeBytes; at += readBytes) {
    const countBytes = Math.min(readBytes, sizeBytes - at);
    if (at + countBytes > hereBytes) {
      waits += 1;
      hereBytes = Math.ceil((at + countBytes) / chunkBytes) * chunkBytes;
      heard(at, countBytes);
      continue;
    }
    const consumed = consumption.served(at, countBytes);
    if (consumed === undefined) continue;
    reports += 1;
    heard(consumed.offsetBytes, consumed.countBytes);
  }
  return { waits, reports };
}

test('who reads in order waits at the beginning alone, however large his reads and the window are', () => {
  const readKiB = fc.constantFrom(4, 64, 128, 256, 512, 1024);
  const windowMiB = fc.constantFrom(8, 16, 32, 64, 256);
  fc.assert(
    fc.property(readKiB, windowMiB, (reads, window) => {
      const stepBytes = consumedStepBytes(window * MiB);
      const { waits } = readInOrder(256 * MiB, reads * KiB, window * MiB, stepBytes);
      assert.ok(waits <= 4, `${waits} reads waited`);
    }),
  );
});

test('with the default window a GiB takes 264 messages, whatever the reads are', () => {
  for (const readBytes of [128 * KiB, MiB]) {
    const { reports } = readInOrder(1024 * MiB, readBytes, 64 * MiB, consumedStepBytes(64 * MiB));
    assert.ok(reports > 200 && reports <= 270, String(reports));
  }
});

test('what is told goes on where it ended: for main it is one stream', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 6 * MiB }), (readBytes) => {
      const consumption = new Consumption(consumedStepBytes(64 * MiB));
      const streams = new StreamFinder(() => assert.fail('a stream was given up'));
      const ids = new Set<number>();
      let endBytes = 0;
      for (let read = 0; read < 2_000 && endBytes < 128 * MiB; read += 1) {
        const consumed = consumption.served(read * readBytes, readBytes);
        if (consumed === undefined) continue;
        assert.equal(consumed.offsetBytes, endBytes, 'nothing is left out or told twice');
        endBytes = consumed.offsetBytes + consumed.countBytes;
        ids.add(streams.of(1, 1, consumed.offsetBytes, consumed.countBytes));
      }
      assert.ok(ids.size <= 1);
    }),
  );
});

test('two readers of one file are told of each with his own range', () => {
  const consumption = new Consumption(consumedStepBytes(64 * MiB));
  let reports = 0;
  for (let at = 0; at < 64 * MiB; at += 128 * KiB) {
    for (const base of [0, 512 * MiB]) {
      const consumed = consumption.served(base + at, 128 * KiB);
      if (consumed === undefined) continue;
      assert.deepEqual(consumed, { offsetBytes: base + at, countBytes: 128 * KiB });
      reports += 1;
    }
  }
  assert.equal(reports, 128, 'one for each MiB, because neither goes on');
});
