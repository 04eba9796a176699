/**
 * Transactions of the one writer: durability per transaction, exact counters, and ids that never come back.
 *
 * Durability: a transaction is either *durable* (the WAL is synced before it returns: what says that bytes are
 * on the disk, or no longer are) or merely atomic (listings: after a power cut they are read again).
 *
 * Ids: `counters.next_id` is where the next run starts. It is raised in blocks, in durable transactions, so that
 * no id of a listing that a power cut took away is given out again (NFS handles name ids for ever).
 *
 * Counters: totals of the whole tree, kept as differences during a transaction and added at its end. The table
 * `counters` has one row: `next_id`, and a column for each.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite';

import { assert } from '../../base/assert.ts';
import { sqliteError } from './sqlite-error.ts';

/** Ids reserved by one durable write. */
const idBlockSize = 65_536;

/** `Counter`: the columns of `counters` besides `next_id`. */
export class Transactions<Counter extends string> {
  /** What the transaction under way changes; written by the catalog's methods. */
  deltas: Record<Counter, number>;
  readonly #counters: readonly Counter[];
  readonly #database: DatabaseSync;
  readonly #path: string;
  readonly #statements: Readonly<
    Record<'begin' | 'commit' | 'savepoint' | 'release' | 'rollbackTo', StatementSync>
  >;
  readonly #addDeltas: StatementSync;
  readonly #setNextId: StatementSync;
  #nextId: number;
  /** Ids below are reserved on disk. */
  #reservedEnd: number;
  #synchronousFull = true;
  /** While `together` runs; `lostBy`: what took all of its changes. */
  #group: { readonly lostBy?: unknown } | undefined;

