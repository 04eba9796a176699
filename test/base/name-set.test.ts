/** Which names came before: the same as a set of strings says, in a fraction of its memory. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { keyWords, NameSet } from '../../src/base/name-set.ts';

test('it says of each name what a set of strings says, however many there are', () => {
  const name = fc.string({ unit: 'binary', minLength: 1, maxLength: 12 });
  const word = fc.noBias(fc.integer());
  const key = fc.array(word, { minLength: keyWords, maxLength: keyWords });
  fc.assert(
    fc.property(key, fc.array(name), fc.integer({ min: 0, max: 12_000 }), (words, names, count) => {
      const counted = Array.from({ length: count }, (_unused, index) => `file-${index % 9_000}`);
      const all = [...names, ...counted, ...names];
      const compact = new NameSet(Int32Array.from(words));
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

test('names that one key takes for each other are different under the key of the process', () => {
  // All three words alike: hashes of 32 bits, of which 300,000 do not all differ.
  const [start, before, after] = [0x2545f491, 0xcc9e2d51, 0x1b873593];
  const poor = Int32Array.of(start, start, start, before, after, before, after, before, after);
  const known = new NameSet(poor);
  const taken = Array.from({ length: 300_000 }, (_unused, index) => `name-${index}`).filter(
    (name) => !known.add(name),
  );
  assert.ok(taken.length > 0);
  const own = new NameSet();
  for (let index = 0; index < 300_000; index += 1) assert.ok(own.add(`name-${index}`));
});
