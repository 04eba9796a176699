/** READDIR over the catalog: everything once, in order, whatever size the answers have. */
import assert from 'node:assert/strict';
import { fstatSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { NodeKind, ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import type { Node } from '../../src/catalog/catalog.ts';
import { MemoryCatalog } from '../../src/catalog/memory/catalog.ts';
import { FOPEN_CACHE_DIR, FOPEN_KEEP_CACHE } from '../../src/fuse/constants.ts';
import { DirectoryReader } from '../../src/mount/directory-reader.ts';
import { DirectoryScans } from '../../src/mount/directory-scans.ts';
import { ScanLog, scanLogMaxBytes } from '../../src/mount/scan-log.ts';
import { createMemoryFile } from '../../src/sys/memory-file.ts';
import { Generations } from '../../src/mount/generations.ts';
import { NodeView } from '../../src/mount/node-view.ts';
import { FakeKernel } from './fake-call.ts';
import type { ListedEntry } from './fake-call.ts';
import { fileRow, listRoot } from './rows.ts';

const generations = new Generations(new Uint8Array(16));
const defaults = { fileMode: 0o444, directoryMode: 0o555, uid: 0, gid: 0, startedAtSeconds: 1 };

function setUp(names: readonly string[]): { catalog: MemoryCatalog; reader: DirectoryReader } {
  const catalog = new MemoryCatalog();
  listRoot(
    catalog,
    1_000,
    names.map((name) => fileRow(name)),
  );
  const view = new NodeView(catalog, 60_000, () => 1_000);
  return { catalog, reader: new DirectoryReader(view, defaults, generations) };
}

function readAt(
  reader: DirectoryReader,
  offset: number,
  directoryEntries: number,
  plus = false,
): readonly ListedEntry[] {
  const call = new FakeKernel().call({ directoryEntries });
  reader.fill(call, ROOT_NODE_ID, 1, offset, plus);
  call.directoryDone();
  return call.expect('directory').entries;
}

function readAll(reader: DirectoryReader, entriesPerAnswer: number): ListedEntry[] {
  const all: ListedEntry[] = [];
  for (let offset = 0; ;) {
    const entries = readAt(reader, offset, entriesPerAnswer);
    const last = entries.at(-1);
    if (last === undefined) return all;
    all.push(...entries);
    offset = last.nextOffset;
  }
}

test('every name comes once, in order, in answers of any size', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 400 }),
      fc.integer({ min: 1, max: 300 }),
      (count, size) => {
        const names = Array.from({ length: count }, (_unused, index) => `file-${index}`);
        const { reader } = setUp(names);
        const found = readAll(reader, size);
        assert.deepEqual(
          found.map((entry) => entry.name),
          ['.', '..', ...names],
        );
        assert.ok(
          found.every((entry, index) => entry.nextOffset > (found[index - 1]?.nextOffset ?? 0)),
        );
      },
    ),
    { numRuns: 30 },
  );
});

test('a scan goes on rightly while names come and go', () => {
  const { catalog, reader } = setUp(['a', 'b', 'c', 'd']);
  const first = readAt(reader, 0, 4);
  assert.deepEqual(
    first.map((entry) => entry.name),
    ['.', '..', 'a', 'b'],
  );
  const [, b, c] = catalog.children(ROOT_NODE_ID, 0, 10);
  assert.ok(b && c);
  catalog.removeNode(b.id);
  catalog.removeNode(c.id);
  listRoot(catalog, 2_000, [fileRow('e')]);
  const rest = readAt(reader, first.at(-1)?.nextOffset ?? 0, 100);
  assert.deepEqual(
    rest.map((entry) => entry.name),
    ['d', 'e'],
  );
});

test('attributes come along only where they are exact', () => {
  const catalog = new MemoryCatalog();
  const view = new NodeView(catalog, 60_000, () => 1_000);
  const reader = new DirectoryReader(view, defaults, generations);
  listRoot(catalog, 1_000, [
    fileRow('exact', { sizeBytes: 7 }),
    fileRow('vague', { exact: false, sizeBytes: -1, version: null }),
    fileRow('link', { kind: NodeKind.symlink, target: Buffer.from('x'), version: null }),
  ]);
  const entries = readAt(reader, 0, 100, true);
  const entryOf = (name: string) => entries.find((one) => one.name === name)?.entry;
  assert.equal(entryOf('exact')?.attributes.sizeBytes, 7);
  assert.equal(entryOf('vague'), undefined);
  assert.equal(entryOf('link')?.attributes.sizeBytes, 1);
  assert.equal(entryOf('.'), undefined);
});

test('the kernel keeps the names of a directory from its second open on, until they change', () => {
  const { reader } = setUp(['a']);
  assert.equal(reader.openFlags(7), FOPEN_CACHE_DIR);
  assert.equal(reader.openFlags(7), FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE);
  reader.changed(7);
  assert.equal(reader.openFlags(7), FOPEN_CACHE_DIR);
});

