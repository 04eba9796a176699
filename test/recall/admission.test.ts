/** Which flight goes next: classes, turns, reserved slots, budgets. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Admission } from '../../src/recall/admission.ts';
import { BufferPool } from '../../src/recall/buffer-pool.ts';
import { intentRank, intentsByRank } from '../../src/recall/limits.ts';
import type { Intent } from '../../src/recall/recall.ts';

interface TestTicket {
  intent: Intent;
  readonly requester: { readonly pid: number };
  readonly lengthBytes: number;
}

const limits = {
  parallelRequestsMax: 8,
  demandReservedRequests: 2,
  bytesInFlightMax: 1000,
  queuedFlightsMax: 100,
};

function ticket(intent: Intent, pid = 1, lengthBytes = 1): TestTicket {
  return { intent, requester: { pid }, lengthBytes };
}

test('classes go in order, requesters of a class take turns', () => {
  const admission = new Admission<TestTicket>(limits);
  for (let index = 0; index < 3; index += 1) admission.add(ticket('prefetch', 9));
  for (let index = 0; index < 3; index += 1) admission.add(ticket('demand', 1));
  admission.add(ticket('demand', 2));
  admission.add(ticket('readahead', 3));
  const order: string[] = [];
  for (let next = admission.next(0, 0); next !== undefined; next = admission.next(0, 0)) {
    order.push(`${next.intent} ${next.requester.pid}`);
  }
  assert.deepEqual(order, [
    'demand 1',
    'demand 2',
    'demand 1',
    'demand 1',
    'readahead 3',
    'prefetch 9',
    'prefetch 9',
    'prefetch 9',
  ]);
  assert.equal(admission.size, 0);
});

test('the last slots are for demand', () => {
  const startable = (intent: Intent, active: number): boolean => {
    const admission = new Admission<TestTicket>(limits);
    admission.add(ticket(intent));
    return admission.next(active, 0) !== undefined;
  };
  assert.deepEqual(
    intentsByRank.map((intent) => [5, 6, 8].map((active) => startable(intent, active - 1))),
    [
      [true, true, true],
      [true, true, false],
      [true, true, false],
      [true, false, false],
    ],
  );
});

test('with one slot everything still goes through', () => {
  const admission = new Admission<TestTicket>({ ...limits, parallelRequestsMax: 1 });
  for (const intent of intentsByRank) admission.add(ticket(intent));
  for (const intent of intentsByRank) assert.equal(admission.next(0, 0)?.intent, intent);
});

test('the byte budget holds, but one request may always go', () => {
  const admission = new Admission<TestTicket>(limits);
  admission.add(ticket('demand', 1, 5000));
  assert.equal(admission.next(1, 10), undefined);
  assert.equal(admission.next(0, 0)?.lengthBytes, 5000);
});

test('a promoted ticket goes with its new class', () => {
  const admission = new Admission<TestTicket>(limits);
  const late = ticket('prefetch', 5);
  admission.add(ticket('readahead', 1));
  admission.add(late);
  admission.promote(late, 'demand');
  assert.equal(admission.next(0, 0), late);
  admission.promote(late, 'get');
  assert.equal(late.intent, 'demand', 'never demoted');
});

test('a part of the queue is kept for demand; the newest of the worst class goes first', () => {
  const admission = new Admission<TestTicket>(limits);
  while (admission.room('get') > 0) admission.add(ticket('get'));
  assert.equal(admission.size, 75);
  assert.equal(admission.room('demand'), 25);
  assert.equal(admission.worst(() => true)?.intent, 'get');
  assert.equal(
    admission.worst(() => false),
    undefined,
  );
});

test('any order of calls: nothing is lost, nothing comes twice, maximums are kept', () => {
  const operation = fc.record({
    kind: fc.constantFrom('add', 'add', 'next', 'promote', 'remove'),
    intent: fc.constantFrom(...intentsByRank),
    pid: fc.nat(3),
    pick: fc.nat(),
  });
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 200 }), (operations) => {
      const admission = new Admission<TestTicket>({ ...limits, queuedFlightsMax: 20 });
      const queued = new Set<TestTicket>();
      for (const { kind, intent, pid, pick } of operations) {
        const chosen = [...queued][pick % Math.max(1, queued.size)];
        if (kind === 'add' && admission.room(intent) > 0) {
          const added = ticket(intent, pid);
          admission.add(added);
          queued.add(added);
        } else if (kind === 'promote' && chosen !== undefined) {
          admission.promote(chosen, intent);
        } else if (kind === 'remove' && chosen !== undefined) {
          assert.equal(admission.remove(chosen), true);
          assert.equal(admission.remove(chosen), false);
          queued.delete(chosen);
        } else if (kind === 'next') {
          const next = admission.next(0, 0);
          assert.equal(next === undefined, queued.size === 0);
          if (next === undefined) continue;
          assert.ok(queued.delete(next));
          for (const other of queued) {
            assert.ok(intentRank[next.intent] <= intentRank[other.intent]);
          }
        }
        assert.equal(admission.size, queued.size);
        assert.ok(admission.size <= 20);
      }
    }),
  );
});

test('the buffer pool keeps its maximum and serves in order', async () => {
  const pool = new BufferPool(4096, 8192, 1);
  const first = await pool.take();
  const second = await pool.take();
  assert.equal(pool.tryTake(), undefined);
  const order: number[] = [];
  const third = pool.take().then((buffer) => (order.push(3), buffer));
  const fourth = pool.take().then((buffer) => (order.push(4), buffer));
  pool.give(first);
  assert.equal(await third, first);
  pool.discard();
  assert.notEqual(await fourth, second, 'a discarded buffer is never used again');
  assert.deepEqual(order, [3, 4]);
  assert.equal(pool.taken, 2);
  pool.give(await third);
  pool.give(await fourth);
  assert.equal(pool.idle, 2);
});

test('the buffer pool gives back what nobody has needed since it looked last, the oldest first', async () => {
  const pool = new BufferPool(4096, 4 * 4096, 1);
  const buffers = await Promise.all([pool.take(), pool.take(), pool.take(), pool.take()]);
  for (const buffer of buffers) pool.give(buffer);
  pool.trimUnused(0);
  assert.equal(pool.idle, 4, 'they were needed since the beginning');
  const again = [pool.tryTake(), pool.tryTake()];
  assert.deepEqual(again, [buffers[3], buffers[2]], 'what was used last is taken first');
  pool.give(buffers[2]);
  pool.give(buffers[3]);
  pool.trimUnused(0);
  assert.equal(pool.heldBytes, 2 * 4096);
  const lengths = buffers.map((buffer) => buffer.length);
  assert.deepEqual(lengths, [0, 0, 4096, 4096], 'what is given back is free at once');
  pool.trimUnused(1);
  assert.deepEqual([pool.idle, pool.tryTake()], [1, buffers[3]], 'as many stay as were asked for');
});
