/**
 * The database file: schema, version, and how connections are opened.
 *
 * Choices: WAL, so that readers in other threads never wait for the writer. No mmap: a truncated file or a bad
 * sector would be SIGBUS instead of an error. A small page cache per connection: the kernel's page cache holds
 * the file anyway. Names, keys and handles are BLOBs, because Linux names are bytes. No AUTOINCREMENT: ids come
 * from a counter reserved durably in blocks (see transaction.ts), which also survives a power cut that takes
 * the last listings with it.
 */
import { accessSync, constants, existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

import { ebbError, toEbbError } from '../../base/errors.ts';
import { ROOT_NODE_ID } from '../catalog.ts';
import { damagedCatalog, sqliteError } from './sqlite-error.ts';

/** 'Ebb1', in the database header: tells our file from somebody else's. */
const applicationId = 0x45_62_62_31;
/** PRAGMA user_version. Raise it with every change of the schema and add a migration. */
export const schemaVersion = 1;

/** Only an intruder makes the writer wait: the lock of the cache keeps other daemons out. */
const busyTimeoutMs = 1_000;
const writerCacheKib = 16_384;
const readerCacheKib = 4_096;
/** The WAL is cut back to this after a checkpoint. */
const journalSizeMaxBytes = 64 * 1024 * 1024;

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

PRAGMA application_id = ${applicationId};
PRAGMA user_version = ${schemaVersion};
`;

/** Opens or creates the database for the one writer. Throws EbbError: see `openSqliteCatalog`. */
export function openWriterDatabase(path: string): DatabaseSync {
  return openDatabase(path, false, (database) => {
    // A file system that is mounted read-only, or a file that may not be written, shows at the first lock.
    database.exec('BEGIN IMMEDIATE');
    const version = readVersion(database, path);
    if (version === 0) database.exec(schema);
    database.exec('COMMIT');
    database.exec(`PRAGMA journal_size_limit = ${journalSizeMaxBytes}`);
    database.exec(`PRAGMA cache_size = -${writerCacheKib}`);
  });
}

/** Opens an existing database for reading beside the writer. */
export function openReaderDatabase(path: string): DatabaseSync {
  return openDatabase(path, true, (database) => {
    if (readVersion(database, path) === 0) throw damagedCatalog(path, 'it is empty');
    database.exec(`PRAGMA cache_size = -${readerCacheKib}`);
  });
}

function openDatabase(
  path: string,
  readOnly: boolean,
  prepare: (database: DatabaseSync) => void,
): DatabaseSync {
  if (readOnly && !existsSync(path)) {
    throw ebbError('ENOENT', `There is no catalog ${path}.`);
  }
  if (!readOnly) requireWritable(dirname(path));
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { readOnly, timeout: busyTimeoutMs, returnArrays: true });
    if (!readOnly) {
      database.exec('PRAGMA journal_mode = WAL');
      database.exec('PRAGMA synchronous = FULL');
    }
    prepare(database);
    return database;
  } catch (error) {
    database?.close();
    throw sqliteError(error, path);
  }
}

/** SQLite only says that it could not open the file; this says why. */
function requireWritable(directory: string): void {
  try {
    accessSync(directory, constants.W_OK);
  } catch (error) {
    const { code } = toEbbError(error);
    throw ebbError(code, `The catalog's directory ${directory} cannot be written.`, {
      cause: error,
    });
  }
}

/** 0 for a new, empty file. Throws when the file is not a catalog or is newer than this program. */
function readVersion(database: DatabaseSync, path: string): number {
  const application = pragmaNumber(database, 'application_id');
  const version = pragmaNumber(database, 'user_version');
  const tables = pragmaNumber(database, 'schema_version');
  if (version === 0 && application === 0 && tables === 0) return 0;
  if (application !== applicationId) throw damagedCatalog(path, 'it is not a catalog of Ebb');
  if (version > schemaVersion) {
    throw ebbError(
      'EPROTO',
      `The catalog ${path} was written by a newer Ebb (format ${version}; this one knows formats up to ` +
        `${schemaVersion}). Use that Ebb, or unmount and run \`ebb rebuild\` with this one.`,
    );
  }
  if (version < 1) throw damagedCatalog(path, `its format is ${version}`);
  return version;
}

function pragmaNumber(database: DatabaseSync, name: string): number {
  const row = database.prepare(`PRAGMA ${name}`).get() as unknown as [number] | undefined;
  return row?.[0] ?? 0;
}
