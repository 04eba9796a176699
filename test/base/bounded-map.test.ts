import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { BoundedMap } from '../../src/base/bounded-map.ts';
import { runOk } from '../support/run.ts';

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

test('a bounded map that was full once keeps nothing of what is set again, or was cleared', async () => {
  const script = `
    import { BoundedMap } from ${JSON.stringify(path.join(import.meta.dirname, '../../src/base/bounded-map.ts'))};
    const map = new BoundedMap(1_000);
    const usedMebibytes = () => (globalThis.gc(), process.memoryUsage().heapUsed / 2 ** 20);
    const grownBy = (work) => {
      const before = usedMebibytes();
      work();
      return usedMebibytes() - before;
    };
    const overflow = () => { for (let key = 0; key < 2_000; key += 1) map.set(key, { key }); };
    const again = () => {
      for (let round = 0; round < 500; round += 1)
        for (let key = 1_200; key < 2_000; key += 1) map.set(key, { key, round });
    };
    overflow();
    const keeps = grownBy(again);
    overflow();
    const cleared = grownBy(() => { again(); map.clear(); });
    console.log(JSON.stringify([keeps, cleared]));`;
  const flags = ['--expose-gc', '--input-type=module', '--eval', script];
  const said = JSON.parse((await runOk(process.execPath, flags)).stdout.toString()) as number[];
  assert.equal(said.length, 2);
  for (const mebibytes of said) assert.ok(mebibytes < 5, said.join(', '));
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
