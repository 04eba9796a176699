/** Requests that daemons die of: counted over their deaths, given up after the third, and nobody else's. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { deathsMax, RequestJournal, requestJournalBytes } from '../../src/mount/request-journal.ts';

test('a request that is being handled at three deaths is not tried again, however the daemons died', () => {
  const memory = new ArrayBuffer(requestJournalBytes);
  new RequestJournal(memory, false).begin(7, false);
  for (let death = 1; death < deathsMax; death += 1) {
    assert.equal(new RequestJournal(memory, false).begin(7, true), true, `death ${death}`);
  }
  const last = new RequestJournal(memory, false);
  assert.equal(last.begin(7, true), false);
  assert.equal(last.begin(8, true), true);
});

test('somebody kills daemons all the time: what waits for an answer is no suspect', () => {
  const memory = new ArrayBuffer(requestJournalBytes);
  for (let death = 0; death < 100; death += 1) {
    const journal = new RequestJournal(memory, false);
    for (const unique of [2, 4, 6]) {
      assert.equal(journal.begin(unique, death > 0), true);
      journal.end();
    }
  }
});

test('memory of another layout says nothing', () => {
  const memory = new ArrayBuffer(requestJournalBytes);
  new Float64Array(memory).fill(9);
  const journal = new RequestJournal(memory, true);
  assert.equal(journal.begin(9, true), true);
});

/** One daemon's life: what it was given (redelivered first), what of it it answered, and how it died. */
interface Life {
  readonly fresh: number;
  readonly answered: readonly number[];
  readonly failed: boolean;
  /** Whether it died while it handled the last request. */
  readonly amidst: boolean;
}

const life: fc.Arbitrary<Life> = fc.record({
  fresh: fc.nat(3),
  answered: fc.array(fc.nat(20), { maxLength: 4 }),
  failed: fc.boolean(),
  amidst: fc.boolean(),
});

test('any lives of daemons: given up is what was in hand at three deaths, and nothing else', () => {
  fc.assert(
    fc.property(fc.array(life, { maxLength: 12 }), (lives) => {
      const memory = new ArrayBuffer(requestJournalBytes);
      const deaths = new Map<number, number>();
      let waiting: number[] = [];
      let nextUnique = 2;
      let failed = false;
      for (const { fresh, answered, failed: fails, amidst } of lives) {
        const journal = new RequestJournal(memory, failed);
        const given = [...waiting];
        waiting = [];
        for (const unique of given) {
          const allowed = journal.begin(unique, true);
          assert.equal(allowed, (deaths.get(unique) ?? 0) < deathsMax);
          if (allowed) waiting.push(unique);
          journal.end();
        }
        for (let count = 0; count < fresh; count += 1, nextUnique += 2) {
          assert.equal(journal.begin(nextUnique, false), true);
          waiting.push(nextUnique);
          journal.end();
        }
        waiting = waiting.filter((_unique, index) => !answered.includes(index));
        const last = amidst ? waiting.at(-1) : undefined;
        if (last !== undefined) journal.begin(last, false);
        for (const unique of waiting) {
          if (last === undefined ? fails : unique === last)
            deaths.set(unique, (deaths.get(unique) ?? 0) + 1);
        }
        failed = fails;
      }
    }),
    { numRuns: Number(process.env['EBB_RUNS'] ?? 200) },
  );
});
