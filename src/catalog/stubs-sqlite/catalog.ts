/** The catalog of stubs in SQLite. */
import { StubChange } from '../../base/stub-facts.ts';
import type { DatabaseSync, StatementSync } from 'node:sqlite';

import { assert } from '../../base/assert.ts';
import { EbbError } from '../../base/errors.ts';
import { encodeName } from '../../base/name.ts';
import { decodeVersion, encodeVersion } from '../sqlite/rows.ts';
import { ascending, ascendingByUse } from '../sqlite/sound-rows.ts';
import { sqliteError } from '../sqlite/sqlite-error.ts';
import { Transactions } from '../sqlite/transaction.ts';
import type {
  KnownKey,
  ListedDirectory,
  SiblingQuestion,
  StubCatalog,
  StubRecord,
  StubState,
  StubTotals,
} from '../stub-catalog.ts';
import { namesakeReach, siblingReach } from '../stub-catalog.ts';
import { hashHandle, hashKey, hashName, nameHashMask } from './rows.ts';
import { hashRangeOfDirectory, haveSameName, isInSameDirectory } from './rows.ts';
import { stubOf, stubRow } from './rows.ts';
import type { StubRow } from './rows.ts';
import { openStubDatabase, stubCounters } from './schema.ts';
import type { StubCounter } from './schema.ts';

/** By id: the index of keys would bring all of a large directory, to be sorted. */
const wanted = `complete = 0 AND change = 0 AND lost = 0 AND size > 0 AND size <= ?`;
const siblingsIn = `SELECT id, key FROM stubs NOT INDEXED WHERE key_hash >= ? AND key_hash < ?
  AND ${wanted}`;
const namesakesIn = `SELECT id, key FROM stubs NOT INDEXED WHERE (key_hash & ${nameHashMask}) = ?
  AND ${wanted}`;

