import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  bytesToRelease,
  chooseReleases,
  lowWatermark,
  releaseFilesMax,
} from '../../src/policy/release-policy.ts';
import type { ReleaseRow } from '../../src/policy/release-policy.ts';

const size = fc.integer({ min: 0, max: 2 ** 44 });
const rows: fc.Arbitrary<ReleaseRow[]> = fc
  .array(
    fc.record({
      residentBytes: fc.integer({ min: 0, max: 1000 }),
      pinned: fc.boolean(),
      lost: fc.boolean(),
    }),
    { maxLength: 40 },
  )
  .map((list) => list.map((row, index) => ({ ...row, id: index + 2 })));
const busyIds = fc.uniqueArray(fc.integer({ min: 2, max: 42 }), { maxLength: 10 });

test('nothing is released while no limit is passed', () => {
  assert.equal(bytesToRelease({ allocatedBytes: 100, freeBytes: 0 }, {}), 0);
  const use = { allocatedBytes: 100, freeBytes: 50 };
  assert.equal(bytesToRelease(use, { cacheSizeBytes: 100, minFreeBytes: 50 }), 0);
});

test('a passed limit releases down to the low watermark', () => {
  const use = { allocatedBytes: 1001, freeBytes: 0 };
  assert.equal(bytesToRelease(use, { cacheSizeBytes: 1000 }), 101);
  // 90 free, wanted at least 180: on to 200.
  assert.equal(bytesToRelease({ allocatedBytes: 1000, freeBytes: 90 }, { minFreeBytes: 180 }), 110);
});

test('room is made before it is needed', () => {
  const use = { allocatedBytes: 950, freeBytes: 10_000, wantedBytes: 100 };
  assert.equal(bytesToRelease(use, { cacheSizeBytes: 1000 }), 150);
});

test('after releasing what was asked for, no limit is passed, unless nothing is left to release', () => {
  fc.assert(
    fc.property(size, size, size, size, (allocatedBytes, freeBytes, cacheSizeBytes, minFree) => {
      const limits = { cacheSizeBytes, minFreeBytes: minFree };
      const bytes = bytesToRelease({ allocatedBytes, freeBytes }, limits);
      assert.ok(bytes >= 0 && bytes <= allocatedBytes);
      const after = { allocatedBytes: allocatedBytes - bytes, freeBytes: freeBytes + bytes };
      const again = bytesToRelease(after, limits);
      assert.ok(again === 0 || after.allocatedBytes === 0);
      if (bytes > 0 && after.allocatedBytes > 0 && freeBytes >= minFree) {
        assert.ok(after.allocatedBytes <= cacheSizeBytes * lowWatermark);
      }
    }),
  );
});

test('the choice keeps every promise', () => {
  fc.assert(
    fc.property(
      rows,
      fc.integer({ min: 0, max: 20_000 }),
      busyIds,
      fc.boolean(),
      fc.integer({ min: 0, max: 50 }),
      (all, wantedBytes, busy, allowLost, filesMax) => {
        const isBusy = (id: number): boolean => busy.includes(id);
        const choice = chooseReleases(all, wantedBytes, { isBusy, allowLost, filesMax });
        const { chosen } = choice;
        const sum = chosen.reduce((total, row) => total + row.residentBytes, 0);
        assert.equal(choice.chosenBytes, sum);
        assert.equal(choice.missingBytes, Math.max(0, wantedBytes - sum));
        // Never pinned, never busy, never twice, never without need.
        assert.ok(chosen.every((row) => !row.pinned && !isBusy(row.id) && row.residentBytes > 0));
        assert.equal(new Set(chosen.map((row) => row.id)).size, chosen.length);
        const last = chosen.at(-1);
        if (last !== undefined) assert.ok(sum - last.residentBytes < wantedBytes);
        assert.ok(chosen.length <= filesMax);
        // Oldest first; lost ones last, only when allowed and all others are in.
        const kept = chosen.filter((row) => !row.lost);
        const lost = chosen.filter((row) => row.lost);
        assert.deepEqual(chosen, [...kept, ...lost]);
        for (const part of [kept, lost]) {
          assert.deepEqual(
            part.map((row) => row.id),
            part.map((row) => row.id).sort((a, b) => a - b),
          );
        }
        const eligible = all.filter(
          (row) => !row.pinned && !isBusy(row.id) && row.residentBytes > 0,
        );
        const ordinary = eligible.filter((row) => !row.lost);
        if (lost.length > 0) {
          assert.ok(allowLost);
          assert.equal(kept.length, ordinary.length);
        }
        // Enough, or all there is.
        const available = allowLost ? eligible : ordinary;
        if (sum < wantedBytes) assert.equal(chosen.length, Math.min(available.length, filesMax));
      },
    ),
    { numRuns: 500 },
  );
});

test('no more rows are read than needed', () => {
  let read = 0;
  function* endless(): Generator<ReleaseRow> {
    for (;;) {
      read += 1;
      yield { id: read, residentBytes: 10, pinned: false, lost: false };
    }
  }
  const choice = chooseReleases(endless(), 35, { isBusy: () => false, allowLost: false });
  assert.equal(choice.chosen.length, 4);
  assert.equal(read, 4);
  const bounded = chooseReleases(endless(), Infinity, { isBusy: () => false, allowLost: false });
  assert.equal(bounded.chosen.length, releaseFilesMax);
});
