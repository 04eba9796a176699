/** Catalogs whose bytes were changed: SQLite has no checksums, and reads what it finds. */
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';

import { EbbError } from '../../src/base/errors.ts';
import { ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import { openSqliteCatalog } from '../../src/catalog/sqlite/catalog.ts';
import { ascending, ascendingByUse } from '../../src/catalog/sqlite/sound-rows.ts';
import { openSqliteStubCatalog } from '../../src/catalog/stubs-sqlite/catalog.ts';
import { allStubs } from '../../src/daemon/native/stubs.ts';
import { leastRecentlyUsed } from '../../src/daemon/pages.ts';
import { stubRecord } from '../attach/stub-record.ts';
import { insert, newContent, newDirectory, newNode } from '../conformance/catalog-fixtures.ts';
import { temporaryDirectory } from '../tree/support/cache.ts';

const damaged = { code: 'EUCLEAN', message: /is damaged .* run `ebb rebuild`/s };

function stubs(file: string): void {
  using catalog = openSqliteStubCatalog(file);
  const first = catalog.reserveIds(300);
  catalog.insert(
    Array.from({ length: 300 }, (_, at) => {
      const handle = Uint8Array.of(1, 0, 0, 0, at & 255, at >> 8, 0, 0, 7, 7);
      const [key, residentBytes] = [`directory-${at % 7}/name-${at}`, at % 3];
      return stubRecord({ id: first + at, handle, key, residentBytes, accessedAtMs: at % 5 });
    }),
  );
}

function readStubs(file: string): void {
  using catalog = openSqliteStubCatalog(file);
  for (const page of allStubs(catalog)) {
    for (const { key, handle } of page) {
      catalog.byKey(key);
      catalog.byHandle(handle);
    }
  }
  for (const { id } of leastRecentlyUsed(catalog)) catalog.get(id);
  catalog.undecided(0, 1_000);
  catalog.totals();
}

function names(file: string): void {
  using catalog = openSqliteCatalog(file);
  const target = Buffer.from('target');
  const xattrs = new Map([['user.a', Buffer.from('x')]]);
  const nodes = insert(
    catalog,
    ROOT_NODE_ID,
    ...Array.from({ length: 200 }, (_, at) =>
      at % 5 === 0
        ? newNode(ROOT_NODE_ID, `link-${at}`, { target, xattrs })
        : newNode(ROOT_NODE_ID, `name-${at}`),
    ),
    newDirectory(ROOT_NODE_ID, 'directory'),
  );
  for (const { id, name } of nodes.slice(0, 100)) {
    catalog.putContent(newContent(id, Buffer.from(name).toString()));
  }
}

function readNames(file: string): void {
  using catalog = openSqliteCatalog(file);
  for (const { id, name } of catalog.children(ROOT_NODE_ID, 0, 1_000)) {
    catalog.child(ROOT_NODE_ID, name);
    catalog.path(id);
    catalog.content(id);
  }
  catalog.childChecks(ROOT_NODE_ID, 0, 1_000);
  catalog.contents(0, 1_000);
  catalog.orphans(0, 1_000);
  catalog.totals(ROOT_NODE_ID);
  for (const { id } of leastRecentlyUsed(catalog)) catalog.node(id);
}

const kinds = [
  {
    what: 'stubs',
    make: stubs,
    read: readStubs,
    changes: [
      'UPDATE stubs SET size = -1 WHERE id = 5',
      'UPDATE stubs SET chunk_bytes = 0 WHERE id = 5',
      'UPDATE stubs SET change = 4 WHERE id = 5',
      'UPDATE stubs SET mtime_s = 4611686018427387904 WHERE id = 5',
      // Another file's content would be recalled.
      "UPDATE stubs SET key = CAST('directory-1/name-9' AS BLOB) WHERE id = 5",
      'UPDATE stubs SET key_hash = key_hash + 1 WHERE id = 5',
    ],
  },
  {
    what: 'names and contents',
    make: names,
    read: readNames,
    changes: [
      'UPDATE nodes SET facts = facts & ~3 WHERE id = 5',
      'UPDATE nodes SET size = 4611686018427387904 WHERE id = 5',
      "UPDATE nodes SET rare = x'03ffffff7f' WHERE id = 5",
      "UPDATE nodes SET rare = x'02ff' WHERE id = 5",
      'UPDATE contents SET size = -1 WHERE id = 5',
      'UPDATE contents SET chunk_bytes = 0 WHERE id = 5',
    ],
  },
] as const;

for (const { what, make, read, changes } of kinds) {
  test(`${what}: what cannot be a row is a damaged catalog`, () => {
    using directory = temporaryDirectory();
    const file = path.join(directory.path, 'catalog.sqlite');
    make(file);
    read(file);
    const whole = readFileSync(file);
    for (const change of changes) {
      writeFileSync(file, whole);
      {
        using database = new DatabaseSync(file);
        database.exec(change);
      }
      assert.throws(() => read(file), damaged, change);
    }
  });

  test(`${what}: a catalog with flipped bits is read to its end, or refused with a sentence`, () => {
    using directory = temporaryDirectory();
    const file = path.join(directory.path, 'catalog.sqlite');
    make(file);
    const whole = readFileSync(file);
    let seed = 1;
    const below = (end: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return Math.floor((seed / 2 ** 32) * end);
    };
    for (let round = 0; round < 60; round += 1) {
      const bytes = Buffer.from(whole);
      for (let flip = 0; flip < 4; flip += 1) {
        // Not the header: a version may be any.
        const at = 100 + below(bytes.length - 100);
        bytes[at] = (bytes[at] ?? 0) ^ (1 << below(8));
      }
      for (const end of ['-wal', '-shm']) rmSync(`${file}${end}`, { force: true });
      writeFileSync(file, bytes);
      try {
        read(file);
      } catch (error) {
        assert.ok(error instanceof EbbError, `round ${round}: ${String(error)}`);
        assert.equal(error.code, 'EUCLEAN', `round ${round}: ${error.message}`);
      }
    }
  });
}

test('rows that are linked in another order end a walk', () => {
  const rows = [3, 5, 9].map((id) => ({ id, accessedAtMs: 1 }));
  const [first, second, third] = rows as [{ id: number; accessedAtMs: number }, never, never];
  assert.deepEqual(ascending(rows, 2), rows);
  assert.deepEqual(ascendingByUse(rows, { accessedAtMs: 1, id: 2 }), rows);
  assert.throws(() => ascending(rows, 3), damaged);
  assert.throws(() => ascending([second, first, third], 2), damaged);
  assert.throws(() => ascendingByUse(rows, { accessedAtMs: 1, id: 3 }), damaged);
  assert.throws(() => ascendingByUse(rows, { accessedAtMs: 2, id: 0 }), damaged);
});