const sql = {
  get: 'SELECT * FROM stubs WHERE id = ?',
  byHandle: 'SELECT * FROM stubs WHERE handle_hash = ? AND handle = ?',
  stateByHandle: `SELECT id, size, resident, change FROM stubs
    WHERE handle_hash = ? AND handle = ?`,
  byKey: 'SELECT * FROM stubs WHERE key_hash = ? AND key = ? ORDER BY id DESC LIMIT 1',
  insert: 'INSERT INTO stubs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
  /** What the totals know of a stub. */
  counted: 'SELECT complete, change, size, resident FROM stubs WHERE id = ?',
  commitResidency: 'UPDATE stubs SET bitmap = ?, resident = ?, complete = ? WHERE id = ?',
  setChange: 'UPDATE stubs SET change = ?, ctime_s = ?, ctime_ns = ? WHERE id = ?',
  setPinned: 'UPDATE stubs SET pinned = ? WHERE id = ?',
  setLost: 'UPDATE stubs SET lost = ? WHERE id = ?',
  touch: 'UPDATE stubs SET accessed_ms = ? WHERE id = ?',
  delete: 'DELETE FROM stubs WHERE id = ?',
  page: 'SELECT * FROM stubs WHERE id > ? ORDER BY id LIMIT ?',
  undecided: `SELECT id FROM stubs INDEXED BY stubs_undecided
    WHERE change IN (1, 2) AND id > ? ORDER BY id LIMIT ?`,
  siblingsAfter: `${siblingsIn} AND id > ? AND id <= ? ORDER BY id LIMIT ?`,
  siblingsBefore: `${siblingsIn} AND id < ? AND id >= ? ORDER BY id DESC LIMIT ?`,
  namesakesAfter: `${namesakesIn} AND id > ? AND id <= ? ORDER BY id LIMIT ?`,
  namesakesBefore: `${namesakesIn} AND id < ? AND id >= ? ORDER BY id DESC LIMIT ?`,
  leastRecentlyUsed: `SELECT * FROM stubs INDEXED BY stubs_by_access
    WHERE resident > 0 AND change = 0 AND pinned = 0 AND (accessed_ms, id) > (?, ?)
    ORDER BY accessed_ms, id LIMIT ?`,
  totals: `SELECT ${stubCounters.join(', ')} FROM counters`,
  known: 'SELECT version, id FROM known WHERE key = ?',
  setKnown: 'INSERT OR REPLACE INTO known VALUES (?, ?, ?)',
  listed: 'SELECT listed_ms, attributes FROM listed WHERE key = ?',
  setListed: 'INSERT OR REPLACE INTO listed VALUES (?, ?, ?)',
  forgetListed: 'DELETE FROM listed',
  flush: 'UPDATE counters SET flushes = flushes + 1',
  setting: 'SELECT value FROM settings WHERE name = ?',
  setSetting: `INSERT INTO settings VALUES (?, ?)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
} as const;

type Statements = { readonly [Name in keyof typeof sql]: StatementSync };
type Counted = [complete: number, change: number, size: number, resident: number];

const reservedIdsMax = 100_000;

class SqliteStubCatalog implements StubCatalog {
  readonly #database: DatabaseSync;
  readonly #path: string;
  readonly #statements: Statements;
  readonly #transactions: Transactions<StubCounter>;

  constructor(database: DatabaseSync, path: string) {
    this.#database = database;
    this.#path = path;
    this.#statements = Object.fromEntries(
      Object.entries(sql).map(([name, text]) => [name, database.prepare(text)]),
    ) as Statements;
    this.#transactions = new Transactions(database, path, stubCounters);
  }

  get(id: number): StubRecord | undefined {
    return this.#one(this.#statements.get, id);
  }

  byHandle(handle: Uint8Array): StubRecord | undefined {
    return this.#one(this.#statements.byHandle, hashHandle(handle), handle);
  }

  stateByHandle(handle: Uint8Array): StubState | undefined {
    type Row = [id: number, size: number, resident: number, change: StubChange];
    const row = this.#row(this.#statements.stateByHandle, hashHandle(handle), handle);
    if (row === undefined) return undefined;
    const [id, sizeBytes, residentBytes, change] = row as Row;
    return { id, sizeBytes, residentBytes, change };
  }

  byKey(key: string): StubRecord | undefined {
    const bytes = encodeName(key);
    return this.#one(this.#statements.byKey, hashKey(bytes), bytes);
  }

  reserveIds(count: number): number {
    assert(count >= 1 && count <= reservedIdsMax, `${count} ids are not reserved at once`);
    return this.#transactions.takeIds(count);
  }

  continueIdsAfter(id: number): void {
    this.#transactions.run(true, () => this.#transactions.continueAfter(id));
  }

  insert(records: readonly StubRecord[]): void {
    if (records.length === 0) return;
    const foreign = records.filter(({ id }) => !this.#transactions.isTaken(id));
    this.#transactions.run(foreign.length > 0, () => {
      for (const { id } of foreign) this.#transactions.continueAfter(id);
      for (const record of records) {
        const { complete, change, sizeBytes, residentBytes } = record;
        this.#statements.insert.run(...stubRow(record));
        this.#count([complete ? 1 : 0, change, sizeBytes, residentBytes], 1);
      }
    });
  }

  commitResidency(
    rows: readonly Pick<StubRecord, 'id' | 'bitmap' | 'residentBytes' | 'complete'>[],
  ): void {
    if (rows.length === 0) return;
    this.#transactions.run(true, () => {
      for (const { id, bitmap, residentBytes, complete } of rows) {
        const before = this.#counted(id);
        if (before === undefined) continue;
        const completed = complete ? 1 : 0;
        this.#count(before, -1);
        this.#count([completed, before[1], before[2], residentBytes], 1);
        this.#statements.commitResidency.run(bitmap, residentBytes, completed, id);
      }
    });
  }

  setChange(
    rows: readonly Pick<StubRecord, 'id' | 'change' | 'ctimeSeconds' | 'ctimeNanoseconds'>[],
  ): void {
    if (rows.length === 0) return;
    this.#transactions.run(true, () => {
      for (const { id, change, ctimeSeconds, ctimeNanoseconds } of rows) {
        const before = this.#counted(id);
        if (before === undefined) continue;
        this.#count(before, -1);
        this.#count([before[0], change, before[2], before[3]], 1);
        this.#statements.setChange.run(change, ctimeSeconds, ctimeNanoseconds, id);
      }
    });
  }

  setPinned(id: number, pinned: boolean): void {
    this.#transactions.run(true, () => this.#statements.setPinned.run(pinned ? 1 : 0, id));
  }

  setLost(id: number, lost: boolean): void {
    this.#transactions.run(true, () => this.#statements.setLost.run(lost ? 1 : 0, id));
  }

  touch(accesses: ReadonlyMap<number, number>): void {
    if (accesses.size === 0) return;
    this.#transactions.run(false, () => {
      for (const [id, accessedAtMs] of accesses) this.#statements.touch.run(accessedAtMs, id);
    });
  }

  delete(ids: readonly number[]): void {
    if (ids.length === 0) return;
    this.#transactions.run(true, () => {
      for (const id of ids) this.#delete(id);
    });
  }

  bury(ids: readonly number[]): void {
    if (ids.length === 0) return;
    this.#transactions.run(true, () => {
      for (const id of ids) {
        const row = this.#statements.get.get(id) as unknown as StubRow | undefined;
        if (row === undefined) continue;
        const { key, version } = stubOf(row);
        this.#statements.setKnown.run(encodeName(key), encodeVersion(version), 0);
        this.#delete(id);
      }
    });
  }

  known(key: string): KnownKey | undefined {
    type Row = [version: string | Uint8Array, id: number];
    const row = this.#row(this.#statements.known, encodeName(key)) as Row | undefined;
    return row && { key, version: decodeVersion(row[0]) ?? '', id: row[1] };
  }

  setKnown(keys: readonly KnownKey[]): void {
    if (keys.length === 0) return;
    this.#transactions.run(false, () => {
      for (const { key, version, id } of keys) {
        this.#statements.setKnown.run(encodeName(key), encodeVersion(version), id);
      }
    });
  }

  page(afterId: number, limit: number): StubRecord[] {
    return ascending(this.#all(this.#statements.page, afterId, limit), afterId);
  }

  undecided(afterId: number, limit: number): number[] {
    const rows = this.#guard(() => this.#statements.undecided.all(afterId, limit));
    const ids = (rows as unknown as [number][]).map(([id]) => ({ id }));
    return ascending(ids, afterId).map(({ id }) => id);
  }

  siblings({ of, sizeMaxBytes, limit }: SiblingQuestion): number[] {
    const key = encodeName(of.key);
    const { from, to } = hashRangeOfDirectory(key);
    const { siblingsAfter, siblingsBefore } = this.#statements;
    const isSibling = (other: Uint8Array): boolean => isInSameDirectory(key, other);
    const ask = (statement: StatementSync, end: number, most: number): number[] =>
      this.#idsWhere(isSibling, statement, from, to, sizeMaxBytes, of.id, end, most);
    const after = ask(siblingsAfter, of.id + siblingReach, limit);
    if (after.length >= limit) return after;
    return [...after, ...ask(siblingsBefore, of.id - siblingReach, limit - after.length)];
  }

  namesakes({ of, sizeMaxBytes, limit }: SiblingQuestion): number[] {
    const key = encodeName(of.key);
    const { namesakesAfter, namesakesBefore } = this.#statements;
    const isNamesake = (other: Uint8Array): boolean => haveSameName(key, other);
    const ask = (statement: StatementSync, end: number): number[] =>
      this.#idsWhere(isNamesake, statement, hashName(key), sizeMaxBytes, of.id, end, limit);
    const after = ask(namesakesAfter, of.id + namesakeReach);
    const before = ask(namesakesBefore, of.id - namesakeReach);
    const distance = (id: number): number => Math.abs(id - of.id);
    return [...after, ...before].sort((a, b) => distance(a) - distance(b)).slice(0, limit);
  }

  /** Of rows of id and key: hashes are shared with others. */
  #idsWhere(
    isMeant: (key: Uint8Array) => boolean,
    statement: StatementSync,
    ...parameters: number[]
  ): number[] {
    const rows = this.#guard(() => statement.all(...parameters));
    return (rows as unknown as [number, Uint8Array][])
      .filter(([, key]) => isMeant(key))
      .map(([id]) => id);
  }

  leastRecentlyUsed(
    after: { readonly accessedAtMs: number; readonly id: number } | undefined,
    limit: number,
  ): StubRecord[] {
    const { accessedAtMs, id } = after ?? { accessedAtMs: Number.MIN_SAFE_INTEGER, id: 0 };
    const rows = this.#all(this.#statements.leastRecentlyUsed, accessedAtMs, id, limit);
    return ascendingByUse(rows, { accessedAtMs, id });
  }

  totals(): StubTotals {
    const row = this.#guard(() => this.#statements.totals.get()) as unknown as number[];
    const [stubs = 0, complete = 0, dirty = 0, remoteBytes = 0, residentBytes = 0] = row;
    return { stubs, complete, dirty, remoteBytes, residentBytes };
  }

  listed(key: string): ListedDirectory | undefined {
    type Row = [listedAtMs: number, attributes: string];
    const row = this.#row(this.#statements.listed, encodeName(key)) as Row | undefined;
    return row && { key, listedAtMs: row[0], attributes: row[1] };
  }

  setListed(directories: readonly ListedDirectory[]): void {
    if (directories.length === 0) return;
    this.#transactions.run(false, () => {
      for (const { key, listedAtMs, attributes } of directories) {
        this.#statements.setListed.run(encodeName(key), listedAtMs, attributes);
      }
    });
  }

  forgetListed(): void {
    this.#transactions.run(true, () => this.#statements.forgetListed.run());
  }

  flush(): void {
    this.#transactions.run(true, () => this.#statements.flush.run());
  }

  setting(name: string): string | undefined {
    return (this.#row(this.#statements.setting, name) as [string] | undefined)?.[0];
  }

  setSetting(name: string, value: string): void {
    this.#transactions.run(true, () => this.#statements.setSetting.run(name, value));
  }

  /** Orderly end. A full or broken disk does not stop it: all that is lost is a few unused ids. */
  [Symbol.dispose](): void {
    if (!this.#database.isOpen) return;
    try {
      this.#transactions.close();
    } catch (error) {
      if (!(error instanceof EbbError)) throw error;
    } finally {
      this.#database.close();
    }
  }

  #counted(id: number): Counted | undefined {
    return this.#statements.counted.get(id) as unknown as Counted | undefined;
  }

  #count([complete, change, size, resident]: Counted, sign: 1 | -1): void {
    const { deltas } = this.#transactions;
    deltas.stubs += sign;
    deltas.complete += sign * complete;
    deltas.dirty += change === StubChange.dirty ? sign : 0;
    deltas.remote_bytes += sign * size;
    deltas.resident_bytes += sign * resident;
  }

  #one(statement: StatementSync, ...parameters: (number | Uint8Array)[]): StubRecord | undefined {
    const row = this.#row(statement, ...parameters) as StubRow | undefined;
    return row && stubOf(row);
  }

  #all(statement: StatementSync, ...parameters: number[]): StubRecord[] {
    const rows = this.#guard(() => statement.all(...parameters)) as unknown as StubRow[];
    return rows.map((row) => stubOf(row));
  }

  /** The row as an array of its columns, or undefined. */
  #row(statement: StatementSync, ...parameters: (number | string | Uint8Array)[]): unknown {
    return this.#guard(() => statement.get(...parameters));
  }

  #delete(id: number): void {
    const before = this.#counted(id);
    if (before === undefined) return;
    this.#count(before, -1);
    this.#statements.delete.run(id);
  }

  #guard<Result>(work: () => Result): Result {
    try {
      return work();
    } catch (error) {
      throw sqliteError(error, this.#path);
    }
  }
}

/**
 * Opens the catalog of stubs, or makes it when the file is missing or empty. One writer per file; calls are
 * synchronous and for one thread. Throws EUCLEAN (damaged), EPROTO (written by a newer Ebb), EROFS, ENOSPC, EBUSY, EIO;
 * the methods throw the same, and `insert` EEXIST for a handle or id that is there. Dispose to close.
 */
export function openSqliteStubCatalog(path: string): StubCatalog {
  const database = openStubDatabase(path);
  try {
    return new SqliteStubCatalog(database, path);
  } catch (error) {
    database.close();
    throw sqliteError(error, path);
  }
}
