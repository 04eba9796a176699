/** How fast a tree's or mount's daemon is started again after it died. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RestartPauses } from '../../src/supervisor/restart-pauses.ts';
import type { DaemonLife } from '../../src/supervisor/restart-pauses.ts';

/** `lives`: f failed, c crashed, s served. A daemon dies every `everyMs`, besides its pause. */
function pausesOf(lives: string, everyMs = 10): number[] {
  const pauses = new RestartPauses();
  let nowMs = 0;
  return Array.from(lives, (letter) => {
    nowMs += everyMs;
    const life: DaemonLife = letter === 'f' ? 'failed' : letter === 'c' ? 'crashed' : 'served';
    const pauseMs = pauses.next(life, nowMs);
    nowMs += pauseMs;
    return pauseMs;
  });
}

test('daemons that never serve are started ever more slowly, to once a minute', () => {
  assert.deepEqual(pausesOf('fffffff'), [0, 250, 1_000, 4_000, 15_000, 60_000, 60_000]);
});

test('daemons that take requests and crash are started as slowly, and are not given up', () => {
  assert.deepEqual(pausesOf('ccccccc'), [0, 250, 1_000, 4_000, 15_000, 60_000, 60_000]);
  assert.deepEqual(pausesOf('cfcf'), [0, 250, 1_000, 4_000]);
  const pauses = new RestartPauses();
  for (let death = 0; death < 100; death += 1) pauses.next('crashed', death);
  assert.equal(pauses.failures, 0);
  assert.equal(pauses.next('served', 100), 0);
  assert.equal(pauses.next('crashed', 101), 0);
});

test('one that served makes good what failed before it', () => {
  assert.deepEqual(pausesOf('fffffsff'), [0, 250, 1_000, 4_000, 15_000, 0, 0, 250]);
  // Killed again and again, some of them before they could say that they serve.
  assert.deepEqual(new Set(pausesOf('sfsfsfsfsfs')), new Set([0]));
});

test('killed every second for ever: nobody waits for more than the start', () => {
  assert.deepEqual(new Set(pausesOf('s'.repeat(1_000), 1_000)), new Set([0]));
});

test('daemons that die as soon as they serve are started once a second in the end, never more slowly', () => {
  const pauses = pausesOf('s'.repeat(100));
  assert.deepEqual(new Set(pauses.slice(0, 20)), new Set([0]));
  assert.equal(Math.max(...pauses), 1_000);
  const sumMs = pauses.slice(40).reduce((sum, pauseMs) => sum + pauseMs, 0);
  assert.ok(sumMs > 55_000, `60 starts in ${sumMs} ms`);
});

test('somebody asks: at once again', () => {
  const pauses = new RestartPauses();
  for (let death = 0; death < 5; death += 1) pauses.next('failed', death);
  for (let death = 0; death < 100; death += 1) pauses.next('served', death);
  assert.equal(pauses.next('served', 100), 1_000);
  pauses.reset();
  assert.equal(pauses.next('served', 101), 0);
  assert.equal(pauses.next('failed', 102), 0);
});
