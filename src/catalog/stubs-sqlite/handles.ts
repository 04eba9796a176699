/** Which files are stubs, for a thread beside the one that has the catalog. */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { sqliteError } from '../sqlite/sqlite-error.ts';
import { hashHandle } from './rows.ts';
import { openStubReader } from './schema.ts';

export class StubHandles implements Disposable {
  readonly #path: string;
  readonly #database: DatabaseSync;
  readonly #find: StatementSync;

  /** Opens the catalog at `path`, which somebody else may be writing. Throws as `openReader`. */
  constructor(path: string) {
    this.#path = path;
    this.#database = openStubReader(path);
    this.#find = this.#database.prepare('SELECT 1 FROM stubs WHERE handle_hash = ? AND handle = ?');
  }

  /** Whether a stub has this handle (`encodeHandle`), by all that is committed. Throws EUCLEAN, EIO, EBUSY. */
  has(handle: Uint8Array): boolean {
    try {
      return this.#find.get(hashHandle(handle), handle) !== undefined;
    } catch (error) {
      throw sqliteError(error, this.#path);
    }
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }
}
