/** Listings that are entered in parts come to the same as those that are entered whole. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeName, encodeName } from '../../src/base/name.ts';
import { NodeKind, ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import type { Node } from '../../src/catalog/catalog.ts';
import { MemoryCatalog } from '../../src/catalog/memory/catalog.ts';
import { ListingEntry } from '../../src/recall/namespace/listing-entry.ts';
import type { ListingChanges } from '../../src/recall/namespace/listing-entry.ts';
import { newNode } from '../../src/recall/namespace/reconcile.ts';
import type { ListedObject } from '../../src/remote/remote.ts';

const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];

const object = fc.record({ kind: fc.constantFrom('file', 'directory'), version: fc.nat(2) });
/** A subset of the names, in any order, each with what it is. */
const listing = fc
  .tuple(fc.shuffledSubarray(names), fc.array(object, { minLength: 8, maxLength: 8 }))
  .map(([chosen, facts]) =>
    chosen.map((name, index): ListedObject => {
      const { kind, version } = facts[index] ?? { kind: 'file', version: 0 };
      if (kind === 'directory') return { name, kind };
      const mtime = { seconds: 1_000 + version, nanoseconds: 0 };
      return { name, kind: 'file', sizeBytes: version, mtime, version: `v${version}` };
    }),
  );
const cuts = fc.array(fc.nat(8), { maxLength: 4 });

function rootOf(catalog: MemoryCatalog): Node {
  const root = catalog.node(ROOT_NODE_ID);
  assert.ok(root);
  return root;
}

function inParts(listed: readonly ListedObject[], at: readonly number[]): ListedObject[][] {
  const ends = [...new Set(at)].filter((end) => end < listed.length).sort((a, b) => a - b);
  return [0, ...ends].map((start, index) => listed.slice(start, ends[index] ?? listed.length));
}

/** Enters a listing; with `complete` false it breaks off before its last part. */
function enter(
  catalog: MemoryCatalog,
  parts: readonly (readonly ListedObject[])[],
  nowMs: number,
  complete = true,
): ListingChanges {
  const entry = new ListingEntry(catalog, rootOf(catalog), nowMs, () => nowMs);
  for (const part of parts.slice(0, -1)) entry.part(part);
  if (!complete) return entry.changes;
  for (const outcome of entry.finish(parts.at(-1) ?? [])) assert.ok(outcome);
  return entry.changes;
}

/** By the rows alone. */
function changesBetween(before: readonly Node[], now: readonly Node[]): ListingChanges {
  const had = new Map(before.map(({ name, id }) => [decodeName(name), id]));
  const has = new Map(now.map(({ name, id }) => [decodeName(name), id]));
  const stayed = [...has].filter(([name]) => had.has(name));
  return {
    new: has.size - stayed.length,
    updated: stayed.filter(([name, id]) => had.get(name) !== id).length,
    gone: had.size - stayed.length,
    unsure: 0,
  };
}

function shown(catalog: MemoryCatalog): string[] {
  const children = catalog.children(ROOT_NODE_ID, 0, 100);
  return children.map(({ name, kind, version }) => `${decodeName(name)} ${kind} ${version}`).sort();
}

function idsOf(catalog: MemoryCatalog): Map<string, number> {
  const children = catalog.children(ROOT_NODE_ID, 0, 100);
  return new Map(
    children.map(({ name, kind, version, id }) => [`${decodeName(name)} ${kind} ${version}`, id]),
  );
}

test('listings in parts: the names are those of the listing, and what did not change keeps its id', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(listing, cuts), { minLength: 1, maxLength: 5 }), (listings) => {
      const parted = new MemoryCatalog();
      const whole = new MemoryCatalog();
      let nowMs = 1_000;
      for (const [listed, at] of listings) {
        nowMs += 1_000;
        const before = idsOf(parted);
        const rows = parted.children(ROOT_NODE_ID, 0, 100);
        const changes = enter(parted, inParts(listed, at), nowMs);
        assert.deepEqual(changes, changesBetween(rows, parted.children(ROOT_NODE_ID, 0, 100)));
        assert.deepEqual(enter(whole, [listed], nowMs), changes);
        assert.deepEqual(shown(parted), shown(whole));
        for (const [what, id] of idsOf(parted)) {
          if (before.has(what)) assert.equal(id, before.get(what), what);
        }
        assert.equal(rootOf(parted).listedAtMs, nowMs);
      }
    }),
  );
});

