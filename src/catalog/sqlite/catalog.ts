/**
 * The catalog in SQLite: the one writer. Reading is inherited (reader.ts).
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite';

import { assert } from '../../base/assert.ts';
import { EbbError, ebbError } from '../../base/errors.ts';
import { encodeName } from '../../base/name.ts';
import { keyOf, lastNameOf } from '../key.ts';
import { NodeKind, ROOT_NODE_ID } from '../catalog.ts';
import type { Catalog, Content, DirectoryChange, NewNode, Node } from '../catalog.ts';
import { SqliteCatalogReader, descendants } from './reader.ts';
import {
  contentColumns,
  contentOf,
  contentRow,
  encodeVersion,
  kindOfFacts,
  nodeRow,
  packFacts,
} from './rows.ts';
import type { ContentRow } from './rows.ts';
import { encodeRareFacts } from './rare-facts.ts';
import { openWriterDatabase, treeCounters } from './schema.ts';
import type { TreeCounter } from './schema.ts';
import { ascending, ascendingByUse } from './sound-rows.ts';
import { sqliteError } from './sqlite-error.ts';
import { Transactions } from './transaction.ts';

const sql = {
  insertNode: 'INSERT INTO nodes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
  /** What a change of a node must know: `hasContent` is 0 or 1. */
  state: `SELECT n.parent, n.facts, n.size, c.id IS NOT NULL, c.version, c.resident FROM nodes n
    LEFT JOIN contents c ON c.id = n.id WHERE n.id = ?`,
  updateFacts: `UPDATE nodes SET facts = ?, uid = ?, gid = ?, size = ?, mtime_s = ?, mtime_ns = ?,
    version = ?, rare = ?, checked_ms = ? WHERE id = ?`,
  setListed: 'UPDATE nodes SET listed_ms = ? WHERE id = ?',
  deleteNode: 'DELETE FROM nodes WHERE id = ?',
  below: `${descendants} SELECT b.id, b.facts, b.size, c.id IS NOT NULL FROM below b
    LEFT JOIN contents c ON c.id = b.id`,
  orphanNode: 'UPDATE nodes SET parent = 0 WHERE id = ?',
  orphanContent: 'UPDATE contents SET orphan = 1, lost = lost | ? WHERE id = ?',
  adoptNode: `UPDATE nodes SET parent = ?, name = ?, listed_ms = 0 WHERE id = ?`,
  adoptContent: 'UPDATE contents SET orphan = 0, lost = 0 WHERE id = ?',
  anyOrphan: 'SELECT 1 FROM contents WHERE orphan = 1 LIMIT 1',
  orphanByKey: `SELECT ${contentColumns} FROM contents
    WHERE key = ? AND orphan = 1 AND version = ? ORDER BY id DESC LIMIT 1`,
  putContent: `INSERT INTO contents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET key = excluded.key, size = excluded.size,
      chunk_bytes = excluded.chunk_bytes, bitmap = excluded.bitmap, resident = excluded.resident,
      complete = excluded.complete, handle = excluded.handle, accessed_ms = excluded.accessed_ms,
      pinned = excluded.pinned, lost = excluded.lost`,
  residentBytes: 'SELECT resident FROM contents WHERE id = ?',
  commitResidency: 'UPDATE contents SET bitmap = ?, resident = ?, complete = ? WHERE id = ?',
  touch: 'UPDATE contents SET accessed_ms = ? WHERE id = ?',
  setPinned: 'UPDATE contents SET pinned = ? WHERE id = ?',
  setLost: 'UPDATE contents SET lost = ? WHERE id = ?',
  deleteContent: 'DELETE FROM contents WHERE id = ?',
  leastRecentlyUsed: `SELECT ${contentColumns} FROM contents
    WHERE resident > 0 AND (accessed_ms, id) > (?, ?) ORDER BY accessed_ms, id LIMIT ?`,
  orphans: `SELECT ${contentColumns} FROM contents WHERE orphan = 1 AND id > ? ORDER BY id LIMIT ?`,
  contents: `SELECT ${contentColumns} FROM contents WHERE id > ? ORDER BY id LIMIT ?`,
  setting: 'SELECT value FROM settings WHERE name = ?',
  setSetting: `INSERT INTO settings VALUES (?, ?)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
} as const;

type Statements = { readonly [Name in keyof typeof sql]: StatementSync };

type StateRow = [
  parent: number,
  facts: number,
  size: number,
  hasContent: number,
  contentVersion: string | Uint8Array | null,
  residentBytes: number | null,
];

class SqliteCatalog extends SqliteCatalogReader implements Catalog {
  readonly #statements: Statements;
  readonly #transactions: Transactions<TreeCounter>;
  /** False: there is certainly none, and nobody need look. */
  #mayHaveOrphans = true;

  constructor(database: DatabaseSync, path: string) {
    super(database, path);
    this.#statements = Object.fromEntries(
      Object.entries(sql).map(([name, text]) => [name, database.prepare(text)]),
    ) as Statements;
    this.#transactions = new Transactions(database, path, treeCounters);
    this.guard(() => this.#anyOrphan());
  }

  together<Result>(work: () => Result): Result {
    return this.#transactions.together(work);
  }

  applyListing(change: DirectoryChange): Node[] {
    const { directoryId, listedAtMs, inserted, updated, removedIds } = change;
    return this.#transactions.run(this.#transactions.needsReservation(inserted.length), () => {
      this.#requireDirectory(directoryId);
      for (const id of removedIds) {
        if (this.#state(id)?.[0] === directoryId) this.#removeSubtree(id, false);
      }
      for (const node of updated) {
        const state = this.#state(node.id);
        if (state?.[0] === directoryId) this.#updateFacts(node, state);
      }
      const adoption = inserted.length > 0 && this.#anyOrphan();
      const directoryNames = adoption ? this.path(directoryId) : undefined;
      const nodes = inserted.map((node) => {
        assert(node.parentId === directoryId, 'a listing inserts into its own directory');
        return this.#insertOrAdopt(node, directoryNames);
      });
      this.#statements.setListed.run(listedAtMs, directoryId);
      return nodes;
    });
  }

  updateNode(node: Node): void {
    this.#transactions.run(false, () => {
      const state = this.#state(node.id);
      if (state === undefined) throw goneError(node.id);
      this.#updateFacts(node, state);
      this.#statements.setListed.run(node.listedAtMs, node.id);
    });
  }

  replaceNode(oldId: number, replacement: NewNode): Node {
    return this.#transactions.run(this.#transactions.needsReservation(1), () => {
      const state = this.#state(oldId);
      if (state === undefined || state[0] === 0) throw goneError(oldId);
      assert(state[0] === replacement.parentId, 'a replacement keeps the name where it is');
      this.#removeSubtree(oldId, false);
      const names = this.#anyOrphan() ? this.path(replacement.parentId) : undefined;
      return this.#insertOrAdopt(replacement, names);
    });
  }

  removeNode(id: number): void {
    assert(id !== ROOT_NODE_ID, 'the root stays');
    this.#transactions.run(false, () => {
      const state = this.#state(id);
      if (state === undefined) return;
      if (state[0] === 0) this.#statements.setLost.run(1, id);
      else this.#removeSubtree(id, true);
    });
  }

  putContent(content: Content): void {
    // A new stub claims nothing: losing its row in a power cut loses nothing (the stub is made again).
    const state = this.guard(() => this.#state(content.id));
    const claims = content.residentBytes + (state?.[5] ?? 0);
    this.#transactions.run(claims > 0, () => {
      if (state === undefined) throw goneError(content.id);
      assert(kindOfFacts(state[1]) === NodeKind.file, 'only files have content');
      this.#putContent(content, state[0] === 0, state);
    });
  }

  commitResidency(
    rows: readonly Pick<Content, 'id' | 'bitmap' | 'residentBytes' | 'complete'>[],
  ): void {
    if (rows.length === 0) return;
    this.#transactions.run(true, () => {
      for (const row of rows) {
        const before = this.#residentBytes(row.id);
        if (before === undefined) continue;
        this.#transactions.deltas.resident_bytes += row.residentBytes - before;
        const complete = row.complete ? 1 : 0;
        this.#statements.commitResidency.run(row.bitmap, row.residentBytes, complete, row.id);
      }
    });
  }

  touch(accesses: ReadonlyMap<number, number>): void {
    if (accesses.size === 0) return;
    this.#transactions.run(false, () => {
      for (const [id, accessedAtMs] of accesses) this.#statements.touch.run(accessedAtMs, id);
    });
  }

  setPinned(id: number, pinned: boolean): void {
    this.#transactions.run(true, () => this.#statements.setPinned.run(pinned ? 1 : 0, id));
  }

  setLost(id: number, lost: boolean): void {
    this.#transactions.run(true, () => this.#statements.setLost.run(lost ? 1 : 0, id));
  }

  deleteContent(id: number): void {
    this.#transactions.run(true, () => {
      const before = this.#residentBytes(id);
      if (before === undefined) return;
      this.#transactions.deltas.resident_bytes -= before;
      this.#transactions.deltas.contents -= 1;
      this.#statements.deleteContent.run(id);
      if (this.#state(id)?.[0] === 0) this.#statements.deleteNode.run(id);
    });
  }

  orphanByKey(key: string, version: string): Content | undefined {
    if (!this.#mayHaveOrphans) return undefined;
    const statement = this.#statements.orphanByKey;
    const row = this.get(statement, encodeName(key), encodeVersion(version));
    return row === undefined ? undefined : contentOf(row as ContentRow);
  }

  restoreOrphans(contents: readonly Content[]): void {
    this.#mayHaveOrphans = true;
    this.#transactions.run(true, () => {
      for (const content of contents) {
        assert(content.id > ROOT_NODE_ID, 'the root has no content');
        const node = orphanNode(content);
        this.#statements.insertNode.run(...nodeRow(node, content.id, 0, 0));
        this.#putContent(content, true, undefined);
        this.#transactions.continueAfter(content.id);
      }
    });
  }

  continueIdsAfter(id: number): void {
    this.#transactions.run(true, () => this.#transactions.continueAfter(id));
  }

  leastRecentlyUsed(
    after: { accessedAtMs: number; id: number } | undefined,
    limit: number,
  ): Content[] {
    const { accessedAtMs, id } = after ?? { accessedAtMs: Number.MIN_SAFE_INTEGER, id: 0 };
    const statement = this.#statements.leastRecentlyUsed;
    const rows = this.all<ContentRow>(statement, accessedAtMs, id, limit).map(contentOf);
    return ascendingByUse(rows, { accessedAtMs, id });
  }

  orphans(afterId: number, limit: number): Content[] {
    const rows = this.all<ContentRow>(this.#statements.orphans, afterId, limit);
    return ascending(rows.map(contentOf), afterId);
  }

  contents(afterId: number, limit: number): Content[] {
    const rows = this.all<ContentRow>(this.#statements.contents, afterId, limit);
    return ascending(rows.map(contentOf), afterId);
  }

  setting(name: string): string | undefined {
    return (this.get(this.#statements.setting, name) as [string] | undefined)?.[0];
  }

  setSetting(name: string, value: string): void {
    this.#transactions.run(true, () => this.#statements.setSetting.run(name, value));
  }

  /** Orderly end. A full or broken disk does not stop it: all that is lost is a few unused ids. */
  override [Symbol.dispose](): void {
    if (!this.database.isOpen) return;
    try {
      this.#transactions.close();
    } catch (error) {
      if (!(error instanceof EbbError)) throw error;
    } finally {
      super[Symbol.dispose]();
    }
  }

  #state(id: number): StateRow | undefined {
    return this.#statements.state.get(id) as unknown as StateRow | undefined;
  }

  #anyOrphan(): boolean {
    this.#mayHaveOrphans &&= this.#statements.anyOrphan.get() !== undefined;
    return this.#mayHaveOrphans;
  }

  #residentBytes(id: number): number | undefined {
    return (this.#statements.residentBytes.get(id) as unknown as [number] | undefined)?.[0];
  }

  #requireDirectory(id: number): void {
    const state = this.#state(id);
    if (state === undefined) throw goneError(id);
    if (kindOfFacts(state[1]) !== NodeKind.directory) {
      throw ebbError('ENOTDIR', `Node ${id} is not a directory.`);
    }
  }

  #updateFacts(node: Node, state: StateRow): void {
    const [parent, facts, size, hasContent, contentVersion] = state;
    const { kind, version } = node;
    assert(kindOfFacts(facts) === kind, 'a node never changes its kind');
    if (hasContent !== 0 && version !== null) {
      const same = sameVersion(encodeVersion(version), contentVersion);
      assert(same, 'a node with content never changes its version: replace the node');
    }
    if (parent > 0 && kind === NodeKind.file) {
      this.#transactions.deltas.remote_bytes += Math.max(node.sizeBytes, 0) - Math.max(size, 0);
    }
    this.#statements.updateFacts.run(
      packFacts(node),
      node.uid,
      node.gid,
      node.sizeBytes,
      node.mtimeSeconds,
      node.mtimeNanoseconds,
      encodeVersion(version),
      encodeRareFacts(node),
      node.checkedAtMs,
      node.id,
    );
  }

  /** `directoryNames`: the path of the directory where orphans exist that may be adopted. */
  #insertOrAdopt(node: NewNode, directoryNames: readonly Uint8Array[] | undefined): Node {
    const orphanId = node.id ?? this.#findOrphan(node, directoryNames);
    if (orphanId !== undefined) return this.#adopt(node, orphanId);
    const id = this.#transactions.takeId();
    this.#statements.insertNode.run(...nodeRow(node, id, node.parentId, 0));
    this.#count(node.kind, node.sizeBytes, 1);
    return { ...node, id, name: node.name.slice(), listedAtMs: 0 };
  }

  #findOrphan(
    node: NewNode,
    directoryNames: readonly Uint8Array[] | undefined,
  ): number | undefined {
    if (directoryNames === undefined) return undefined;
    if (node.kind !== NodeKind.file || node.version === null) return undefined;
    const orphan = this.orphanByKey(keyOf([...directoryNames, node.name]), node.version);
    if (orphan === undefined) return undefined;
    if (node.exact && node.sizeBytes >= 0 && node.sizeBytes !== orphan.sizeBytes) return undefined;
    return orphan.id;
  }

  #adopt(node: NewNode, id: number): Node {
    const state = this.#state(id);
    assert(state !== undefined && state[0] === 0 && state[3] !== 0, `node ${id} is no orphan`);
    assert(node.kind === NodeKind.file, 'only files adopt an orphan');
    const adopted = { ...node, id, name: node.name.slice(), listedAtMs: 0 };
    this.#updateFacts(adopted, state);
    this.#statements.adoptNode.run(node.parentId, node.name, id);
    this.#statements.adoptContent.run(id);
    this.#count(node.kind, node.sizeBytes, 1);
    return adopted;
  }

  /** Takes the name away from a node and everything below: files with content become orphans, the rest goes. */
  #removeSubtree(id: number, lost: boolean): void {
    const state = this.#state(id);
    assert(state !== undefined && state[0] > 0, `node ${id} has a name`);
    const [, facts, size, hasContent] = state;
    const below =
      kindOfFacts(facts) === NodeKind.directory
        ? (this.#statements.below.all(id) as unknown as [number, number, number, number][])
        : [];
    this.#removeOne(id, facts, size, hasContent !== 0, lost);
    for (const [childId, childFacts, childSize, childHasContent] of below) {
      this.#removeOne(childId, childFacts, childSize, childHasContent !== 0, lost);
    }
  }

  #removeOne(id: number, facts: number, size: number, hasContent: boolean, lost: boolean): void {
    this.#count(kindOfFacts(facts), size, -1);
    if (hasContent) {
      this.#mayHaveOrphans = true;
      this.#statements.orphanNode.run(id);
      this.#statements.orphanContent.run(lost ? 1 : 0, id);
    } else {
      this.#statements.deleteNode.run(id);
    }
  }

  #putContent(content: Content, orphan: boolean, state: StateRow | undefined): void {
    const before = state?.[5] ?? undefined;
    if (before !== undefined && state !== undefined) {
      const same = sameVersion(encodeVersion(content.version), state[4]);
      assert(same, 'a content never changes its version');
    }
    this.#transactions.deltas.contents += before === undefined ? 1 : 0;
    this.#transactions.deltas.resident_bytes += content.residentBytes - (before ?? 0);
    this.#statements.putContent.run(...contentRow(content), orphan ? 1 : 0);
  }

  #count(kind: NodeKind, sizeBytes: number, sign: 1 | -1): void {
    const { deltas } = this.#transactions;
    if (kind === NodeKind.directory) deltas.directories += sign;
    if (kind !== NodeKind.file) return;
    deltas.files += sign;
    deltas.remote_bytes += sign * Math.max(sizeBytes, 0);
  }
}

function goneError(id: number): Error {
  return ebbError('ENOENT', `Node ${id} is not in the catalog any more.`);
}

function sameVersion(a: string | Uint8Array | null, b: string | Uint8Array | null): boolean {
  if (a instanceof Uint8Array && b instanceof Uint8Array) return Buffer.compare(a, b) === 0;
  return a === b;
}

/** A content without a name gets a node that says as little as is known. */
function orphanNode(content: Content): NewNode {
  return {
    parentId: 0,
    name: lastNameOf(content.key),
    kind: NodeKind.file,
    mode: -1,
    uid: -1,
    gid: -1,
    sizeBytes: content.sizeBytes,
    mtimeSeconds: 0,
    mtimeNanoseconds: -1,
    exact: false,
    version: content.version,
    target: null,
    xattrs: null,
    checkedAtMs: 0,
  };
}

/**
 * Opens the catalog, or makes it when the file is missing or empty. One writer per file; calls are synchronous
 * and for one thread. Throws EUCLEAN (damaged: the sentence says to run `ebb rebuild`), EPROTO (written by a
 * newer Ebb), EROFS, ENOSPC, EBUSY, EIO; the methods throw the same. Dispose to close.
 */
export function openSqliteCatalog(path: string): Catalog {
  const database = openWriterDatabase(path);
  try {
    return new SqliteCatalog(database, path);
  } catch (error) {
    database.close();
    throw sqliteError(error, path);
  }
}