test('a file that is replaced while its directory is read comes once', () => {
  const { catalog, reader } = setUp(['a', 'b', 'c']);
  const names = (entries: readonly ListedEntry[]): string[] => entries.map(({ name }) => name);
  const first = readAt(reader, 0, 3);
  assert.deepEqual(names(first), ['.', '..', 'a']);
  const [a, , c] = catalog.children(ROOT_NODE_ID, 0, 10);
  assert.ok(a && c);
  catalog.replaceNode(a.id, fileRow('a', { version: 'new' }));
  catalog.replaceNode(c.id, fileRow('c', { version: 'new' }));
  assert.deepEqual(names(readAt(reader, first.at(-1)?.nextOffset ?? 0, 100)), ['b', 'c']);
  // Rewound, it is another scan.
  assert.deepEqual(names(readAt(reader, 0, 100)).sort(), ['.', '..', 'a', 'b', 'c']);
});

test('property: scans remember no more names than allowed, and forget them when they are closed', () => {
  const child = (id: number, name: string): Node => ({ ...fileRow(name), id, listedAtMs: 0 });
  const step = fc.tuple(fc.integer({ min: 1, max: 4 }), fc.constantFrom('begin', 'give', 'close'));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const scans = new DirectoryScans({ namesMax: 10 });
      let id = 0;
      for (const [handle, what] of steps) {
        id += 1;
        if (what === 'begin') scans.begin(handle);
        else if (what === 'close') scans.close(handle);
        else scans.given(handle, child(id, `name ${id}`));
        assert.ok(scans.nameCount >= 0 && scans.nameCount <= 10);
      }
      for (let handle = 1; handle <= 4; handle += 1) scans.close(handle);
      assert.equal(scans.nameCount, 0);
      scans.begin(1);
      scans.given(1, child(1, 'x'));
      assert.equal(scans.isRepeated(1, child(2, 'x')), true);
      assert.equal(scans.isRepeated(1, child(1, 'x')), false);
    }),
  );
});

type Step =
  | { readonly kind: 'read'; readonly entries: number }
  | { readonly kind: 'replace'; readonly which: number }
  | { readonly kind: 'die'; readonly answering: boolean };

const scanStep: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant('read' as const), entries: fc.integer({ min: 1, max: 6 }) }),
  fc.record({ kind: fc.constant('replace' as const), which: fc.nat() }),
  fc.record({ kind: fc.constant('die' as const), answering: fc.boolean() }),
);

test('a scan goes on with a successor: whatever is replaced and whenever, each name comes once', () => {
  fc.assert(
    fc.property(fc.array(scanStep, { maxLength: 40 }), (steps) => {
      using memory = createMemoryFile('test');
      const catalog = new MemoryCatalog();
      const names = Array.from({ length: 20 }, (_unused, index) => `file-${index}`);
      listRoot(
        catalog,
        1_000,
        names.map((name) => fileRow(name)),
      );
      const view = new NodeView(catalog, 60_000, () => 1_000);
      let predecessors = 0;
      const daemon = (): DirectoryReader => {
        const scans = new DirectoryScans({
          predecessors: predecessors++,
          log: new ScanLog(memory.fd),
        });
        return new DirectoryReader(view, defaults, generations, scans);
      };
      let reader = daemon();
      const handle = reader.open();
      const read = (offset: number, directoryEntries: number): readonly ListedEntry[] => {
        const call = new FakeKernel().call({ directoryEntries });
        reader.fill(call, ROOT_NODE_ID, handle, offset, false);
        call.directoryDone();
        return call.expect('directory').entries;
      };
      const seen: string[] = [];
      let offset = 0;
      const take = (entries: readonly ListedEntry[]): void => {
        seen.push(...entries.map(({ name }) => name));
        offset = entries.at(-1)?.nextOffset ?? offset;
      };
      let version = 0;
      for (const step of steps) {
        if (step.kind === 'read') take(read(offset, step.entries));
        else if (step.kind === 'replace') {
          const children = catalog.children(ROOT_NODE_ID, 0, 100);
          const old = children[step.which % children.length];
          assert.ok(old);
          const name = Buffer.from(old.name).toString();
          catalog.replaceNode(old.id, fileRow(name, { version: `v${++version}` }));
        } else {
          // What it was about to answer nobody has seen.
          if (step.answering) read(offset, 4);
          reader = daemon();
        }
      }
      for (let count = -1; count !== seen.length;) {
        count = seen.length;
        take(read(offset, 5));
      }
      assert.deepEqual(seen.sort(), ['.', '..', ...names].sort());
      reader.close(handle);
      assert.deepEqual([...new ScanLog(memory.fd).restore()], []);
    }),
    { numRuns: Number(process.env['EBB_PROPERTY_RUNS'] ?? 200) },
  );
});

test('the log of scans is written anew when it is full, with what is going on', () => {
  using memory = createMemoryFile('test');
  const child = (id: number, name: string): Node => ({ ...fileRow(name), id, listedAtMs: 0 });
  const scans = new DirectoryScans({ log: new ScanLog(memory.fd) });
  scans.begin(1);
  scans.given(1, child(1, 'x'));
  const long = 'n'.repeat(250);
  for (let handle = 2; handle < 80; handle += 1) {
    scans.begin(handle);
    for (let id = 2; id < 1_000; id += 1)
      scans.given(handle, child(id, `${long}${id}`.slice(-255)));
    scans.flush();
    scans.close(handle);
  }
  assert.ok(fstatSync(memory.fd).size <= scanLogMaxBytes + 1024 * 1024, 'it grows without end');
  const successor = new DirectoryScans({ predecessors: 1, log: new ScanLog(memory.fd) });
  assert.equal(successor.nameCount, 1);
  successor.goOn(1, 5);
  assert.equal(successor.isRepeated(1, child(9, 'x')), true);
});
