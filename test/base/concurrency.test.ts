import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import fc from 'fast-check';
import { backoffMs } from '../../src/base/backoff.ts';
import { Batches } from '../../src/base/batches.ts';
import { deadline, endedWithin, sleep } from '../../src/base/deadline.ts';
import { ebbError } from '../../src/base/errors.ts';
import { Semaphore } from '../../src/base/semaphore.ts';
import type { Permit } from '../../src/base/semaphore.ts';

const listenerCount = (signal: AbortSignal): number => getEventListeners(signal, 'abort').length;
const timerCount = (): number =>
  process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;

test('a deadline fires with ETIMEDOUT', async () => {
  using limit = deadline(5, undefined, 'The remote was too slow.');
  await new Promise((resolve) => limit.signal.addEventListener('abort', resolve));
  assert.equal(limit.signal.reason.code, 'ETIMEDOUT');
  assert.equal(limit.signal.reason.message, 'The remote was too slow.');
});

test('a deadline passes on what its parent says, and leaves nothing behind', () => {
  const before = timerCount();
  const parent = new AbortController();
  const reason = ebbError('EINTR', 'Gave up.');
  {
    using limit = deadline(60_000, parent.signal);
    assert.equal(timerCount(), before + 1);
    parent.abort(reason);
    assert.equal(limit.signal.reason, reason);
    assert.equal(timerCount(), before);
    using late = deadline(60_000, parent.signal);
    assert.equal(late.signal.reason, reason);
    assert.equal(timerCount(), before);
  }
  const other = new AbortController();
  const scope = deadline(60_000, other.signal);
  scope[Symbol.dispose]();
  assert.equal(listenerCount(other.signal), 0);
  assert.equal(timerCount(), before);
  other.abort();
  assert.equal(scope.signal.aborted, false);
  for (const unlimited of [undefined, Infinity]) {
    using limit = deadline(unlimited);
    assert.equal(timerCount(), before);
    assert.equal(limit.signal.aborted, false);
  }
});

test('a time limit above what timers can do does not fire at once', async () => {
  using limit = deadline(2 ** 40);
  await sleep(5);
  assert.equal(limit.signal.aborted, false);
});

test('work is waited for until it has ended, or for so long, and no timer is left', async () => {
  const before = timerCount();
  await endedWithin(Promise.resolve(), 60_000);
  await assert.rejects(endedWithin(Promise.reject(ebbError('EIO', 'Failed.')), 60_000), {
    code: 'EIO',
  });
  // However long: Node would fire at once.
  const work = Promise.withResolvers<void>();
  let ended = false;
  const waiting = endedWithin(work.promise, 2 ** 40).then(() => {
    ended = true;
  });
  await sleep(5);
  assert.equal(ended, false);
  work.resolve();
  await waiting;
  const failing = Promise.withResolvers<void>();
  await endedWithin(failing.promise, 1);
  failing.reject(ebbError('EIO', 'Failed too late for anybody.'));
  assert.equal(timerCount(), before);
});

test('sleep ends early with the reason of its signal', async () => {
  const before = timerCount();
  const controller = new AbortController();
  const sleeping = sleep(60_000, controller.signal);
  controller.abort(ebbError('EINTR', 'Gave up.'));
  await assert.rejects(sleeping, { code: 'EINTR' });
  await assert.rejects(sleep(60_000, controller.signal), { code: 'EINTR' });
  assert.equal(timerCount(), before);
  const unused = new AbortController();
  await sleep(1, unused.signal);
  assert.equal(listenerCount(unused.signal), 0);
});

test('a semaphore serves the urgent first, equals in order, and never too many', async () => {
  const semaphore = new Semaphore({ permits: 1, waitersMax: 10 });
  const first = await semaphore.acquire();
  const served: string[] = [];
  const use = async (name: string, priority: number): Promise<void> => {
    using _permit = await semaphore.acquire({ priority });
    served.push(name);
    await sleep(1);
  };
  const all = [use('late', 5), use('a', 1), use('b', 1), use('urgent', 0), use('c', 1)];
  assert.equal(semaphore.waiting, 5);
  assert.equal(semaphore.tryAcquire(), undefined);
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  await Promise.all(all);
  assert.deepEqual(served, ['urgent', 'a', 'b', 'c', 'late']);
  assert.equal(semaphore.free, 1);
});

