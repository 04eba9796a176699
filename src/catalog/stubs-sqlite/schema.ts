/**
 * The schema of the catalog of stubs.
 *
 * Keys and handles are found by hashes (rows.ts) that keep neighbours together: an index of the keys themselves
 * would be as large as the table, and inserting into an index in random order costs more than all the rest.
 */
import type { DatabaseSync } from 'node:sqlite';

import { openReader, openWriter } from '../sqlite/database.ts';
import type { DatabaseFormat } from '../sqlite/database.ts';

/** Totals: the columns of `counters`. */
export const stubCounters = [
  'stubs',
  'complete',
  'dirty',
  'remote_bytes',
  'resident_bytes',
] as const;
export type StubCounter = (typeof stubCounters)[number];

/** `flushes` is only there to be changed: a transaction that changes nothing syncs nothing. */
const schema = `
CREATE TABLE stubs (
  id INTEGER PRIMARY KEY, handle_hash INTEGER NOT NULL, handle BLOB NOT NULL,
  key BLOB NOT NULL, key_hash INTEGER NOT NULL,
  version ANY NOT NULL, size INTEGER NOT NULL, mtime_s INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  chunk_bytes INTEGER NOT NULL, bitmap BLOB NOT NULL, resident INTEGER NOT NULL,
  complete INTEGER NOT NULL, change INTEGER NOT NULL, ctime_s INTEGER NOT NULL,
  ctime_ns INTEGER NOT NULL, pinned INTEGER NOT NULL, lost INTEGER NOT NULL,
  accessed_ms INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX stubs_by_handle ON stubs (handle_hash, handle);
CREATE INDEX stubs_by_key ON stubs (key_hash);
CREATE INDEX stubs_by_access ON stubs (accessed_ms)
  WHERE resident > 0 AND change = 0 AND pinned = 0;

CREATE TABLE known (
  key BLOB PRIMARY KEY, version ANY NOT NULL, id INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE listed (
  key BLOB PRIMARY KEY, listed_ms INTEGER NOT NULL, attributes TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE counters (
  one INTEGER PRIMARY KEY CHECK (one = 1), stubs INTEGER NOT NULL, complete INTEGER NOT NULL,
  dirty INTEGER NOT NULL, remote_bytes INTEGER NOT NULL, resident_bytes INTEGER NOT NULL,
  flushes INTEGER NOT NULL, next_id INTEGER NOT NULL
) STRICT;
INSERT INTO counters VALUES (1, 0, 0, 0, 0, 0, 0, 1);
`;

/** Needs no new version: older programs keep indexes up to date that they do not know. */
const laterIndexes = `
CREATE INDEX IF NOT EXISTS stubs_undecided ON stubs (id) WHERE change IN (1, 2);
`;

/** 'EbbS'. Raise the version with every change of the schema and add a migration. */
const format: DatabaseFormat = {
  applicationId: 0x45_62_62_53,
  schemaVersion: 1,
  schema,
  laterIndexes,
};

/** Opens or creates the database for its one writer. Throws as `openWriter`. */
export function openStubDatabase(path: string): DatabaseSync {
  return openWriter(path, format);
}

/** Opens it beside its writer. Throws as `openReader`. */
export function openStubReader(path: string): DatabaseSync {
  return openReader(path, format);
}
