/** How fast a tree's daemon is started again after it died. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RestartPauses } from '../../src/supervisor/restart-pauses.ts';

const pausesOf = (lives: readonly number[]): number[] => {
  const pauses = new RestartPauses();
  return lives.map((livedMs) => pauses.next(livedMs));
};

test('daemons that never serve are started ever more slowly, to once a minute', () => {
  assert.deepEqual(pausesOf([0, 0, 0, 0, 0, 0, 0]), [0, 250, 1_000, 4_000, 15_000, 60_000, 60_000]);
});

test('one that served is replaced within a second, however soon it died', () => {
  assert.deepEqual(pausesOf([5, 5, 5, 5, 5, 5, 5]), [0, 250, 1_000, 1_000, 1_000, 1_000, 1_000]);
  assert.deepEqual(pausesOf([0, 0, 0, 0, 0, 5, 0]), [0, 250, 1_000, 4_000, 15_000, 1_000, 1_000]);
  // Killed again and again, some of them before they could say that they serve.
  assert.deepEqual(
    pausesOf([5, 0, 5, 0, 5, 0, 5, 0, 5]),
    [0, 250, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000],
  );
});

test('one that served for a second is replaced at once; so is any when somebody asks', () => {
  assert.deepEqual(pausesOf([5, 5, 1_000, 5]), [0, 250, 0, 250]);
  const pauses = new RestartPauses();
  for (let death = 0; death < 5; death += 1) pauses.next(0);
  pauses.reset();
  assert.equal(pauses.next(0), 0);
});