  constructor(database: DatabaseSync, path: string, counters: readonly Counter[]) {
    this.#database = database;
    this.#path = path;
    this.#statements = {
      begin: database.prepare('BEGIN IMMEDIATE'),
      commit: database.prepare('COMMIT'),
      savepoint: database.prepare('SAVEPOINT one'),
      release: database.prepare('RELEASE one'),
      rollbackTo: database.prepare('ROLLBACK TO one'),
    };
    this.#counters = counters;
    this.deltas = this.#noDeltas();
    const additions = counters.map((counter) => `${counter} = ${counter} + ?`);
    this.#addDeltas = database.prepare(`UPDATE counters SET ${additions.join(', ')}`);
    this.#setNextId = database.prepare('UPDATE counters SET next_id = ?');
    const row = database.prepare('SELECT next_id FROM counters').get() as unknown as [number];
    this.#nextId = row[0];
    this.#reservedEnd = row[0];
  }

  /** True when giving out `count` ids needs a durable transaction. */
  needsReservation(count: number): boolean {
    return this.#nextId + count > this.#reservedEnd;
  }

  /** The next id. Only in a durable transaction or below the reservation. */
  takeId(): number {
    if (this.#nextId >= this.#reservedEnd) this.#reserveThrough(this.#nextId + idBlockSize);
    const id = this.#nextId;
    this.#nextId += 1;
    return id;
  }

  /** The first of `count` ids in a row. Not inside a transaction. */
  takeIds(count: number): number {
    const first = this.#nextId;
    if (this.needsReservation(count)) {
      this.run(true, () => this.#reserveThrough(first + count + idBlockSize));
    }
    this.#nextId = first + count;
    return first;
  }

  /** Whether this id may have been given out. */
  isTaken(id: number): boolean {
    return id < this.#nextId;
  }

  /** No id <= `id` is given out from now on. Only in a durable transaction. */
  continueAfter(id: number): void {
    if (id < this.#nextId) return;
    this.#nextId = id + 1;
    this.#reserveThrough(this.#nextId + idBlockSize);
  }

  /**
   * Runs `work` in a transaction: all or nothing. Throws what `work` throws, with SQLite's errors as EbbError
   * (ENOSPC, EROFS, EUCLEAN, EIO).
   */
  run<Result>(durable: boolean, work: () => Result): Result {
    if (this.#group === undefined) return this.#alone(durable, work);
    if (!durable) return this.#inGroup(work);
    // How a transaction is written is decided at its beginning.
    try {
      this.#endGroup();
    } catch (thrown) {
      this.#rollBack();
      // What follows must not be entered alone, when all of it is told to have failed.
      const error = sqliteError(thrown, this.#path);
      this.#group = { lostBy: error };
      throw error;
    }
    try {
      return this.#alone(true, work);
    } finally {
      this.#beginGroup();
    }
  }

  /** Runs `work`, whose transactions become one as far as they need not be durable. See `Catalog.together`. */
  together<Result>(work: () => Result): Result {
    if (this.#group !== undefined) return work();
    this.#beginGroup();
    try {
      const result = work();
      this.#endGroup();
      return result;
    } catch (error) {
      this.#rollBack();
      throw sqliteError(error, this.#path);
    } finally {
      this.#group = undefined;
    }
  }

  #alone<Result>(durable: boolean, work: () => Result): Result {
    const nextId = this.#nextId;
    const reservedEnd = this.#reservedEnd;
    this.deltas = this.#noDeltas();
    try {
      this.#setDurable(durable);
      this.#statements.begin.run();
      const result = work();
      this.#writeDeltas();
      this.#statements.commit.run();
      return result;
    } catch (error) {
      this.#rollBack();
      this.#nextId = nextId;
      this.#reservedEnd = reservedEnd;
      throw sqliteError(error, this.#path);
    }
  }

  #inGroup<Result>(work: () => Result): Result {
    if (this.#group?.lostBy !== undefined) throw this.#group.lostBy;
    const deltas = { ...this.deltas };
    const nextId = this.#nextId;
    this.#statements.savepoint.run();
    try {
      const result = work();
      this.#statements.release.run();
      return result;
    } catch (thrown) {
      const error = sqliteError(thrown, this.#path);
      this.deltas = deltas;
      this.#nextId = nextId;
      // SQLite rolls everything back by itself when the disk is full or fails.
      if (!this.#database.isTransaction) this.#group = { lostBy: error };
      else {
        this.#statements.rollbackTo.run();
        this.#statements.release.run();
      }
      throw error;
    }
  }

  #beginGroup(): void {
    try {
      this.deltas = this.#noDeltas();
      this.#setDurable(false);
      this.#statements.begin.run();
      this.#group = {};
    } catch (error) {
      this.#group = { lostBy: sqliteError(error, this.#path) };
    }
  }

  /** Ids that were given out in a group which fails are not given out again: somebody may have seen them. */
  #endGroup(): void {
    const lostBy = this.#group?.lostBy;
    this.#group = undefined;
    if (lostBy !== undefined) throw lostBy;
    this.#writeDeltas();
    this.#statements.commit.run();
  }

  /** Gives back the rest of the reservation, at an orderly end. */
  close(): void {
    if (this.#nextId === this.#reservedEnd) return;
    this.run(true, () => {
      this.#setNextId.run(this.#nextId);
      this.#reservedEnd = this.#nextId;
    });
  }

  #reserveThrough(end: number): void {
    assert(this.#synchronousFull, 'ids are reserved by durable transactions only');
    assert(Number.isSafeInteger(end), 'ids stay below 2^53');
    this.#setNextId.run(end);
    this.#reservedEnd = end;
  }

  /** PRAGMA synchronous is per connection and may change only between transactions. */
  #setDurable(durable: boolean): void {
    if (durable === this.#synchronousFull) return;
    this.#database.exec(`PRAGMA synchronous = ${durable ? 'FULL' : 'NORMAL'}`);
    this.#synchronousFull = durable;
  }

  #noDeltas(): Record<Counter, number> {
    return Object.fromEntries(this.#counters.map((counter) => [counter, 0])) as typeof this.deltas;
  }

  #writeDeltas(): void {
    const values = this.#counters.map((counter) => this.deltas[counter]);
    if (values.some((value) => value !== 0)) this.#addDeltas.run(...values);
  }

  /** SQLite may have rolled back already (disk full, I/O error). */
  #rollBack(): void {
    if (this.#database.isOpen && this.#database.isTransaction) this.#database.exec('ROLLBACK');
  }
}
