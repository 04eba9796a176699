/**
 * What SQLite says went wrong, as an errno and a sentence that a person can act on.
 * Result codes: https://www.sqlite.org/rescode.html (the low byte is the primary code).
 */
import { EbbError, ebbError } from '../../base/errors.ts';

const Primary = {
  error: 1,
  permission: 3,
  busy: 5,
  outOfMemory: 7,
  readOnly: 8,
  ioError: 10,
  corrupt: 11,
  full: 13,
  cannotOpen: 14,
  constraint: 19,
  notDatabase: 26,
} as const;

/** The primary result code of an error thrown by node:sqlite; undefined for other errors. */
function primaryCode(error: unknown): number | undefined {
  if (!(error instanceof Error)) return undefined;
  const { errcode } = error as { errcode?: unknown };
  return typeof errcode === 'number' ? errcode & 0xff : undefined;
}

/** The error for a catalog file that cannot be trusted. */
export function damagedCatalog(path: string, why: string, cause?: unknown): EbbError {
  return ebbError(
    'EUCLEAN',
    `The catalog ${path} is damaged (${why}). Unmount and run \`ebb rebuild\`: it makes a new one ` +
      'from the marks of the files in the cache; no content is lost.',
    { cause, retryable: false },
  );
}

/** What SQLite says of our statements when the schema in the file is not ours any more. */
const damagedSchema = /^(no such|no query solution|unsupported file format|table .* has)/;

/** Maps what node:sqlite threw while working on `path`. Errors that are not SQLite's come back as they are. */
export function sqliteError(error: unknown, path: string): unknown {
  const code = primaryCode(error);
  const text = error instanceof Error ? error.message : String(error);
  // An integer that no number holds: node:sqlite. None of ours is.
  if (error instanceof RangeError) return damagedCatalog(path, text, error);
  if (code === undefined || error instanceof EbbError) return error;
  switch (code) {
    case Primary.error:
      if (!damagedSchema.test(text)) break;
      return damagedCatalog(path, text, error);
    case Primary.corrupt:
    case Primary.notDatabase:
      return damagedCatalog(path, text, error);
    case Primary.full:
      return ebbError('ENOSPC', `No space is left for the catalog ${path}.`, { cause: error });
    case Primary.readOnly:
      return ebbError('EROFS', `The catalog ${path} cannot be written: ${text}.`, { cause: error });
    case Primary.busy:
      return ebbError('EBUSY', `Another process is using the catalog ${path}.`, { cause: error });
    case Primary.permission:
      return ebbError('EACCES', `The catalog ${path} may not be opened.`, { cause: error });
    case Primary.outOfMemory:
      return ebbError('ENOMEM', `No memory for the catalog ${path}.`, { cause: error });
    case Primary.constraint:
      return ebbError('EEXIST', `The catalog has this name or id already: ${text}.`, {
        cause: error,
      });
    case Primary.cannotOpen:
      return ebbError('EIO', `The catalog ${path} cannot be opened: ${text}.`, { cause: error });
    default:
  }
  return ebbError('EIO', `The catalog ${path} failed: ${text}.`, { cause: error });
}
