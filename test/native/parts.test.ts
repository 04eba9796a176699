/** The small parts of the native front end that hold state: streams, gates, the table of known files. */
import type { StubChange } from '../../src/base/stub-facts.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FileGates } from '../../src/native/file-gates.ts';
import { KnownFiles } from '../../src/native/known-files.ts';
import { KnownState } from '../../src/native/messages.ts';
import type { ToThread } from '../../src/native/messages.ts';
import { SiblingCredit } from '../../src/native/sibling-credit.ts';
import type { SiblingSearch } from '../../src/native/sibling-credit.ts';
import { StreamFinder } from '../../src/native/stream-finder.ts';
import { Residency } from '../../src/tree/residency.ts';
import type { StubFile, StubStore } from '../../src/tree/stubs/stub-store.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

test('two readers of one file are two streams, each in its order; a jump begins another', () => {
  const finder = new StreamFinder(() => undefined);
  const front = finder.of(1, 10, 0, 128 * KiB);
  const back = finder.of(1, 20, 50 * MiB, 128 * KiB);
  assert.notEqual(front, back);
  for (let step = 1; step < 40; step += 1) {
    assert.equal(finder.of(1, 10, step * 128 * KiB, 128 * KiB), front);
    assert.equal(finder.of(1, 20, 50 * MiB + step * 128 * KiB, 128 * KiB), back);
  }
  // Threads of one program that take turns are one reader.
  assert.equal(finder.of(1, 11, 40 * 128 * KiB, 128 * KiB), front);
  assert.notEqual(finder.of(1, 10, 90 * MiB, 4 * KiB), front);
  assert.notEqual(finder.of(2, 10, 41 * 128 * KiB, 128 * KiB), front, 'another file');
});

test('property: streams are few, every one that goes is told, and an id means one file', () => {
  const read = fc.record({ file: fc.nat(1500), tid: fc.nat(3), at: fc.nat(40) });
  fc.assert(
    fc.property(fc.array(read, { maxLength: 3000 }), (reads) => {
      const ended = new Set<number>();
      const fileOf = new Map<number, number>();
      const finder = new StreamFinder((id) => {
        assert.ok(!ended.has(id));
        ended.add(id);
      });
      for (const { file, tid, at } of reads) {
        const id = finder.of(file, tid, at * 5 * MiB, 4096);
        assert.ok(!ended.has(id));
        assert.equal(fileOf.get(id) ?? file, file);
        fileOf.set(id, file);
      }
      assert.ok(fileOf.size - ended.size <= 8 * 1024);
      for (let file = 0; file <= 1500; file += 1) finder.forget(file);
      assert.equal(ended.size, fileOf.size);
    }),
    { numRuns: 20 },
  );
});

function foundOf(ids: readonly number[], count: number) {
  const isAll = ids.length < count;
  return { isAll, lastId: isAll ? undefined : ids.at(-1) };
}

test('property: what is brought of a directory for nothing is little, and who takes all of it gets all', () => {
  const step = fc.record({
    directory: fc.nat(2),
    file: fc.nat(200),
    afterMs: fc.constantFrom(0, 5, 2_000, 20_000),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const credit = new SiblingCredit();
      const here = new Set<number>();
      const states = [0, 1, 2].map(() => ({ misses: 0, missedAtMs: 0, uses: 0, brought: 0 }));
      let nowMs = 0;
      for (const { directory, file, afterMs } of steps) {
        nowMs += afterMs;
        const id = directory * 1_000 + file;
        const state = states[directory];
        assert.ok(state);
        const isUse = credit.isBrought(id);
        assert.ok(!isUse || here.has(id));
        let search: SiblingSearch | undefined;
        if (isUse) {
          state.uses += 1;
          search = credit.used(id);
          assert.ok(!credit.isBrought(id), 'a use counts once');
        } else if (here.has(id)) continue;
        else {
          state.misses = nowMs - state.missedAtMs > 10_000 ? 1 : state.misses + 1;
          state.missedAtMs = nowMs;
          search = credit.missed(`d${directory}/`, id, nowMs);
          here.add(id);
          assert.ok(search === undefined || state.misses >= 3, 'a directory proves itself');
        }
        if (search === undefined) continue;
        assert.ok(search.count >= 4 && search.count <= 64);
        const { afterId, count } = search;
        const found = Array.from({ length: 200 }, (_, at) => directory * 1_000 + at)
          .filter((one) => one > afterId && !here.has(one))
          .slice(0, count);
        credit.brought(`d${directory}/`, found, foundOf(found, count));
        for (const one of found) here.add(one);
        state.brought += found.length;
        assert.ok(state.brought <= 8 + 3 * state.uses, 'no more than two for each that was used');
      }
    }),
    { numRuns: 200 },
  );
  const credit = new SiblingCredit();
  const here = new Set<number>();
  let misses = 0;
  for (let id = 0; id < 1_000; id += 1) {
    const isMiss = !here.has(id);
    if (isMiss) misses += 1;
    const search = isMiss ? credit.missed('d/', id, id) : credit.used(id);
    if (search === undefined) continue;
    const all = Array.from({ length: 1_000 }, (_, one) => one);
    const found = all.filter((one) => one > search.afterId && !here.has(one));
    const near = found.slice(0, search.count);
    credit.brought('d/', near, foundOf(near, search.count));
    for (const one of near) here.add(one);
  }
  assert.equal(misses, 3);
});