test('a semaphore refuses when too many wait, and forgets who gave up', async () => {
  const semaphore = new Semaphore({ permits: 1, waitersMax: 2 });
  const held = semaphore.tryAcquire();
  assert.ok(held !== undefined);
  const controller = new AbortController();
  const impatient = semaphore.acquire({ signal: controller.signal });
  const patient = semaphore.acquire();
  await assert.rejects(semaphore.acquire(), { code: 'EBUSY', retryable: true });
  controller.abort(ebbError('EINTR', 'Gave up.'));
  await assert.rejects(impatient, { code: 'EINTR' });
  await assert.rejects(semaphore.acquire({ signal: controller.signal }), { code: 'EINTR' });
  assert.equal(semaphore.waiting, 1);
  held[Symbol.dispose]();
  (await patient)[Symbol.dispose]();
  assert.equal(semaphore.free, 1);
});

test('permits are conserved whatever happens', async () => {
  const steps = fc.array(fc.constantFrom('acquire', 'abort', 'release'), { maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 3 }), steps, async (permits, list) => {
      const semaphore = new Semaphore({ permits, waitersMax: 100 });
      const held: Permit[] = [];
      const controllers: AbortController[] = [];
      const calls: Promise<unknown>[] = [];
      for (const step of list) {
        if (step === 'acquire') {
          const controller = new AbortController();
          controllers.push(controller);
          const call = semaphore.acquire({ signal: controller.signal });
          calls.push(call.then((permit) => held.push(permit)).catch(() => 0));
        } else if (step === 'abort') controllers.pop()?.abort();
        else held.shift()?.[Symbol.dispose]();
        await Promise.resolve();
        assert.ok(held.length <= permits);
      }
      while (semaphore.waiting > 0 || held.length > 0) {
        held.shift()?.[Symbol.dispose]();
        await Promise.resolve();
      }
      await Promise.all(calls);
      for (const permit of held) permit[Symbol.dispose]();
      assert.equal(semaphore.free, permits);
      assert.equal(semaphore.waiting, 0);
    }),
    { numRuns: 300 },
  );
});

test('backoff: doubles to a cap, full jitter, never before Retry-After', () => {
  const highest = (attempt: number, retryAfterMs?: number): number =>
    backoffMs({ attempt, baseMs: 100, maxMs: 1000, random: () => 1, retryAfterMs });
  assert.deepEqual(
    [0, 1, 2, 3, 4, 50, 5000].map((attempt) => highest(attempt)),
    [100, 200, 400, 800, 1000, 1000, 1000],
  );
  assert.equal(backoffMs({ attempt: 3, baseMs: 100, maxMs: 1000, random: () => 0 }), 0);
  assert.equal(highest(0, 5000), 5100);
  fc.assert(
    fc.property(
      fc.nat(100),
      fc.double({ min: 0, max: 0.999, noNaN: true }),
      fc.nat(),
      (n, r, ms) => {
        const waitMs = backoffMs({
          attempt: n,
          baseMs: 50,
          maxMs: 30_000,
          random: () => r,
          retryAfterMs: ms,
        });
        assert.ok(waitMs >= ms && waitMs <= ms + 30_000);
      },
    ),
  );
});

test('what is asked for in one turn is one piece of work, and each gets his own result', async () => {
  const batches: number[][] = [];
  const squares = new Batches<number, number>(async (items) => {
    batches.push([...items]);
    await sleep(1);
    if (items.includes(13)) throw ebbError('EIO', 'no thirteen');
    return items.map((item) => item * item);
  });
  assert.deepEqual(await Promise.all([1, 2, 3].map((item) => squares.add(item))), [1, 4, 9]);
  const failed = await Promise.allSettled([squares.add(13), squares.add(4)]);
  assert.deepEqual(
    failed.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  assert.equal(await squares.add(5), 25);
  assert.deepEqual(batches, [[1, 2, 3], [13, 4], [5]]);
});
