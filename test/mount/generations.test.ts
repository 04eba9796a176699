/** Generations of nodes, and the handles that cannot be made up without the key. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import { Generations } from '../../src/mount/generations.ts';

test('a generation is the same each time, another under each key, and 0 only for the root', () => {
  const one = new Generations(new Uint8Array(16).fill(1));
  const two = new Generations(new Uint8Array(16).fill(2));
  assert.equal(one.of(ROOT_NODE_ID), 0);
  const seen = new Set<number>();
  let equal = 0;
  for (let id = 2; id < 20_000; id += 1) {
    const generation = one.of(id);
    assert.ok(generation > 0 && generation <= 0xffff_ffff);
    assert.equal(one.of(id), generation);
    if (two.of(id) === generation) equal += 1;
    seen.add(generation);
  }
  assert.equal(equal, 0, 'another tree, other generations');
  // Birthday bound: 20,000 of 2^32 meet 0.05 times. The key is fixed, so this is so for ever.
  assert.ok(seen.size > 19_990, `${seen.size} different generations`);
});
