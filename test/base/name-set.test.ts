/** Which names came before: the same as a set of strings says, in a fraction of its memory. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { NameSet } from '../../src/base/name-set.ts';

test('it says of each name what a set of strings says, however many there are', () => {
  const name = fc.string({ unit: 'binary', minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(fc.array(name), fc.integer({ min: 0, max: 12_000 }), (names, count) => {
      const counted = Array.from({ length: count }, (_unused, index) => `file-${index % 9_000}`);
      const all = [...names, ...counted, ...names];
      const compact = new NameSet();
      const strings = new Set<string>();
      for (const one of all) {
        if (compact.add(one) === strings.has(one)) assert.fail(one);
        strings.add(one);
      }
      assert.equal(compact.size, strings.size);
    }),
    { numRuns: Number(process.env['EBB_PROPERTY_RUNS'] ?? 8) },
  );
});

test('names that differ little are different, and many cost less than 50 bytes each', () => {
  const set = new NameSet();
  const before = process.memoryUsage().arrayBuffers;
  let count = 0;
  for (const prefix of ['', 'a', 'aa', '\u0000', 'ä']) {
    for (let index = 0; index < 60_000; index += 1) {
      assert.ok(set.add(`${prefix}${index.toString(2)}`));
      count += 1;
    }
  }
  assert.equal(set.size, count);
  for (let index = 0; index < 60_000; index += 1) assert.equal(set.add(index.toString(2)), false);
  const bytes = process.memoryUsage().arrayBuffers - before;
  // The table, and the one half as large that it grew out of, if nobody has collected it.
  assert.ok(bytes < 75 * count, `${bytes / count} bytes each`);
});
