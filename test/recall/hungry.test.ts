/** Waiters who want more than may be under way for them at once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Planner } from '../../src/recall/planner.ts';
import { scene } from './scene.ts';
import { by, MiB, settle } from './support.ts';

const crowd = 500;

test('hundreds who wait for all of a large file are planned once each, later one for all', async (context) => {
  await using it = scene(64 * MiB);
  const plans = context.mock.method(Planner.prototype, 'planWaiter');
  const reads = Promise.all(
    Array.from({ length: crowd }, (_unused, index) =>
      it.engine.ensure(it.file, 0, 64 * MiB, by(index)),
    ),
  );
  reads.catch(() => undefined);
  await settle();
  const flightsMax = 64;
  const most = crowd + 4 * flightsMax;
  assert.ok(plans.mock.callCount() <= most, `${plans.mock.callCount()} plans`);
  assert.equal(it.engine.flights().length, 16, 'one waiter has no more at a time');
  it.remote.open();
  await reads;
  assert.ok(it.file.residency.complete);
  // Each is planned to its end once more, when one has come so far.
  assert.ok(plans.mock.callCount() <= most + crowd, `${plans.mock.callCount()} plans`);
});

test('who waits for less, or for another file, goes on although others who came before cannot', async () => {
  await using it = scene(64 * MiB, { limits: { flightsPerWaiterMax: 1, rangeMaxBytes: MiB } });
  const whole = [1, 2].map((pid) => it.engine.ensure(it.file, 0, 64 * MiB, by(pid)));
  const end = it.engine.ensure(it.file, 60 * MiB, 4 * MiB, by(3));
  await settle();
  const asked = (): number[] => it.remote.seen.map(({ offsetBytes }) => offsetBytes / MiB);
  assert.deepEqual(asked(), [0, 60]);
  it.remote.grant(1, MiB);
  await settle();
  assert.deepEqual(asked(), [0, 60, 61]);
  it.remote.open();
  await Promise.all([...whole, end]);
  assert.ok(it.file.residency.complete);
});
