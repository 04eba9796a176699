import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  formatDuration,
  formatEta,
  formatPercent,
  formatRate,
  formatSize,
  parseDurationMs,
  parsePercent,
  parseRate,
  parseSizeBytes,
  parseSizeOrPercentBytes,
} from '../../src/base/format.ts';

test('sizes as people write them', () => {
  const sizes: readonly [string, number][] = [
    ['0', 0],
    ['4096', 4096],
    ['10b', 10],
    ['1k', 1024],
    ['512KiB', 524_288],
    ['10G', 10 * 1024 ** 3],
    ['10 gb', 10 * 1024 ** 3],
    [' 1.5M ', 1_572_864],
    ['7P', 7 * 1024 ** 5],
    ['0.0001k', 0],
  ];
  for (const [text, size] of sizes) assert.equal(parseSizeBytes(text), size, text);
  for (const text of ['', 'G', '-1', '1.', '.5', '1e3', '10X', '10Gi5', '1 0', '8P', '1E', '5%']) {
    assert.throws(() => parseSizeBytes(text), { code: 'EINVAL' }, text);
  }
  assert.throws(() => parseSizeBytes('many'), { message: /^'many' is not a size; write for/ });
});

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
      if (size < 2 ** 52) {
        assert.ok(Math.abs(parseSizeBytes(shown) - size) <= size * 0.051, `${size}: ${shown}`);
      }
    }),
  );
});

test('percentages', () => {
  assert.equal(parsePercent('5%'), 0.05);
  assert.equal(parsePercent(' 12.5 %'), 0.125);
  assert.equal(parseSizeOrPercentBytes('10%', 12_345), 1234);
  assert.equal(parseSizeOrPercentBytes('10K', 12_345), 10_240);
  for (const text of ['', '%', '5', '101%', '-1%']) {
    assert.throws(() => parsePercent(text), { code: 'EINVAL' }, text);
  }
  assert.deepEqual([-1, 0, 0.001, 0.5, 0.999, 1, 2].map(formatPercent), [
    '0%',
    '0%',
    '1%',
    '50%',
    '99%',
    '100%',
    '100%',
  ]);
});

test('durations', () => {
  const durations: readonly [string, number][] = [
    ['30s', 30_000],
    ['5m', 300_000],
    ['1h30m', 5_400_000],
    ['1h 30m', 5_400_000],
    ['500ms', 500],
    ['2d', 172_800_000],
    ['1w', 604_800_000],
    ['45', 45_000],
    ['0', 0],
    ['1.5S', 1500],
  ];
  for (const [text, ms] of durations) assert.equal(parseDurationMs(text), ms, text);
  for (const text of ['', 's', '5x', '-5s', '5 5', '1h30', 'm5', '9999999999999w']) {
    assert.throws(() => parseDurationMs(text), { code: 'EINVAL' }, text);
  }
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

test('rates and what is left', () => {
  assert.equal(parseRate('10M'), 10 * 1024 ** 2);
  assert.equal(parseRate('512KiB/s'), 524_288);
  assert.throws(() => parseRate('fast'), { code: 'EINVAL' });
  assert.equal(formatRate(12.3 * 1024 ** 2), '12.3 MiB/s');
  assert.equal(formatEta(1000, 0), '--');
  assert.equal(formatEta(0, 0), '0ms');
  assert.equal(formatEta(90_000, 1000), '1m 30s');
});
