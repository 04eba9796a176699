/** The residency bitmap against a plain array of booleans, and its stored form. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';

import fc from 'fast-check';

import { Residency, chunkBytesFor, chunkCountMax } from '../../src/tree/residency.ts';

test('sizes at the edges', () => {
  const empty = Residency.create(0);
  assert.equal(empty.chunkCount, 0);
  assert.equal(empty.complete, true);
  assert.equal(empty.has(0, 100), true);
  assert.deepEqual(empty.missing(0, 100), []);
  assert.equal(empty.residentBytes, 0);

  const one = Residency.create(1);
  assert.equal(one.complete, false);
  assert.equal(one.has(0, 0), true);
  assert.equal(one.has(0, 1), false);
  assert.equal(one.has(1, 100), true, 'nothing lies behind the end');
  assert.deepEqual(one.missing(0, 5), [{ first: 0, count: 1 }]);
  one.markResident(0, 1);
  assert.equal(one.residentBytes, 1);
  assert.equal(one.complete, true);

  const huge = Residency.create(Number.MAX_SAFE_INTEGER);
  assert.ok(huge.chunkCount <= chunkCountMax);
  assert.ok(huge.buffer.byteLength <= 512 * 1024 + 64);
  const last = huge.chunkCount - 1;
  huge.markResident(last, 1);
  assert.equal(huge.residentBytes, Number.MAX_SAFE_INTEGER - last * huge.chunkBytes);
  assert.equal(huge.has(Number.MAX_SAFE_INTEGER - 1, 1), true);
  assert.equal(huge.has(0, Number.MAX_SAFE_INTEGER), false);
  huge.markResident(0, huge.chunkCount);
  assert.equal(huge.residentBytes, Number.MAX_SAFE_INTEGER);
});

test('chunks grow only as far as needed', () => {
  const tib = 1024 ** 4;
  assert.equal(chunkBytesFor(tib), 256 * 1024);
  assert.equal(chunkBytesFor(tib + 1), 512 * 1024);
  assert.throws(() => Residency.create(tib, 4096), /too many/);
  assert.throws(() => Residency.create(-1), /not a file size/);
  assert.throws(() => Residency.create(1.5), /not a file size/);
});

const step = fc.record({
  action: fc.constantFrom('mark', 'unmark', 'clear', 'recode'),
  from: fc.nat(199),
  length: fc.nat(60),
});

test('behaves like an array of booleans', () => {
  const file = fc.record({ sizeBytes: fc.nat(1990), steps: fc.array(step, { maxLength: 30 }) });
  fc.assert(
    fc.property(file, fc.nat(2000), fc.nat(2000), ({ sizeBytes, steps }, offset, length) => {
      let residency = Residency.create(sizeBytes, 10);
      const model = Array.from({ length: Math.ceil(sizeBytes / 10) }, () => false);
      for (const { action, from, length: wanted } of steps) {
        const first = Math.min(from, model.length);
        const count = Math.min(wanted, model.length - first);
        if (action === 'mark') residency.markResident(first, count);
        if (action === 'unmark') residency.unmark(first, count);
        if (action === 'clear') residency.clear();
        if (action === 'recode') residency = Residency.decode(residency.encode(), sizeBytes, 10);
        if (action === 'mark') model.fill(true, first, first + count);
        if (action === 'unmark') model.fill(false, first, first + count);
        if (action === 'clear') model.fill(false);
      }
      const bytes = (chunk: number): number => Math.min(10, sizeBytes - chunk * 10);
      const resident = model.map((here, chunk) => (here ? bytes(chunk) : 0));
      assert.equal(
        residency.residentBytes,
        resident.reduce((sum, size) => sum + size, 0),
      );
      assert.equal(residency.complete, model.every(Boolean));
      const asked = model.map(
        (_, chunk) => chunk * 10 < offset + length && chunk * 10 + 10 > offset,
      );
      const inFile = offset < sizeBytes && length > 0;
      const missing = model.map((here, chunk) => inFile && asked[chunk] && !here);
      assert.equal(residency.has(offset, length), !missing.includes(true));
      const runs = residency.missing(offset, length);
      const found = model.map((_, chunk) =>
        runs.some(({ first, count }) => chunk >= first && chunk < first + count),
      );
      assert.deepEqual(found, missing);
    }),
    { numRuns: 500 },
  );
});

test('the stored form is small and exact', () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { maxLength: 400 }), (bits) => {
      const residency = Residency.create(bits.length * 4, 4);
      for (const [chunk, here] of bits.entries()) if (here) residency.markResident(chunk, 1);
      const encoded = residency.encode();
      assert.ok(encoded.length <= Math.ceil(bits.length / 8) + 7);
      const decoded = Residency.decode(encoded, bits.length * 4, 4);
      assert.deepEqual(
        bits.map((_, chunk) => decoded.hasChunk(chunk)),
        bits,
      );
    }),
  );
  const whole = Residency.create(2 ** 40);
  whole.markResident(0, whole.chunkCount);
  assert.ok(whole.encode().length <= 12);
});

test('anything but an encoding is refused', () => {
  const residency = Residency.create(1000, 10);
  for (let chunk = 0; chunk < 100; chunk += 3) residency.markResident(chunk, 1);
  const raw = residency.encode();
  residency.markResident(0, 90);
  const runs = residency.encode();
  assert.notEqual(raw[1], runs[1], 'both forms are tried');
  for (const encoded of [raw, runs]) {
    const refused = (bytes: Uint8Array): void =>
      assert.throws(() => Residency.decode(bytes, 1000, 10), { code: 'EUCLEAN' });
    for (let length = 0; length < encoded.length; length += 1) refused(encoded.subarray(0, length));
    refused(Uint8Array.from([...encoded, 0]));
    refused(Uint8Array.from([2, ...encoded.subarray(1)]));
    assert.throws(() => Residency.decode(encoded, 1001, 10), { code: 'EUCLEAN' });
    assert.throws(() => Residency.decode(encoded, 10, 10), { code: 'EUCLEAN' });
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 30 }), fc.nat(100), (bytes, chunks) => {
      let decoded: Residency;
      try {
        decoded = Residency.decode(bytes, chunks * 10, 10);
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'EUCLEAN');
        return;
      }
      assert.ok(decoded.residentChunks <= chunks);
    }),
  );
});

test('another thread sees what was marked', async () => {
  const residency = Residency.create(100 * 1024 ** 2);
  const code = `
    const { parentPort, workerData } = require('node:worker_threads');
    import(workerData.module).then(({ Residency }) => {
      const residency = Residency.attach(workerData.buffer);
      parentPort.postMessage('ready');
      while (!residency.complete);
      parentPort.postMessage(residency.has(0, residency.sizeBytes) && residency.chunkBytes);
    });`;
  const module = new URL('../../src/tree/residency.ts', import.meta.url).href;
  const worker = new Worker(code, { eval: true, workerData: { module, buffer: residency.buffer } });
  const messages: unknown[] = [];
  const done = new Promise((resolve, reject) => {
    worker.on('exit', resolve);
    worker.on('error', reject);
  });
  worker.on('message', (message) => {
    messages.push(message);
    for (let chunk = residency.chunkCount - 1; chunk >= 0; chunk -= 1) {
      residency.markResident(chunk, 1);
    }
  });
  await done;
  assert.deepEqual(messages, ['ready', 256 * 1024]);
});
