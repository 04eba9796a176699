/** What only a catalog on a disk can meet: crashes, damage, newer versions, full and read-only file systems. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  copyFileSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import type { Catalog } from '../../src/catalog/catalog.ts';
import { openSqliteCatalog } from '../../src/catalog/sqlite/catalog.ts';
import { openSqliteCatalogReader } from '../../src/catalog/sqlite/reader.ts';
import {
  insert,
  nameBytes,
  newContent,
  newDirectory,
  newNode,
} from '../conformance/catalog-fixtures.ts';
import { temporaryDirectory } from '../tree/support/cache.ts';
import { mountTmpfs, run } from '../tree/support/image.ts';

function catalogOf(directory: string): string {
  return path.join(directory, 'catalog.sqlite');
}

function filled(file: string, count = 5_000): void {
  using catalog = openSqliteCatalog(file);
  const nodes = Array.from({ length: count }, (_, index) => newNode(1, `file-${index}`));
  insert(catalog, 1, ...nodes);
}

const damaged = { code: 'EUCLEAN', message: /is damaged .* run `ebb rebuild`/s };

test('a file that is no catalog is refused with a sentence', () => {
  using directory = temporaryDirectory();
  const file = catalogOf(directory.path);
  writeFileSync(file, 'this is not a database, whatever its name says '.repeat(100));
  assert.throws(() => openSqliteCatalog(file), damaged);
  assert.throws(() => openSqliteCatalogReader(file), damaged);
  writeFileSync(file, '');
  assert.throws(() => openSqliteCatalogReader(file), damaged);
  assert.throws(() => openSqliteCatalogReader(`${file}.missing`), { code: 'ENOENT' });
  const other = `${file}.other`;
  {
    using database = new DatabaseSync(other);
    database.exec('CREATE TABLE t (x)');
  }
  assert.throws(() => openSqliteCatalog(other), damaged);
});

test('a catalog of a newer Ebb is refused', () => {
  using directory = temporaryDirectory();
  const file = catalogOf(directory.path);
  openSqliteCatalog(file)[Symbol.dispose]();
  {
    using database = new DatabaseSync(file);
    database.exec('PRAGMA user_version = 999');
  }
  const newer = { code: 'EPROTO', message: /newer Ebb \(format 999/ };
  assert.throws(() => openSqliteCatalog(file), newer);
  assert.throws(() => openSqliteCatalogReader(file), newer);
});

test('a truncated catalog never opens quietly or answers nonsense', () => {
  using directory = temporaryDirectory();
  const file = catalogOf(directory.path);
  filled(file);
  const bytes = readFileSync(file);
  for (const keptBytes of [50, 100, 4_096, 8_192, bytes.length / 2]) {
    writeFileSync(file, bytes.subarray(0, keptBytes));
    assert.throws(
      () => {
        using catalog = openSqliteCatalog(file);
        for (let index = 0; index < 5_000; index += 1) catalog.child(1, nameBytes(`file-${index}`));
        catalog.children(1, 0, 100_000);
      },
      damaged,
      `${keptBytes} bytes`,
    );
  }
});

test('overwritten pages are an error or the right answer', () => {
  using directory = temporaryDirectory();
  const file = catalogOf(directory.path);
  filled(file);
  const pages = statSync(file).size / 4_096;
  let errors = 0;
  for (let page = 1; page < pages; page += 7) {
    const copy = `${file}.${page}`;
    copyFileSync(file, copy);
    const fd = openSync(copy, 'r+');
    writeSync(fd, new Uint8Array(4_096).fill(0xa5), 0, 4_096, page * 4_096);
    closeSync(fd);
    try {
      using catalog = openSqliteCatalog(copy);
      for (let index = 0; index < 5_000; index += 50) {
        const node = catalog.child(1, nameBytes(`file-${index}`));
        assert.ok(node === undefined || node.parentId === 1);
      }
      catalog.children(1, 0, 100_000);
    } catch (error) {
      errors += 1;
      assert.equal((error as { code?: string }).code, 'EUCLEAN', String(error));
    }
  }
  assert.ok(errors > 0);
});

test('a full file system is ENOSPC, and what was there stays', () => {
  using mount = mountTmpfs(2 * 2 ** 20);
  const file = catalogOf(mount.path);
  using catalog = openSqliteCatalog(file);
  const [kept] = insert(catalog, 1, newNode(1, 'kept'));
  const fill = (): void => {
    for (let round = 0; ; round += 1) {
      const nodes = Array.from({ length: 500 }, (_, index) => newNode(1, `${round}-${index}`));
      insert(catalog, 1, ...nodes);
    }
  };
  assert.throws(fill, { code: 'ENOSPC', message: /No space is left for the catalog/ });
  assert.deepEqual(catalog.child(1, nameBytes('kept')), kept);
  assert.equal(catalog.totals(1).files, catalog.children(1, 0, 1_000_000).length);
});

test('together: seen by readers at the end; work that throws leaves nothing but what was durable', () => {
  using directory = temporaryDirectory();
  const file = catalogOf(directory.path);
  using catalog = openSqliteCatalog(file);
  const [a, b] = insert(catalog, 1, newNode(1, 'a'), newNode(1, 'b'));
  assert.ok(a && b);
  using reader = openSqliteCatalogReader(file);
  catalog.together(() => {
    catalog.updateNode({ ...a, sizeBytes: 500 });
    assert.equal(catalog.node(a.id)?.sizeBytes, 500);
    assert.equal(reader.node(a.id)?.sizeBytes, a.sizeBytes);
  });
  assert.equal(reader.node(a.id)?.sizeBytes, 500);
  const failing = (): void => {
    catalog.updateNode({ ...a, sizeBytes: 600 });
    catalog.putContent(newContent(b.id, 'b', { residentBytes: 10 }));
    assert.equal(reader.content(b.id)?.residentBytes, 10, 'a claim is durable at once');
    catalog.updateNode({ ...a, sizeBytes: 700 });
    throw new Error('on purpose');
  };
  assert.throws(() => catalog.together(failing), /on purpose/);
  assert.equal(reader.node(a.id)?.sizeBytes, 600);
  assert.equal(reader.totals(1).residentBytes, 10);
  catalog.updateNode({ ...a, sizeBytes: 800 });
  assert.equal(reader.node(a.id)?.sizeBytes, 800);
});

test('together on a full file system: an error, and the catalog goes on', () => {
  using mount = mountTmpfs(2 * 2 ** 20);
  using catalog = openSqliteCatalog(catalogOf(mount.path));
  const [kept] = insert(catalog, 1, newNode(1, 'kept'));
  const fill = (): void => {
    for (let round = 0; ; round += 1) {
      const nodes = Array.from({ length: 500 }, (_, index) => newNode(1, `${round}-${index}`));
      insert(catalog, 1, ...nodes);
    }
  };
  assert.throws(() => catalog.together(fill), { code: 'ENOSPC' });
  assert.deepEqual(catalog.child(1, nameBytes('kept')), kept);
  assert.equal(catalog.totals(1).files, catalog.children(1, 0, 1_000_000).length);
  insert(catalog, 1, newNode(1, 'small'));
  assert.ok(catalog.child(1, nameBytes('small')));
});

test('together: when what is before a durable change cannot be entered, nothing behind it is', () => {
  using mount = mountTmpfs(4 * 2 ** 20);
  using catalog = openSqliteCatalog(catalogOf(mount.path));
  const [kept] = insert(catalog, 1, newNode(1, 'kept'));
  assert.ok(kept);
  const filler = path.join(mount.path, 'filler');
  const work = (): void => {
    const nodes = Array.from({ length: 2_000 }, (_, index) => newNode(1, `${index}-name`));
    insert(catalog, 1, ...nodes);
    assert.throws(() => writeFileSync(filler, new Uint8Array(8 * 2 ** 20)), { code: 'ENOSPC' });
    const durable = (): void => catalog.putContent(newContent(kept.id, 'kept'));
    assert.throws(durable, { code: 'ENOSPC' });
    rmSync(filler);
    const later = (): void => catalog.updateNode({ ...kept, sizeBytes: 600 });
    assert.throws(later, { code: 'ENOSPC' });
    assert.throws(durable, { code: 'ENOSPC' });
  };
  assert.throws(() => catalog.together(work), { code: 'ENOSPC' });
  assert.deepEqual(catalog.node(kept.id), kept);
  assert.equal(catalog.totals(1).files, 1);
  assert.equal(catalog.content(kept.id), undefined);
  catalog.updateNode({ ...kept, sizeBytes: 700 });
  assert.equal(catalog.node(kept.id)?.sizeBytes, 700);
});

test('a read-only file system is EROFS', () => {
  using mount = mountTmpfs(4 * 2 ** 20);
  const file = catalogOf(mount.path);
  filled(file, 10);
  run('mount', ['-o', 'remount,ro', mount.path], 'this test needs root');
  assert.throws(() => openSqliteCatalog(file), { code: 'EROFS', message: /cannot be written/ });
  assert.throws(() => openSqliteCatalog(`${file}.new`), { code: 'EROFS' });
});

test('two writers at once are refused by the database, too', () => {
  using directory = temporaryDirectory();
  const file = catalogOf(directory.path);
  using catalog = openSqliteCatalog(file);
  using database = new DatabaseSync(file);
  database.exec('BEGIN IMMEDIATE');
  assert.throws(() => catalog.setPinned(5, true), { code: 'EBUSY' });
  database.exec('ROLLBACK');
  catalog.setPinned(5, true);
});

test('ids of listings that a power cut took away are not given out again', () => {
  using directory = temporaryDirectory();
  const file = catalogOf(directory.path);
  openSqliteCatalog(file)[Symbol.dispose]();
  const catalog = openSqliteCatalog(file);
  insert(catalog, 1, newNode(1, 'first'));
  // What a power cut may leave: the file and log as they were synced last, without the listings since then.
  const synced = ['', '-wal'].map((suffix) => [suffix, readFileSync(file + suffix)] as const);
  const lost = insert(
    catalog,
    1,
    ...Array.from({ length: 100 }, (_, index) => newNode(1, `${index}`)),
  );
  for (const [suffix, bytes] of synced) writeFileSync(`${file}.cut${suffix}`, bytes);
  catalog[Symbol.dispose]();
  using after = openSqliteCatalog(`${file}.cut`);
  assert.equal(after.totals(1).files, 1);
  const [node] = insert(after, 1, newDirectory(1, 'next'));
  assert.ok((node?.id ?? 0) > (lost.at(-1)?.id ?? Infinity));
});

test('killed at any moment: whole, exact, and nothing durable is lost', async () => {
  using directory = temporaryDirectory();
  const file = catalogOf(directory.path);
  const program = path.join(import.meta.dirname, 'support', 'writing-process.ts');
  const durable = new Map<number, number>();
  const deleted = new Set<number>();
  let highestId = 0;
  for (let round = 0; round < 12; round += 1) {
    const child = spawn(process.execPath, [program, file, String(round)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.on('data', (data: Buffer) => (output += data.toString()));
    const exited = once(child, 'exit');
    // More than one: on a busy machine nothing else may be durable in the time that follows.
    while (output.split('\n').length < 3 && child.exitCode === null) await sleep(2);
    await sleep((round * 29) % 90);
    child.kill('SIGKILL');
    await exited;
    for (const line of output.split('\n').slice(0, -1)) {
      const [id = 0, residentBytes = 0, goneId = 0, lastId = 0] = line.split(' ').map(Number);
      durable.set(id, residentBytes);
      deleted.add(goneId);
      highestId = Math.max(highestId, lastId);
    }
    using catalog = openSqliteCatalog(file);
    assertWhole(catalog, file);
    for (const [id, residentBytes] of durable) {
      assert.equal(catalog.content(id)?.residentBytes, residentBytes);
    }
    for (const id of deleted) assert.equal(catalog.content(id), undefined);
    const [node] = insert(catalog, 1, newNode(1, `after-${round}`));
    assert.ok((node?.id ?? 0) > highestId, 'ids go on');
  }
  assert.ok(durable.size > 12);
});

function assertWhole(catalog: Catalog, file: string): void {
  using database = new DatabaseSync(file, { readOnly: true, returnArrays: true });
  const check = database.prepare('PRAGMA integrity_check').all() as unknown;
  assert.deepEqual(check, [['ok']]);
  const children = catalog.children(1, 0, 10_000_000);
  const contents = catalog.contents(0, 10_000_000);
  const { files, residentBytes, contents: count } = catalog.totals(1);
  assert.equal(files, children.length);
  assert.equal(count, contents.length);
  assert.equal(
    residentBytes,
    contents.reduce((sum, content) => sum + content.residentBytes, 0),
  );
}

test('a content needs its node, which may go at any time', () => {
  using directory = temporaryDirectory();
  using catalog = openSqliteCatalog(catalogOf(directory.path));
  const [node] = insert(catalog, 1, newNode(1, 'a'));
  catalog.removeNode(node?.id ?? 0);
  assert.throws(() => catalog.putContent(newContent(node?.id ?? 0, 'a')), { code: 'ENOENT' });
});
