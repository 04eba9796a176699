/** The timer for giving up, with a clock that the test sets: a process that is stopped sees no time pass. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { AttendedTimer } from '../../src/base/attended-timer.ts';

/** Longer than what is waited for may take to be looked at. */
const stoppedMs = 60_000;
const attendedMs = 5_000;

class Process {
  readonly #context: TestContext;
  #nowMs = 1_000;
  fired = 0;

  constructor(context: TestContext) {
    this.#context = context;
    context.mock.timers.enable({ apis: ['setTimeout'] });
    context.mock.method(performance, 'now', () => this.#nowMs);
  }

  timer(delayMs: number): AttendedTimer {
    return new AttendedTimer(delayMs, () => (this.fired += 1));
  }

  runs(ms: number): void {
    for (let left = ms; left > 0; left -= 10) {
      this.#nowMs += 10;
      this.#context.mock.timers.tick(10);
    }
  }

  isStopped(ms: number): void {
    this.#nowMs += ms;
    this.#context.mock.timers.tick(ms);
  }
}

for (const delayMs of [100, 4_000, 5_000, 5_010, 7_000, 30_000]) {
  test(`who gives up after ${delayMs} ms has looked for five seconds since the process was stopped`, (context) => {
    for (let ranMs = 0; ranMs < delayMs; ranMs += Math.min(1_000, delayMs / 2)) {
      const process = new Process(context);
      process.timer(delayMs);
      process.runs(ranMs);
      assert.equal(process.fired, 0);
      process.isStopped(stoppedMs);
      process.runs(attendedMs - 100);
      assert.equal(process.fired, 0, `given up ${ranMs} ms after it began`);
      process.runs(delayMs + attendedMs);
      assert.equal(process.fired, 1);
      context.mock.restoreAll();
      context.mock.timers.reset();
    }
  });
}

test('who is not stopped gives up in time, once; who is disposed does not, also when it is renewed', (context) => {
  const process = new Process(context);
  using first = process.timer(12_000);
  process.runs(11_990);
  assert.equal(process.fired, 0);
  first.renew();
  process.runs(11_990);
  assert.equal(process.fired, 0);
  process.runs(20);
  assert.equal(process.fired, 1);
  process.runs(60_000);
  assert.equal(process.fired, 1);
  first[Symbol.dispose]();
  first.renew();
  process.runs(60_000);
  assert.equal(process.fired, 1);
});

test('who is stopped while he looks looks again, so often and no more', (context) => {
  const process = new Process(context);
  process.timer(4_000);
  for (let stops = 0; stops < 12; stops += 1) {
    process.isStopped(stoppedMs);
    process.runs(attendedMs - 100);
    assert.equal(process.fired, 0, `given up after ${stops + 1} stops`);
  }
  for (let stops = 0; stops < 2; stops += 1) process.isStopped(stoppedMs);
  assert.equal(process.fired, 1);
});
