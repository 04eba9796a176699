/**
 * Reading the catalog: prepared statements over one connection. Used by the writer on its own connection and,
 * by `openSqliteCatalogReader`, in other threads. Every method is one statement, hence one consistent view.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite';

import { ROOT_NODE_ID } from '../catalog.ts';
import type { CatalogReader, CatalogTotals, Content, Node } from '../catalog.ts';
import { contentColumns, contentOf, factsColumns, nodeOfFacts } from './rows.ts';
import type { ChildRow, ContentRow, FactsRow } from './rows.ts';
import { openReaderDatabase } from './schema.ts';
import { ascending, damagedRow, hasIntegers } from './sound-rows.ts';
import { sqliteError } from './sqlite-error.ts';

/** Deeper paths do not exist; bounds the walk in a damaged catalog. */
const depthMax = 65_536;

/** The ids below a directory, itself excluded; `?1` is its id. Shared with the removal of subtrees. */
export const descendants = `
WITH RECURSIVE below (id, facts, size) AS (
  SELECT id, facts, size FROM nodes WHERE parent = ?1 AND parent > 0
  UNION ALL
  SELECT n.id, n.facts, n.size FROM below b JOIN nodes n ON n.parent = b.id AND n.parent > 0
    WHERE b.facts & 3 = 2
)`;

const sql = {
  node: `SELECT ${factsColumns}, name, parent FROM nodes WHERE id = ?`,
  child: `SELECT ${factsColumns} FROM nodes WHERE parent = ? AND parent > 0 AND name = ?`,
  children: `SELECT ${factsColumns}, name FROM nodes INDEXED BY nodes_by_parent
    WHERE parent = ? AND parent > 0 AND id > ? ORDER BY id LIMIT ?`,
  childChecks: `SELECT id, checked_ms FROM nodes INDEXED BY nodes_by_parent
    WHERE parent = ? AND parent > 0 AND id > ? ORDER BY id LIMIT ?`,
  subdirectories: `SELECT count(*) FROM nodes WHERE parent = ? AND parent > 0 AND facts & 3 = 2`,
  path: `WITH RECURSIVE up (id, parent, name, depth) AS (
      SELECT id, parent, name, 0 FROM nodes WHERE id = ?
      UNION ALL
      SELECT n.id, n.parent, n.name, up.depth + 1 FROM up JOIN nodes n ON n.id = up.parent
        WHERE up.depth < ${depthMax}
    ) SELECT id, name FROM up ORDER BY depth DESC`,
  content: `SELECT ${contentColumns} FROM contents WHERE id = ?`,
  rootTotals: 'SELECT files, directories, remote_bytes, resident_bytes, contents FROM counters',
  totals: `${descendants} SELECT
      count(*) FILTER (WHERE b.facts & 3 = 1), count(*) FILTER (WHERE b.facts & 3 = 2),
      coalesce(sum(b.size) FILTER (WHERE b.facts & 3 = 1 AND b.size > 0), 0),
      coalesce(sum(c.resident), 0), count(c.id)
    FROM below b LEFT JOIN contents c ON c.id = b.id`,
  isUnlisted: 'SELECT 1 FROM nodes WHERE id = ? AND listed_ms = 0 AND facts & 3 = 2',
  // Both stop at the first one.
  rootLacksFacts: `SELECT 1 FROM nodes WHERE parent > 0
      AND (listed_ms = 0 AND facts & 3 = 2 OR size < 0 AND facts & 3 = 1) LIMIT 1`,
  lacksFacts: `${descendants} SELECT 1 FROM below b JOIN nodes n ON n.id = b.id
    WHERE n.listed_ms = 0 AND b.facts & 3 = 2 OR b.size < 0 AND b.facts & 3 = 1 LIMIT 1`,
} as const;

type Statements = { readonly [Name in keyof typeof sql]: StatementSync };

export class SqliteCatalogReader implements CatalogReader {
  protected readonly path_: string;
  protected readonly database: DatabaseSync;
  readonly #statements: Statements;

