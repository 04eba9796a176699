import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock, systemClock } from '../../src/base/clock.ts';

test('the system clock shows the time and never goes back', () => {
  assert.ok(Math.abs(systemClock.nowMs() - Date.now()) < 1000);
  const before = systemClock.monotonicMs();
  assert.ok(systemClock.monotonicMs() >= before);
});

test('a manual clock moves only when told', () => {
  const clock = new ManualClock(5000);
  clock.advance(250);
  assert.equal(clock.nowMs(), 5250);
  assert.equal(clock.monotonicMs(), 250);
  clock.setWallClock(10);
  assert.equal(clock.nowMs(), 10);
  assert.equal(clock.monotonicMs(), 250);
  assert.throws(() => clock.advance(-1), RangeError);
});
