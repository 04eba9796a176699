/** What every catalog of stubs must do: one suite over the SQLite one and the model. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { namesakeReach, siblingReach } from '../../src/catalog/stub-catalog.ts';
import type { StubCatalog, StubRecord } from '../../src/catalog/stub-catalog.ts';

export interface StubCatalogFixture extends Disposable {
  readonly catalog: StubCatalog;
}

export function handleOfStub(number: number): Uint8Array {
  return Uint8Array.of(1, 0, 0, 0, number & 255, number >>> 8, 0, 0, 9, 9, 9, 9);
}

export function stubRecord(id: number, change: Partial<StubRecord> = {}): StubRecord {
  return {
    id,
    handle: handleOfStub(id),
    key: `dir/file-${id}`,
    version: 'v1',
    sizeBytes: 100,
    mtimeSeconds: 1,
    mtimeNanoseconds: 2,
    chunkBytes: 4_096,
    bitmap: Uint8Array.of(0),
    residentBytes: 0,
    complete: false,
    change: 0,
    ctimeSeconds: 0,
    ctimeNanoseconds: 0,
    pinned: false,
    lost: false,
    accessedAtMs: 0,
    ...change,
  };
}

const here = { bitmap: Uint8Array.of(1), residentBytes: 100, complete: true };

/** Of two that are equally far the later one comes first. */
function nearTo(place: number): (a: number, b: number) => number {
  return (a, b) => Math.abs(a - place) - Math.abs(b - place) || b - a;
}

function ids(stubs: readonly StubRecord[]): number[] {
  return stubs.map(({ id }) => id);
}

/** SQLite gives rows of its own kind of object. */
function plain<Item extends object>(item: Item | undefined): Item | undefined {
  return item && { ...item };
}

