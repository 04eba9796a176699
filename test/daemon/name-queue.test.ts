import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NameQueue } from '../../src/daemon/mount/name-queue.ts';
import { encodeName } from '../../src/base/name.ts';

function takeAll(queue: NameQueue): string[] {
  const all: string[] = [];
  for (let one = queue.shift(); one !== undefined; one = queue.shift()) {
    all.push(`${one.directoryId} ${Buffer.from(one.name).toString('latin1')}`);
  }
  return all;
}

test('names come out as they went in, whatever is taken between', () => {
  const queue = new NameQueue();
  const pushed: string[] = [];
  const taken: string[] = [];
  for (let index = 0; index < 40_000; index += 1) {
    const directoryId = 2 ** 40 + (index % 7);
    const name = `${index}-${'x'.repeat(index % 240)}`;
    assert.ok(queue.push(directoryId, encodeName(name)));
    pushed.push(`${directoryId} ${name}`);
    if (index % 3 !== 0) continue;
    const one = queue.shift();
    if (one !== undefined) taken.push(`${one.directoryId} ${Buffer.from(one.name).toString()}`);
    // Now and then nothing is left.
    if (index % 9_999 === 0) taken.push(...takeAll(queue));
  }
  taken.push(...takeAll(queue));
  assert.deepEqual(taken, pushed);
  assert.equal(queue.shift(), undefined);
});

test('a queue has room for so many bytes, and again when they were taken', () => {
  const queue = new NameQueue(128 * 1024);
  const name = encodeName('n'.repeat(255));
  const fill = (): number => {
    let count = 0;
    while (queue.push(1, name)) count += 1;
    return count;
  };
  const first = fill();
  assert.equal(first, 2 * Math.floor((64 * 1024) / 264));
  assert.equal(takeAll(queue).length, first);
  assert.equal(fill(), first);
});