test('a listing in parts that breaks off takes no name away, and the directory is not listed by it', () => {
  fc.assert(
    fc.property(listing, listing, cuts, (first, second, at) => {
      const catalog = new MemoryCatalog();
      enter(catalog, [first], 1_000);
      enter(catalog, inParts(second, at), 2_000, false);
      const left = new Set(
        catalog.children(ROOT_NODE_ID, 0, 100).map(({ name }) => decodeName(name)),
      );
      for (const { name } of first) assert.ok(left.has(name), name);
      assert.equal(rootOf(catalog).listedAtMs, 1_000);
      enter(catalog, [second], 3_000);
      assert.equal(shown(catalog).length, second.length);
    }),
  );
  const fresh = new MemoryCatalog();
  enter(fresh, [[{ name: 'a', kind: 'directory' }], []], 1_000, false);
  assert.equal(rootOf(fresh).listedAtMs, 0, 'a first listing that broke off is none');
});

test('files whose times a listing tells to be others may have changed: they are counted as such', () => {
  const catalog = new MemoryCatalog();
  const mtime = { seconds: 1_234, nanoseconds: 0 };
  const exact: ListedObject[] = ['a', 'b'].map((name) => ({
    name,
    kind: 'file',
    sizeBytes: 1,
    mtime,
    version: 'v1',
  }));
  enter(catalog, [exact], 1_000);
  const rounded = [1_200, 1_260].map((seconds, at): ListedObject => {
    return { name: 'ab'[at] ?? '', kind: 'file', roundedMtime: { seconds, nanoseconds: 0 } };
  });
  const changes = enter(catalog, [rounded], 2_000);
  assert.deepEqual(changes, { new: 0, updated: 0, gone: 0, unsure: 1 });
});

test('a file that is asked about while a long listing comes stays, under its new id', () => {
  const catalog = new MemoryCatalog();
  const file = (name: string, version: number): ListedObject => {
    const mtime = { seconds: version, nanoseconds: 0 };
    return { name, kind: 'file', sizeBytes: version, mtime, version: `v${version}` };
  };
  enter(catalog, [[file('a', 1), file('gone', 1)]], 1_000);
  const entry = new ListingEntry(catalog, rootOf(catalog), 2_000, () => 3_000);
  entry.part([file('a', 1)]);
  const known = catalog.child(ROOT_NODE_ID, encodeName('a'));
  assert.ok(known);
  const fresh = newNode(ROOT_NODE_ID, known.name, NodeKind.file, file('a', 2), 2_500, true);
  const replaced = catalog.replaceNode(known.id, fresh);
  const outcomes = [...entry.finish([file('b', 1)])];
  assert.deepEqual(shown(catalog), ['a 1 v2', 'b 1 v1']);
  assert.equal(catalog.child(ROOT_NODE_ID, encodeName('a'))?.id, replaced.id);
  const gone = outcomes.flatMap((outcome) => outcome.gone.map(({ name }) => decodeName(name)));
  assert.deepEqual(gone, ['gone']);
});

test('a listing in parts counts as of when it was complete, its files as of when they were told', () => {
  const catalog = new MemoryCatalog();
  let nowMs = 1_000;
  const file = (name: string): ListedObject => {
    const mtime = { seconds: 1, nanoseconds: 0 };
    return { name, kind: 'file', sizeBytes: 1, mtime, version: 'v1' };
  };
  const entry = new ListingEntry(catalog, rootOf(catalog), nowMs, () => nowMs);
  nowMs = 50_000;
  entry.part([file('a')]);
  nowMs = 90_000;
  for (const outcome of entry.finish([file('b')])) assert.ok(outcome);
  assert.equal(rootOf(catalog).listedAtMs, 90_000);
  const checked = catalog.children(ROOT_NODE_ID, 0, 10).map(({ checkedAtMs }) => checkedAtMs);
  assert.deepEqual(checked, [1_000, 50_000]);
});
