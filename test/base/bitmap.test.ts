import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { Bitmap, bitmapBitsMax } from '../../src/base/bitmap.ts';

const bitCount = 150;
const range = fc
  .tuple(fc.nat(bitCount), fc.nat(bitCount))
  .map(([a, b]) => ({ first: Math.min(a, b), end: Math.max(a, b) }));

test('behaves as an array of booleans does', () => {
  const operations = fc.array(fc.record({ set: fc.boolean(), range }), { maxLength: 12 });
  fc.assert(
    fc.property(operations, range, (list, { first, end }) => {
      const bitmap = new Bitmap(bitCount);
      const model = Array.from({ length: bitCount }, () => false);
      for (const { set, range } of list) {
        const count = range.end - range.first;
        const before = model.slice(range.first, range.end).filter((bit) => bit !== set).length;
        const changed = set
          ? bitmap.setRange(range.first, count)
          : bitmap.clearRange(range.first, count);
        assert.equal(changed, before);
        model.fill(set, range.first, range.end);
      }
      const part = model.slice(first, end);
      const count = end - first;
      assert.equal(bitmap.isRangeSet(first, count), part.every(Boolean));
      assert.equal(bitmap.isRangeClear(first, count), !part.some(Boolean));
      assert.equal(bitmap.countSet(first, count), part.filter(Boolean).length);
      assert.equal(bitmap.countSet(), model.filter(Boolean).length);
      const found = (wanted: boolean): number => {
        const index = part.indexOf(wanted);
        return index === -1 ? end : first + index;
      };
      assert.equal(bitmap.nextSet(first, end), found(true));
      assert.equal(bitmap.nextClear(first, end), found(false));
      for (const [bit, value] of model.entries()) assert.equal(bitmap.get(bit), value);
    }),
    { numRuns: 500 },
  );
});

test('sizes at the edges of words; bits behind the end are left alone', () => {
  for (const count of [0, 1, 31, 32, 33, 64]) {
    const words = new Int32Array(3);
    const bitmap = new Bitmap(count, words);
    assert.equal(bitmap.setRange(0, count), count);
    assert.equal(bitmap.countSet(), count);
    assert.equal(bitmap.nextClear(0), count);
    const ones = [...words].reduce((sum, word) => sum + bitsOf(word), 0);
    assert.equal(ones, count);
  }
  assert.throws(() => new Bitmap(65, new Int32Array(2)), /Bug in Ebb/);
  assert.throws(() => new Bitmap(-1), /Bug in Ebb/);
  assert.throws(() => new Bitmap(bitmapBitsMax + 1), /Bug in Ebb/);
  const bitmap = new Bitmap(10);
  assert.throws(() => bitmap.get(10), /Bug in Ebb/);
  assert.throws(() => bitmap.setRange(5, 6), /Bug in Ebb/);
  assert.throws(() => bitmap.nextSet(11), /Bug in Ebb/);
});

test('the last bits of the largest bitmap', () => {
  const bitmap = new Bitmap(bitmapBitsMax);
  assert.equal(bitmap.setRange(bitmapBitsMax - 40, 40), 40);
  assert.equal(bitmap.get(bitmapBitsMax - 1), true);
  assert.equal(bitmap.nextClear(bitmapBitsMax - 40), bitmapBitsMax);
  assert.equal(bitmap.nextSet(bitmapBitsMax - 100), bitmapBitsMax - 40);
});

test('threads that set neighbouring bits lose none', async () => {
  const bits = 32 * 64;
  const bitmap = new Bitmap(bits);
  const source = `
    import { workerData } from 'node:worker_threads';
    import { Bitmap } from '${new URL('../../src/base/bitmap.ts', import.meta.url).href}';
    const bitmap = new Bitmap(${bits}, workerData.words);
    for (let bit = workerData.first; bit < ${bits}; bit += 2) bitmap.setRange(bit, 1);`;
  const ended = [0, 1].map((first) => {
    const worker = new Worker(source, { eval: true, workerData: { first, words: bitmap.words } });
    return new Promise((resolve, reject) => {
      worker.once('exit', resolve);
      worker.once('error', reject);
    });
  });
  assert.deepEqual(await Promise.all(ended), [0, 0]);
  assert.equal(bitmap.countSet(), bits);
});

function bitsOf(word: number): number {
  return (word >>> 0).toString(2).replaceAll('0', '').length;
}
