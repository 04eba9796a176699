import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatDuration, formatSize } from '../../src/base/format.ts';

test('sizes as people read them', () => {
  assert.equal(formatSize(0), '0 B');
  assert.equal(formatSize(1023), '1023 B');
  assert.equal(formatSize(1024), '1.0 KiB');
  assert.equal(formatSize(1536), '1.5 KiB');
  assert.equal(formatSize(1024 ** 2 - 1), '1.0 MiB');
  assert.equal(formatSize(10 * 1024 ** 3), '10.0 GiB');
  assert.equal(formatSize(2 ** 53), '8.0 PiB');
  fc.assert(
    fc.property(fc.maxSafeNat(), (size) => {
      const shown = formatSize(size);
      assert.match(shown, /^\d{1,4}(\.\d)? [KMGTP]?i?B$/);
      const [value = '', unit = ''] = shown.split(' ');
      const meant = Number(value) * 1024 ** ' KMGTP'.indexOf(unit.replace(/i?B$/, '') || ' ');
      assert.ok(Math.abs(meant - size) <= size * 0.051, `${size}: ${shown}`);
    }),
  );
});

test('durations', () => {
  const shown: readonly [number, string][] = [
    [0, '0ms'],
    [999, '999ms'],
    [999.7, '1.0s'],
    [1500, '1.5s'],
    [59_949, '59.9s'],
    [59_960, '1m 00s'],
    [90_500, '1m 31s'],
    [3_599_600, '1h 00m'],
    [3_661_000, '1h 01m'],
    [86_399_000, '1d 00h'],
    [90_000_000, '1d 01h'],
  ];
  for (const [ms, text] of shown) assert.equal(formatDuration(ms), text);
});
