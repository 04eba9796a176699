/** Generations of nodes, and the handles that cannot be made up without the key. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import { Generations } from '../../src/mount/generations.ts';

/** EBB_FORGED_GENERATIONS=10000000 for the full length. */
const forgedCount = Number(process.env['EBB_FORGED_GENERATIONS'] ?? 100_000);

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

test(`${forgedCount} forged handles, compared as the kernel does: none is right`, () => {
  const tree = new Generations(new Uint8Array(16).fill(3));
  const other = new Generations(new Uint8Array(16).fill(4));
  // Always the same ones: by chance one in 2^32 would be right.
  let state = 1;
  const random = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
  let believed = 0;
  for (let index = 0; index < forgedCount; index += 1) {
    const id = 2 + (index % 1_000_003);
    const real = tree.of(id);
    const flipped = (real ^ (1 << ((index >>> 2) % 32))) >>> 0;
    const forged = [random(), flipped, other.of(id), tree.of(id + 1 + (random() % 1_000))];
    const generation = forged[index % forged.length];
    if (generation === real) believed += 1;
  }
  assert.equal(believed, 0);
});