test('what was found and is under way already does not end the search for siblings', () => {
  const credit = new SiblingCredit();
  for (const id of [1, 2]) assert.equal(credit.missed('d/', id, 0), undefined);
  const first = credit.missed('d/', 3, 0);
  assert.deepEqual(first, { afterId: 3, count: 8 });
  const found = [4, 5, 6, 7, 8, 9, 10, 11];
  credit.brought('d/', found.slice(0, 3), foundOf(found, 8));
  assert.deepEqual(credit.used(4), { afterId: 11, count: 8 }, 'two brought, one used');
});

test('a gate lets one work at a time, in order, and those who wait see it open', async () => {
  const gates = new FileGates();
  const done: string[] = [];
  const first = Promise.withResolvers<void>();
  const one = gates.alone(1, async () => {
    await first.promise;
    done.push('one');
  });
  const two = gates.alone(1, () => {
    done.push('two');
    return Promise.reject(new Error('no'));
  });
  const reader = gates.opened(1).then(() => done.push('reader'));
  await gates.alone(2, () => Promise.resolve(done.push('other file')));
  assert.ok(gates.isShut(1) && !gates.isShut(2));
  first.resolve();
  await one;
  await assert.rejects(two, /no/);
  await reader;
  assert.deepEqual(done, ['other file', 'one', 'two', 'reader']);
  assert.ok(!gates.isShut(1));
});

/** A file of ten chunks as the store would give it; what a table of known files looks at. */
function fakeFile(id: number): StubFile & { change: StubChange } {
  const residency = Residency.create(10 * 256 * KiB);
  const handle = new Uint8Array(new Int32Array([1, id]).buffer);
  return { id, key: `f${id}`, handle, residency, change: 0 } as unknown as StubFile & {
    change: StubChange;
  };
}

function table(filesMax?: number) {
  const posted: ToThread[] = [];
  let settled: Promise<void> = Promise.resolve();
  const store = {
    committed: () => settled,
    changedAt: () => ({ seconds: 1, nanoseconds: 0 }),
  } as unknown as StubStore;
  const known = new KnownFiles(store, (message) => posted.push(message), filesMax);
  const stateOf = (id: number): number => {
    const told = posted.findLast((each) => each.kind === 'know' && each.fileId === id);
    return told?.kind === 'know' ? Atomics.load(new Int32Array(told.state), 0) : -1;
  };
  const durableAfter = (until: Promise<void>): void => {
    settled = until;
  };
  return { known, posted, stateOf, durableAfter };
}

test('a file is settled when it is complete and that is durable, not before', async () => {
  const { known, stateOf, durableAfter } = table();
  const file = fakeFile(7);
  known.tell(file);
  known.tell(file);
  assert.equal(stateOf(7), KnownState.ranges);
  await known.settleComplete(7, () => undefined);
  assert.ok(!known.isSettled(7), 'it is not complete');
  file.residency.markResident(0, 10);
  const durable = Promise.withResolvers<void>();
  durableAfter(durable.promise);
  const settling = known.settleComplete(7, () => undefined);
  assert.equal(stateOf(7), KnownState.settling);
  await known.settleComplete(7, () => undefined);
  assert.equal(stateOf(7), KnownState.settling, 'who asks again does not wait');
  durable.resolve();
  await settling;
  assert.equal(stateOf(7), KnownState.settled);
  known.unsettle(7);
  durableAfter(Promise.reject(new Error('the store is closed')));
  await assert.rejects(
    known.settleComplete(7, () => undefined),
    /closed/,
  );
  assert.equal(stateOf(7), KnownState.ranges);
});

test('a release between completeness and its record leaves the file unsettled', async () => {
  const { known, stateOf, durableAfter } = table();
  const file = fakeFile(7);
  known.tell(file);
  file.residency.markResident(0, 10);
  const durable = Promise.withResolvers<void>();
  durableAfter(durable.promise);
  const settling = known.settleComplete(7, () => undefined);
  known.unsettle(7);
  file.residency.clear();
  // All here again, but that is another claim than the one that became durable.
  file.residency.markResident(0, 10);
  durable.resolve();
  await settling;
  assert.equal(stateOf(7), KnownState.ranges);
});

test('a file that main forgets is dead for the thread at once, whoever has the word', () => {
  const { known, posted, stateOf } = table(3);
  for (let id = 1; id <= 4; id += 1) known.tell(fakeFile(id));
  assert.equal(known.size, 3);
  assert.equal(stateOf(1), KnownState.dead);
  assert.equal(posted.filter((message) => message.kind === 'forget').length, 1);
  const again = fakeFile(2);
  known.tell(again);
  assert.equal(stateOf(2), KnownState.ranges, 'another object of the same file is told anew');
  known.settleChanged(again);
  assert.equal(stateOf(2), KnownState.settled);
  known.unsettle(2);
  assert.equal(stateOf(2), KnownState.ranges);
});
