/**
 * The schema of the catalog of names and contents.
 *
 * Names, keys and handles are BLOBs, because Linux names are bytes. No AUTOINCREMENT: ids come from a counter
 * reserved durably in blocks (see transaction.ts), which also survives a power cut that takes the last listings
 * with it.
 */
import type { DatabaseSync } from 'node:sqlite';

import { ROOT_NODE_ID } from '../catalog.ts';
import { openReader, openWriter } from './database.ts';
import type { DatabaseFormat } from './database.ts';

/** Totals of the whole tree: the columns of `counters`. */
export const treeCounters = [
  'files',
  'directories',
  'remote_bytes',
  'resident_bytes',
  'contents',
] as const;
export type TreeCounter = (typeof treeCounters)[number];

/**
 * facts: kind (2 bits) | exact (1 bit) << 2 | (mode + 1) << 3, see rows.ts. parent 0: the root and orphans.
 * The partial indexes answer: child by name, children in order of id, subdirectories.
 * `orphan` repeats nodes.parent = 0, so that orphans can be found and adopted by key.
 */
const schema = `
CREATE TABLE nodes (
  id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL, facts INTEGER NOT NULL,
  uid INTEGER NOT NULL, gid INTEGER NOT NULL, size INTEGER NOT NULL,
  mtime_s INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, version ANY, rare BLOB,
  checked_ms INTEGER NOT NULL, listed_ms INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX nodes_by_name ON nodes (parent, name) WHERE parent > 0;
CREATE INDEX nodes_by_parent ON nodes (parent) WHERE parent > 0;
CREATE INDEX nodes_directories ON nodes (parent) WHERE parent > 0 AND facts & 3 = 2;

CREATE TABLE contents (
  id INTEGER PRIMARY KEY, key BLOB NOT NULL, version ANY NOT NULL, size INTEGER NOT NULL,
  chunk_bytes INTEGER NOT NULL, bitmap BLOB NOT NULL, resident INTEGER NOT NULL,
  complete INTEGER NOT NULL, handle BLOB NOT NULL, accessed_ms INTEGER NOT NULL,
  pinned INTEGER NOT NULL, lost INTEGER NOT NULL, orphan INTEGER NOT NULL
) STRICT;
CREATE INDEX contents_by_access ON contents (accessed_ms) WHERE resident > 0;
CREATE INDEX contents_orphans ON contents (id) WHERE orphan = 1;
CREATE INDEX contents_orphans_by_key ON contents (key) WHERE orphan = 1;

CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE counters (
  one INTEGER PRIMARY KEY CHECK (one = 1), files INTEGER NOT NULL, directories INTEGER NOT NULL,
  remote_bytes INTEGER NOT NULL, resident_bytes INTEGER NOT NULL, contents INTEGER NOT NULL,
  next_id INTEGER NOT NULL
) STRICT;
INSERT INTO counters VALUES (1, 0, 0, 0, 0, 0, ${ROOT_NODE_ID + 1});
INSERT INTO nodes VALUES (${ROOT_NODE_ID}, 0, x'', 2, -1, -1, -1, 0, -1, NULL, NULL, 0, 0);
`;

/** 'Ebb1'. Raise the version with every change of the schema and add a migration. */
const format: DatabaseFormat = { applicationId: 0x45_62_62_31, schemaVersion: 1, schema };

/** Opens or creates the database for the one writer. Throws EbbError: see `openSqliteCatalog`. */
export function openWriterDatabase(path: string): DatabaseSync {
  return openWriter(path, format);
}

/** Opens an existing database for reading beside the writer. */
export function openReaderDatabase(path: string): DatabaseSync {
  return openReader(path, format);
}
