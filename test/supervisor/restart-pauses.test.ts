/** How fast a tree's or mount's daemon is started again after it died. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RestartPauses } from '../../src/supervisor/restart-pauses.ts';

/** Each: how long a daemon served, 0 for one that never did. One dies every `everyMs`, besides its pause. */
function pausesOf(lives: readonly number[], everyMs = 10): number[] {
  const pauses = new RestartPauses();
  let nowMs = 0;
  return lives.map((livedMs) => {
    nowMs += everyMs;
    const pauseMs = pauses.next(livedMs, nowMs);
    nowMs += pauseMs;
    return pauseMs;
  });
}

test('daemons that never serve are started ever more slowly, to once a minute', () => {
  assert.deepEqual(pausesOf([0, 0, 0, 0, 0, 0, 0]), [0, 250, 1_000, 4_000, 15_000, 60_000, 60_000]);
});

test('one that served makes good what failed before it', () => {
  assert.deepEqual(pausesOf([0, 0, 0, 0, 0, 5, 0, 0]), [0, 250, 1_000, 4_000, 15_000, 0, 0, 250]);
  // Killed again and again, some of them before they could say that they serve.
  assert.deepEqual(new Set(pausesOf([5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5])), new Set([0]));
});

test('killed every second for ever: nobody waits for more than the start', () => {
  const lives = Array.from({ length: 1_000 }, (_unused, index) => 1 + (index % 700));
  assert.deepEqual(new Set(pausesOf(lives, 1_000)), new Set([0]));
});

test('daemons that die as soon as they serve are started once a second in the end, never more slowly', () => {
  const pauses = pausesOf(Array.from({ length: 100 }, () => 5));
  assert.deepEqual(new Set(pauses.slice(0, 20)), new Set([0]));
  assert.equal(Math.max(...pauses), 1_000);
  const sumMs = pauses.slice(40).reduce((sum, pauseMs) => sum + pauseMs, 0);
  assert.ok(sumMs > 55_000, `60 starts in ${sumMs} ms`);
});

test('somebody asks: at once again', () => {
  const pauses = new RestartPauses();
  for (let death = 0; death < 5; death += 1) pauses.next(0, death);
  for (let death = 0; death < 100; death += 1) pauses.next(5, death);
  assert.equal(pauses.next(5, 100), 1_000);
  pauses.reset();
  assert.equal(pauses.next(5, 101), 0);
  assert.equal(pauses.next(0, 102), 0);
});
