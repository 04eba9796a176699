/** What a tree's daemon tells the watchdog of itself: that it gets on, however long what it is at takes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { Pulse } from '../../src/daemon/native/pulse.ts';

const everyMs = 5_000;

interface Daemon {
  readonly pulse: Pulse;
  readonly end: () => void;
  /** The event thread does nothing any more. */
  hangs: boolean;
  steps: number;
  saidAlive: number;
}

/** Its event thread does something whenever it is woken. Time is `context.mock.timers`'. */
function daemonOf(context: TestContext): Daemon {
  context.mock.timers.enable({ apis: ['setInterval'] });
  const pulse = new Pulse({
    everyMs,
    threadSteps: () => daemon.steps,
    wakeThread: () => {
      if (!daemon.hangs) daemon.steps += 1;
    },
    alive: () => void (daemon.saidAlive += 1),
  });
  const daemon: Daemon = { pulse, end: () => end(), hangs: false, steps: 0, saidAlive: 0 };
  const end = pulse.start(0);
  context.after(end);
  return daemon;
}

test('a daemon that has nothing to do says that it is alive, again and again', (context) => {
  const daemon = daemonOf(context);
  assert.equal(daemon.saidAlive, 1);
  context.mock.timers.tick(4 * everyMs);
  assert.equal(daemon.saidAlive, 5);
});

test('main that answers for minutes in one turn says meanwhile that it is alive', (context) => {
  const daemon = daemonOf(context);
  // No timer comes to its turn.
  for (let nowMs = 0; nowMs <= 300_000; nowMs += 20) daemon.pulse.step(nowMs);
  assert.equal(daemon.saidAlive, 1 + 300_000 / everyMs);
});

test('an event thread that answers for minutes without taking in what main sent is alive', (context) => {
  const daemon = daemonOf(context);
  context.mock.timers.tick(everyMs);
  daemon.hangs = true;
  for (let looks = 0; looks < 60; looks += 1) {
    daemon.steps += 1;
    context.mock.timers.tick(everyMs);
  }
  assert.ok(daemon.saidAlive >= 60, `${daemon.saidAlive}`);
});

test('an event thread that does nothing any more is not alive, whatever main does', (context) => {
  const daemon = daemonOf(context);
  daemon.hangs = true;
  context.mock.timers.tick(everyMs);
  const { saidAlive } = daemon;
  context.mock.timers.tick(20 * everyMs);
  for (let nowMs = 0; nowMs <= 300_000; nowMs += 20) daemon.pulse.step(nowMs);
  assert.equal(daemon.saidAlive, saidAlive);
});

test('main that does nothing any more says nothing, whatever the event thread does', (context) => {
  const daemon = daemonOf(context);
  daemon.steps += 1_000;
  assert.equal(daemon.saidAlive, 1);
  // A step is none of the timer's: nobody is told anything before it is started, or after it has ended.
  daemon.end();
  daemon.steps += 1;
  daemon.pulse.step(1_000_000);
  context.mock.timers.tick(everyMs);
  assert.equal(daemon.saidAlive, 1);
});
