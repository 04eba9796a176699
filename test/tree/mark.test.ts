/** The persistent mark: what was sealed comes back, everything else is refused for its own reason. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import { MarkState, decodeMark, encodeMark, markBytesMax } from '../../src/tree/mark.ts';
import type { Mark } from '../../src/tree/mark.ts';

const treeId = '01234567-89ab-4cde-8f01-23456789abcd';
const seal = { treeId, secret: new Uint8Array(32).fill(7) };
const handle = Uint8Array.of(1, 0, 0, 0, 5, 6, 7, 8);

const mark: Mark = {
  treeId,
  remoteId: 'http://example.org/pub/',
  contentId: 4711,
  key: 'dir/\udc80name',
  version: '"etag"\udfff',
  sizeBytes: Number.MAX_SAFE_INTEGER,
  chunkBytes: 2 ** 31,
  residentBytes: 12,
  state: MarkState.partial,
  pinned: true,
  checksum: Uint8Array.of(1, 2, 3),
  bitmap: Uint8Array.of(9, 8, 7),
};

function refusal(bytes: Uint8Array, of = handle, by = seal): string {
  const reading = decodeMark(bytes, of, by);
  return reading.ok ? 'believed' : reading.refusal;
}

test('a mark comes back as it was', () => {
  assert.deepEqual(decodeMark(encodeMark(mark, handle, seal), handle, seal), { ok: true, mark });
  const bare = { ...mark, checksum: new Uint8Array(0), bitmap: null, key: '', pinned: false };
  const reading = decodeMark(encodeMark(bare, handle, seal), handle, seal);
  assert.deepEqual(reading, { ok: true, mark: bare });
});

test('what does not fit is left out: first the bitmap, then the key', () => {
  const large = { ...mark, bitmap: new Uint8Array(2_049) };
  const key = 'k'.repeat(3_000);
  for (const [given, expected] of [
    [large, { ...large, bitmap: null }],
    [
      { ...mark, bitmap: new Uint8Array(2_048) },
      { ...mark, bitmap: new Uint8Array(2_048) },
    ],
    [{ ...mark, key: 'k'.repeat(2_900), bitmap: new Uint8Array(100) }, undefined],
    [
      { ...mark, key },
      { ...mark, key: null },
    ],
  ] as const) {
    const bytes = encodeMark(given, handle, seal);
    assert.ok(bytes.length <= markBytesMax);
    const reading = decodeMark(bytes, handle, seal);
    assert.ok(reading.ok);
    assert.deepEqual(reading.mark, expected ?? { ...given, bitmap: null });
  }
});

test('each kind of false mark has its own reason', () => {
  const bytes = encodeMark(mark, handle, seal);
  assert.equal(refusal(bytes), 'believed');
  assert.equal(refusal(bytes, Uint8Array.of(1)), 'copied from another file');
  const otherSecret = { treeId, secret: new Uint8Array(32) };
  assert.equal(refusal(bytes, handle, otherSecret), 'seal broken');
  const otherTree = { ...seal, treeId: treeId.replace('0', 'f') };
  assert.equal(refusal(bytes, handle, otherTree), 'of another tree');
  assert.equal(refusal(new Uint8Array(0)), 'not a mark');
  assert.equal(refusal(Buffer.from('user data')), 'not a mark');
  const newer = bytes.slice();
  newer[3] = 2;
  assert.equal(refusal(newer), 'format of a newer Ebb');
});

test('no byte can be cut, added or changed', () => {
  const bytes = encodeMark(mark, handle, seal);
  for (let length = 0; length < bytes.length; length += 1) {
    assert.equal(refusal(bytes.subarray(0, length)), length < 4 ? 'not a mark' : 'cut off');
  }
  assert.equal(refusal(Uint8Array.from([...bytes, 0])), 'seal broken');
  for (let index = 0; index < bytes.length; index += 1) {
    for (const bit of [1, 128]) {
      const changed = bytes.slice();
      changed[index] = (changed[index] ?? 0) ^ bit;
      assert.notEqual(refusal(changed), 'believed', `byte ${index}`);
    }
  }
});

test('any bytes are answered, none are believed', () => {
  const prefix = encodeMark(mark, handle, seal);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(100), (noise, kept) => {
      assert.notEqual(
        refusal(Uint8Array.from([...prefix.subarray(0, kept), ...noise])),
        'believed',
      );
    }),
  );
});
