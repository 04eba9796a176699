/** Copies that share memory, and nothing else. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { SmallCopies } from '../../src/base/small-copies.ts';

test('copies are the bytes as they were, whatever becomes of the others', () => {
  const piece = fc.record({
    bytes: fc.uint8Array({ maxLength: 3000 }),
    start: fc.nat(3000),
    length: fc.nat(3000),
  });
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 60 }), (pieces) => {
      const copies = new SmallCopies();
      const made = pieces.map(({ bytes, start, length }) => {
        const from = Math.min(start, bytes.length);
        const to = Math.min(from + length, bytes.length);
        const expected = bytes.slice(from, to);
        const copy = copies.of(bytes, from, to);
        bytes.fill(0xee);
        return { copy, expected };
      });
      for (const { copy, expected } of made) assert.deepEqual(copy, expected);
      for (const [index, { copy }] of made.entries()) copy.fill(index);
      for (const [index, { copy }] of made.entries()) {
        assert.ok(copy.every((byte) => byte === index));
      }
    }),
    { numRuns: 200 },
  );
});

test('small ones lie beside each other, large ones alone', () => {
  const copies = new SmallCopies();
  const [one, other] = [copies.of(Uint8Array.of(1, 2, 3)), copies.of(new Uint8Array(100))];
  assert.equal(one.buffer, other.buffer);
  assert.equal(copies.of(new Uint8Array(5000)).buffer.byteLength, 5000);
});
