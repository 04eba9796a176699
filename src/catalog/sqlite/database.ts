/**
 * Database files: format, version, and how connections are opened.
 *
 * Choices: WAL, so that readers in other threads never wait for the writer. No mmap: a truncated file or a bad
 * sector would be SIGBUS instead of an error. A small page cache per connection: the kernel's page cache holds
 * the file anyway.
 */
import { accessSync, constants, existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

import { ebbError, toEbbError } from '../../base/errors.ts';
import { damagedCatalog, sqliteError } from './sqlite-error.ts';

export interface DatabaseFormat {
  /** In the database header: tells our file from somebody else's. */
  readonly applicationId: number;
  /** PRAGMA user_version, >= 1. */
  readonly schemaVersion: number;
  readonly schema: string;
  /** Made at each opening for writing unless they are there: `CREATE INDEX IF NOT EXISTS`. */
  readonly laterIndexes?: string;
}

/** Only an intruder makes the writer wait: the lock of the cache keeps other daemons out. */
const busyTimeoutMs = 1_000;
const writerCacheKib = 16_384;
const readerCacheKib = 4_096;
/** The WAL is cut back to this after a checkpoint. */
const journalSizeMaxBytes = 64 * 1024 * 1024;

/**
 * Opens or creates the database for the one writer. Throws EUCLEAN (damaged), EPROTO (written by a newer
 * Ebb), EROFS, EACCES, ENOSPC, EBUSY, EIO.
 */
export function openWriter(path: string, format: DatabaseFormat): DatabaseSync {
  return openDatabase(path, false, (database) => {
    // A file system that is mounted read-only, or a file that may not be written, shows at the first lock.
    database.exec('BEGIN IMMEDIATE');
    const version = readVersion(database, path, format);
    if (version === 0) create(database, format);
    if (format.laterIndexes !== undefined) database.exec(format.laterIndexes);
    database.exec('COMMIT');
    database.exec(`PRAGMA journal_size_limit = ${journalSizeMaxBytes}`);
    database.exec(`PRAGMA cache_size = -${writerCacheKib}`);
  });
}

/** Opens an existing database for reading beside the writer. */
export function openReader(path: string, format: DatabaseFormat): DatabaseSync {
  return openDatabase(path, true, (database) => {
    if (readVersion(database, path, format) === 0) throw damagedCatalog(path, 'it is empty');
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

function create(
  database: DatabaseSync,
  { schema, applicationId, schemaVersion }: DatabaseFormat,
): void {
  database.exec(schema);
  database.exec(`PRAGMA application_id = ${applicationId}`);
  database.exec(`PRAGMA user_version = ${schemaVersion}`);
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
function readVersion(database: DatabaseSync, path: string, format: DatabaseFormat): number {
  const { applicationId, schemaVersion } = format;
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
