/** Which listings of an image leave out the attributes of files, and when that ends. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ebbError } from '../../src/base/errors.ts';
import { NamesOnly } from '../../src/image/server/names-only.ts';

function listed(count: number, prune: (directories: readonly number[]) => void): NamesOnly {
  const names = new NamesOnly(prune);
  for (let directory = 1; directory <= count; directory += 1) names.begins(directory, true);
  return names;
}

function lookUp(names: NamesOnly, directory: number, times: number): void {
  for (let count = 0; count < times; count += 1) names.lookedUp(directory);
  names.work();
}

test('of a walk it leaves out attributes until more files are looked up than whoever lists by names would', () => {
  const pruned: (readonly number[])[] = [];
  const names = listed(32, (directories) => pruned.push(directories));
  lookUp(names, 7, 6);
  lookUp(names, 1000, 100);
  assert.ok(names.leavesOut(7) && !names.leavesOut(1000));
  lookUp(names, 8, 1);
  assert.deepEqual(
    pruned,
    [Array.from({ length: 32 }, (_, index) => 32 - index)],
    'the deepest first, once',
  );
  assert.equal(names.leavesOut(7), false);
  names.begins(40, true);
  assert.equal(names.leavesOut(40), false, 'it is over');
  lookUp(names, 7, 100);
  assert.equal(pruned.length, 1);
});

test('who lists a directory outside of a walk gets its attributes', () => {
  const names = listed(2, () => assert.fail('nobody looked anything up'));
  names.begins(3, false);
  names.begins(1, false);
  names.work();
  assert.deepEqual(
    [1, 2, 3].map((directory) => names.leavesOut(directory)),
    [false, true, false],
  );
});

test('it remembers so many directories; behind them attributes are given', () => {
  const names = listed(70_000, () => undefined);
  assert.ok(names.leavesOut(65_536));
  assert.equal(names.leavesOut(65_537), false);
});

test('a kernel that refuses to forget is left alone; a bug is not hidden', () => {
  const refused = listed(1, () => {
    throw ebbError('EINVAL', 'the kernel refused notification 9');
  });
  lookUp(refused, 1, 10);
  assert.equal(refused.leavesOut(1), false);
  const broken = listed(1, () => {
    throw new TypeError('a bug');
  });
  assert.throws(() => lookUp(broken, 1, 10), TypeError);
});