export function stubCatalogConformance(kind: string, open: () => StubCatalogFixture): void {
  const check = (title: string, body: (catalog: StubCatalog) => void): void => {
    test(title, () => {
      using fixture = open();
      body(fixture.catalog);
    });
  };
  describe(`${kind} stub catalog`, () => {
    check('a record comes back as it was, by id, handle and key', (catalog) => {
      const odd = stubRecord(catalog.reserveIds(1), {
        key: 'd\udc80/\udcff',
        version: 'a\u0000b\udc80\ud800',
        handle: Uint8Array.of(0x81, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4),
        sizeBytes: Number.MAX_SAFE_INTEGER,
        mtimeSeconds: -62_135_596_800,
        mtimeNanoseconds: 999_999_999,
        change: 2,
        ctimeSeconds: 5,
        ctimeNanoseconds: 6,
        pinned: true,
        lost: true,
        accessedAtMs: 7,
        ...here,
      });
      const short = stubRecord(catalog.reserveIds(1), { handle: Uint8Array.of(1), key: '' });
      catalog.insert([odd, short]);
      for (const stub of [odd, short]) {
        assert.deepEqual(plain(catalog.get(stub.id)), stub);
        assert.deepEqual(plain(catalog.byHandle(stub.handle)), stub);
        assert.deepEqual(plain(catalog.byKey(stub.key)), stub);
        const { id, sizeBytes, residentBytes, change } = stub;
        assert.deepEqual(catalog.stateByHandle(stub.handle), {
          id,
          sizeBytes,
          residentBytes,
          change,
        });
      }
      assert.equal(catalog.get(99), undefined);
      assert.equal(catalog.byHandle(handleOfStub(99)), undefined);
      assert.equal(catalog.stateByHandle(handleOfStub(99)), undefined);
      assert.equal(catalog.byKey('dir'), undefined);
    });

    check('the youngest record of a key; a key is not another of the same hash', (catalog) => {
      const first = catalog.reserveIds(3);
      catalog.insert([
        stubRecord(first, { key: 'k', version: 'old' }),
        stubRecord(first + 1, { key: 'k', version: 'new' }),
        stubRecord(first + 2, { key: 'dir/k' }),
      ]);
      assert.equal(catalog.byKey('k')?.version, 'new');
      assert.equal(catalog.byKey('dir/k')?.id, first + 2);
    });

    check('all or nothing: a handle or id that is there is EEXIST', (catalog) => {
      const first = catalog.reserveIds(3);
      catalog.insert([stubRecord(first)]);
      for (const second of [
        stubRecord(first + 1, { handle: handleOfStub(first) }),
        stubRecord(first, { handle: handleOfStub(77) }),
      ]) {
        const batch = [stubRecord(first + 2), second];
        assert.throws(() => catalog.insert(batch), { name: 'EbbError', code: 'EEXIST' });
        assert.equal(catalog.get(first + 2), undefined);
      }
      assert.equal(catalog.totals().stubs, 1);
    });

    check('ids are never used again', (catalog) => {
      const first = catalog.reserveIds(100_000);
      const second = catalog.reserveIds(1);
      assert.ok(first >= 1 && second >= first + 100_000);
      catalog.insert([stubRecord(second)]);
      catalog.delete([second]);
      assert.ok(catalog.reserveIds(1) > second);
      catalog.continueIdsAfter(10_000_000);
      catalog.continueIdsAfter(5);
      const third = catalog.reserveIds(1);
      assert.ok(third > 10_000_000);
      // A rebuilt record has the id that its mark says.
      catalog.insert([stubRecord(third + 1_000_000)]);
      assert.ok(catalog.reserveIds(1) > third + 1_000_000);
    });

    check('changes reach the records that there are, and the totals', (catalog) => {
      const first = catalog.reserveIds(4);
      catalog.insert([0, 1, 2, 3].map((offset) => stubRecord(first + offset)));
      catalog.commitResidency([
        { id: first, ...here },
        { id: first + 1, bitmap: Uint8Array.of(7), residentBytes: 40, complete: false },
        { id: 999, ...here },
      ]);
      const changed = { change: 3, ctimeSeconds: 8, ctimeNanoseconds: 9 } as const;
      catalog.setChange([
        { id: first, ...changed },
        { id: 999, ...changed },
      ]);
      catalog.setPinned(first + 1, true);
      catalog.setLost(first + 1, true);
      catalog.touch(new Map([[first + 1, 44]]));
      assert.deepEqual(plain(catalog.get(first)), stubRecord(first, { ...here, ...changed }));
      const second = { pinned: true, lost: true, accessedAtMs: 44 };
      const partly = { bitmap: Uint8Array.of(7), residentBytes: 40 };
      const expected = stubRecord(first + 1, { ...second, ...partly });
      assert.deepEqual(plain(catalog.get(first + 1)), expected);
      assert.deepEqual(plain(catalog.totals()), {
        stubs: 4,
        complete: 1,
        dirty: 1,
        remoteBytes: 400,
        residentBytes: 140,
      });
      catalog.delete([first, 999]);
      assert.deepEqual(plain(catalog.totals()), {
        stubs: 3,
        complete: 0,
        dirty: 0,
        remoteBytes: 300,
        residentBytes: 40,
      });
    });

    check('least recently used: clean, here, not pinned; paged without gaps', (catalog) => {
      const first = catalog.reserveIds(8);
      catalog.insert([
        stubRecord(first, { ...here, accessedAtMs: 5 }),
        stubRecord(first + 1, { ...here, accessedAtMs: 3 }),
        stubRecord(first + 2, { ...here, accessedAtMs: 5 }),
        stubRecord(first + 3, { accessedAtMs: 1 }),
        stubRecord(first + 4, { ...here, accessedAtMs: 1, pinned: true }),
        stubRecord(first + 5, { ...here, accessedAtMs: 1, change: 1 }),
        stubRecord(first + 6, { ...here, accessedAtMs: 1, change: 3 }),
        stubRecord(first + 7, { ...here, accessedAtMs: -4 }),
      ]);
      const wanted = [first + 7, first + 1, first, first + 2];
      assert.deepEqual(ids(catalog.leastRecentlyUsed(undefined, 10)), wanted);
      const paged: number[] = [];
      for (let page = catalog.leastRecentlyUsed(undefined, 1); page.length > 0;) {
        paged.push(...ids(page));
        page = catalog.leastRecentlyUsed(page[0], 1);
      }
      assert.deepEqual(paged, wanted);
      assert.deepEqual(ids(catalog.page(first + 2, 3)), [first + 3, first + 4, first + 5]);
    });

    check('undecided: whom a writer was let into, as long as that is so', (catalog) => {
      const first = catalog.reserveIds(6);
      const changes = [1, 0, 2, 3, 1, 2] as const;
      catalog.insert(changes.map((change, at) => stubRecord(first + at, { change })));
      assert.deepEqual(catalog.undecided(0, 3), [first, first + 2, first + 4]);
      assert.deepEqual(catalog.undecided(first + 4, 3), [first + 5]);
      const times = { ctimeSeconds: 0, ctimeNanoseconds: 0 };
      catalog.setChange([
        { id: first, change: 0, ...times },
        { id: first + 1, change: 2, ...times },
        { id: first + 2, change: 3, ...times },
      ]);
      catalog.delete([first + 4]);
      assert.deepEqual(catalog.undecided(0, 10), [first + 1, first + 5]);
    });

    check(
      'siblings: small, clean, not here, of the same directory; the next ones first',
      (catalog) => {
        const first = catalog.reserveIds(3_000);
        const at = (offset: number, key: string, change: Partial<StubRecord> = {}): StubRecord =>
          stubRecord(first + offset, { key, ...change });
        catalog.insert([
          at(0, 'd/first'),
          at(1, 'd/sub/deeper'),
          at(2, 'd/here', here),
          at(3, 'd/large', { sizeBytes: 101 }),
          at(4, 'd/next'),
          at(10, 'd/asked'),
          at(11, 'e/other'),
          at(12, 'd/changed', { change: 3 }),
          at(13, 'd/lost', { lost: true }),
          at(14, 'd/empty', { sizeBytes: 0 }),
          at(15, 'd/partly', { residentBytes: 5 }),
          at(16, 'top'),
          at(20, 'd/last'),
          at(10 + siblingReach, 'd/just'),
          at(11 + siblingReach, 'd/too far'),
        ]);
        const ask = (limit: number): number[] =>
          catalog
            .siblings({ of: { id: first + 10, key: 'd/asked' }, sizeMaxBytes: 100, limit })
            .map((id) => id - first);
        assert.deepEqual(ask(10), [15, 20, 10 + siblingReach, 4, 0]);
        assert.deepEqual(ask(4), [15, 20, 10 + siblingReach, 4]);
        assert.deepEqual(ask(2), [15, 20]);
        const of = { id: first + 16, key: 'top' };
        assert.deepEqual(catalog.siblings({ of, sizeMaxBytes: 100, limit: 5 }), []);
      },
    );

    check('namesakes: small, clean, not here, of the same name; nearest first', (catalog) => {
      const first = catalog.reserveIds(20_000);
      const at = (offset: number, key: string, change: Partial<StubRecord> = {}): StubRecord =>
        stubRecord(first + offset, { key, ...change });
      catalog.insert([
        at(0, 'z/name'),
        at(1, 'a/name'),
        at(8, 'name'),
        at(11, 'b/name'),
        at(12, 'c/d/name', here),
        at(13, 'd/name', { change: 3 }),
        at(14, 'e/name', { lost: true }),
        at(15, 'f/name', { sizeBytes: 0 }),
        at(16, 'g/name', { sizeBytes: 101 }),
        at(17, 'h/other name'),
        at(18, 'name/other'),
        at(20, 'h/i/j/name', { residentBytes: 5 }),
        at(1 + namesakeReach, 'k/name'),
        at(10 + namesakeReach, 'l/name'),
        at(11 + namesakeReach, 'm/name'),
      ]);
      const ask = (offset: number, limit: number, name = 'name'): number[] => {
        const of = { id: first + offset, key: `x/${name}` };
        const found = catalog.namesakes({ of, sizeMaxBytes: 100, limit });
        return found.map((id) => id - first);
      };
      assert.deepEqual(ask(10, 2), [11, 8]);
      const all = [0, 1, 8, 11, 20, 1 + namesakeReach, 10 + namesakeReach];
      assert.deepEqual(ask(10, 9), all.toSorted(nearTo(10)));
      assert.deepEqual(ask(1 + namesakeReach, 1), [10 + namesakeReach]);
      assert.deepEqual(ask(10, 9, 'nobody'), []);
    });

    check('what users deleted stays known; so does what was listed, until forgotten', (catalog) => {
      const first = catalog.reserveIds(2);
      catalog.insert([
        stubRecord(first, { key: 'k\udcfe', version: 'v\u0000' }),
        stubRecord(first + 1),
      ]);
      catalog.setKnown([{ key: 'link', version: 'v2', id: first + 1 }]);
      catalog.bury([first, 999]);
      assert.equal(catalog.get(first), undefined);
      assert.equal(catalog.totals().stubs, 1);
      assert.deepEqual(catalog.known('k\udcfe'), { key: 'k\udcfe', version: 'v\u0000', id: 0 });
      assert.deepEqual(catalog.known('link'), { key: 'link', version: 'v2', id: first + 1 });
      assert.equal(catalog.known('other'), undefined);
      catalog.setKnown([{ key: 'link', version: 'v3', id: 0 }]);
      assert.deepEqual(catalog.known('link'), { key: 'link', version: 'v3', id: 0 });
      const listed = { key: 'd\udc80', listedAtMs: 5, attributes: '{}' };
      catalog.setListed([listed, { ...listed, key: '' }]);
      catalog.setListed([{ ...listed, listedAtMs: 6 }]);
      assert.deepEqual(catalog.listed('d\udc80'), { ...listed, listedAtMs: 6 });
      assert.deepEqual(catalog.listed(''), { ...listed, key: '' });
      catalog.forgetListed();
      assert.equal(catalog.listed(''), undefined);
      catalog.setSetting('s', '1');
      catalog.setSetting('s', '2');
      assert.equal(catalog.setting('s'), '2');
      assert.equal(catalog.setting('t'), undefined);
    });
  });
}