  /** `database` is owned from now on and returns rows as arrays. */
  constructor(database: DatabaseSync, path: string) {
    this.path_ = path;
    this.database = database;
    this.#statements = this.guard(
      () =>
        Object.fromEntries(
          Object.entries(sql).map(([name, text]) => [name, database.prepare(text)]),
        ) as Statements,
    );
  }

  node(id: number): Node | undefined {
    const row = this.get(this.#statements.node, id) as [...ChildRow, parent: number] | undefined;
    return row && nodeOfFacts(row as unknown as ChildRow, row[12], row[11]);
  }

  child(parentId: number, name: Uint8Array): Node | undefined {
    const row = this.get(this.#statements.child, parentId, name) as FactsRow | undefined;
    return row && nodeOfFacts(row, parentId, name.slice());
  }

  children(parentId: number, afterId: number, limit: number): Node[] {
    const rows = this.all<ChildRow>(this.#statements.children, parentId, afterId, limit);
    return ascending(
      rows.map((row) => nodeOfFacts(row, parentId, row[11])),
      afterId,
    );
  }

  childChecks(parentId: number, afterId: number, limit: number): [number, number][] {
    const rows = this.all<[number, number]>(this.#statements.childChecks, parentId, afterId, limit);
    let before = afterId;
    for (const row of rows) {
      if (!hasIntegers(row, [0, 1]) || row[0] <= before) throw damagedRow('rows are out of order');
      before = row[0];
    }
    return rows;
  }

  subdirectoryCount(parentId: number): number {
    return (this.get(this.#statements.subdirectories, parentId) as [number] | undefined)?.[0] ?? 0;
  }

  path(id: number): Uint8Array[] | undefined {
    const rows = this.all<[id: number, name: Uint8Array]>(this.#statements.path, id);
    if (rows[0]?.[0] !== ROOT_NODE_ID) return undefined;
    return rows.slice(1).map(([, name]) => {
      if (!(name instanceof Uint8Array)) throw damagedRow('a name is no name');
      return name;
    });
  }

  content(id: number): Content | undefined {
    const row = this.get(this.#statements.content, id) as ContentRow | undefined;
    return row && contentOf(row);
  }

  totals(directoryId: number): CatalogTotals {
    const { rootTotals, totals } = this.#statements;
    const found =
      directoryId === ROOT_NODE_ID ? this.get(rootTotals) : this.get(totals, directoryId);
    const row = (found as number[] | undefined) ?? [];
    const [files = 0, directories = 0, remoteBytes = 0, residentBytes = 0, contents = 0] = row;
    return { files, directories, remoteBytes, residentBytes, contents };
  }

  lacksFacts(directoryId: number): boolean {
    const { isUnlisted, rootLacksFacts, lacksFacts } = this.#statements;
    if (this.get(isUnlisted, directoryId) !== undefined) return true;
    const found =
      directoryId === ROOT_NODE_ID ? this.get(rootLacksFacts) : this.get(lacksFacts, directoryId);
    return found !== undefined;
  }

  [Symbol.dispose](): void {
    if (this.database.isOpen) this.database.close();
  }

  /** The row as an array of its columns, or undefined. */
  protected get(statement: StatementSync, ...parameters: Parameter[]): unknown {
    try {
      return statement.get(...parameters);
    } catch (error) {
      throw sqliteError(error, this.path_);
    }
  }

  protected all<Row>(statement: StatementSync, ...parameters: Parameter[]): Row[] {
    try {
      return statement.all(...parameters) as unknown as Row[];
    } catch (error) {
      throw sqliteError(error, this.path_);
    }
  }

  protected guard<Result>(work: () => Result): Result {
    try {
      return work();
    } catch (error) {
      throw sqliteError(error, this.path_);
    }
  }
}

/** What can be bound to a statement. */
export type Parameter = number | string | Uint8Array | null;

/**
 * Opens a read-only connection of its own, for another thread than the writer's. Sees every write that was
 * committed before the call. Throws ENOENT when there is no catalog, EUCLEAN when it is damaged, EPROTO when it
 * is of a newer Ebb. The methods throw EUCLEAN or EIO.
 */
export function openSqliteCatalogReader(path: string): CatalogReader {
  return new SqliteCatalogReader(openReaderDatabase(path), path);
}
