import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { IntervalSet } from '../../src/base/interval-set.ts';
import type { Interval } from '../../src/base/interval-set.ts';

const universe = 40;
const range = fc
  .tuple(fc.nat(universe), fc.nat(universe))
  .map(([a, b]) => ({ start: Math.min(a, b), end: Math.max(a, b) }));
const operation = fc.record({ kind: fc.constantFrom('add', 'remove'), range });

/** The naive model: one boolean per number. */
function modelOf(operations: readonly { kind: string; range: Interval }[]): boolean[] {
  const model = Array.from({ length: universe + 1 }, () => false);
  for (const { kind, range } of operations) model.fill(kind === 'add', range.start, range.end);
  return model;
}

function intervalsOf(model: readonly boolean[], start = 0, end = universe + 1): Interval[] {
  const found: Interval[] = [];
  for (let index = start; index < end; index += 1) {
    if (!model[index]) continue;
    const last = found.at(-1);
    if (last?.end === index) found[found.length - 1] = { start: last.start, end: index + 1 };
    else found.push({ start: index, end: index + 1 });
  }
  return found;
}

function setOf(operations: readonly { kind: string; range: Interval }[]): IntervalSet {
  const set = new IntervalSet();
  for (const { kind, range } of operations) {
    if (kind === 'add') set.add(range.start, range.end);
    else set.remove(range.start, range.end);
  }
  return set;
}

test('behaves as a set of numbers does', () => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 20 }), range, (operations, asked) => {
      const model = modelOf(operations);
      const set = setOf(operations);
      const { start, end } = asked;
      assert.deepEqual([...set], intervalsOf(model));
      assert.equal(set.size, intervalsOf(model).length);
      assert.equal(set.isEmpty, set.size === 0);
      assert.equal(set.totalLength, model.filter(Boolean).length);
      const part = model.slice(start, end);
      assert.equal(set.contains(start, end), part.every(Boolean));
      assert.equal(set.intersects(start, end), part.some(Boolean));
      assert.equal(set.has(start), model[start]);
      assert.deepEqual([...set.within(start, end)], intervalsOf(model, start, end));
      const gaps = intervalsOf(
        model.map((value) => !value),
        start,
        end,
      );
      assert.deepEqual([...set.gaps(start, end)], gaps);
    }),
    { numRuns: 2000 },
  );
});

test('subtracting and copying', () => {
  fc.assert(
    fc.property(fc.array(operation), fc.array(operation), (first, second) => {
      const set = setOf(first);
      const copy = set.clone();
      const other = setOf(second);
      copy.subtract(other);
      const modelOther = modelOf(second);
      const expected = modelOf(first).map((value, index) => value && !modelOther[index]);
      assert.deepEqual([...copy], intervalsOf(expected));
      assert.deepEqual([...set], intervalsOf(modelOf(first)), 'the original did not change');
      assert.deepEqual([...other], intervalsOf(modelOther));
    }),
  );
});

test('numbers up to 2^53, in any order', () => {
  const last = Number.MAX_SAFE_INTEGER;
  const set = IntervalSet.of({ start: last - 1, end: last }, { start: 0, end: 1 });
  set.add(2 ** 40, last - 1);
  assert.deepEqual(
    [...set],
    [
      { start: 0, end: 1 },
      { start: 2 ** 40, end: last },
    ],
  );
  set.remove(2 ** 41, 2 ** 41 + 1);
  assert.equal(set.totalLength, last - 2 ** 40);
  assert.deepEqual([...set.gaps(2 ** 41 - 1, 2 ** 41 + 2)], [{ start: 2 ** 41, end: 2 ** 41 + 1 }]);
  set.clear();
  assert.equal(set.isEmpty, true);
});

test('nonsense is a bug of the caller', () => {
  const set = new IntervalSet();
  for (const [start, end] of [
    [1, 0],
    [-1, 0],
    [0, 0.5],
    [0, 2 ** 53],
    [Number.NaN, 1],
  ] as const) {
    assert.throws(() => set.add(start, end), /Bug in Ebb/);
    assert.throws(() => set.intersects(start, end), /Bug in Ebb/);
  }
  assert.throws(() => set.subtract(set), /Bug in Ebb/);
});
