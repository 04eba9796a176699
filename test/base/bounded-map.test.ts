import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BoundedMap } from '../../src/base/bounded-map.ts';

test('a bounded map has what was set last, whatever was deleted, set again or cleared between', () => {
  const step = fc.oneof(
    { weight: 20, arbitrary: fc.record({ set: fc.nat(12), to: fc.nat() }) },
    { weight: 3, arbitrary: fc.record({ delete: fc.nat(12) }) },
    { weight: 1, arbitrary: fc.constant({ clear: true }) },
  );
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 8 }),
      fc.array(step, { maxLength: 300 }),
      (max, steps) => {
        const map = new BoundedMap<number, number>(max);
        let model: (readonly [number, number])[] = [];
        for (const each of steps) {
          if ('set' in each) {
            map.set(each.set, each.to);
            model = [...model.filter(([key]) => key !== each.set), [each.set, each.to] as const];
            model = model.slice(-max);
          } else if ('delete' in each) {
            assert.equal(
              map.delete(each.delete),
              model.some(([key]) => key === each.delete),
            );
            model = model.filter(([key]) => key !== each.delete);
          } else {
            map.clear();
            model = [];
          }
          assert.deepEqual([...map], model);
        }
      },
    ),
  );
});

test('a large bounded map makes room in the time that it takes to set', () => {
  const max = 200_000;
  const map = new BoundedMap<number, number>(max);
  const before = process.cpuUsage();
  for (let key = 0; key < 4 * max; key += 1) map.set(key, key);
  const { user } = process.cpuUsage(before);
  assert.equal(map.size, max);
  assert.equal(map.has(3 * max), true);
  // A fifth of a second; a minute when the oldest is looked for from the beginning each time.
  assert.ok(user < 10_000_000, `${user} us`);
});
