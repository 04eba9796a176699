/**
 * Rows of a damaged catalog: SQLite keeps no checksums, and reads a column as whatever its bytes say, in whatever order
 * the rows are linked. What cannot be a row of ours throws EUCLEAN, before anything is concluded from it.
 */
import { ebbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';

type Column = number | string | Uint8Array | null;

export function damagedRow(why: string): EbbError {
  return ebbError(
    'EUCLEAN',
    `The catalog is damaged (${why}). Unmount and run \`ebb rebuild\`: it makes a new one from the marks of the ` +
      'files; no content is lost.',
    { retryable: false },
  );
}

/** Whether these columns are integers that a number holds exactly. */
export function hasIntegers(row: readonly Column[], columns: readonly number[]): boolean {
  for (const column of columns) if (!Number.isSafeInteger(row[column])) return false;
  return true;
}

export function isVersion(column: Column): boolean {
  return column === null || typeof column === 'string' || column instanceof Uint8Array;
}

/** The rows of a page, whose ids ascend from `afterId` on: else a walk over pages would never end. */
export function ascending<Row extends { readonly id: number }>(
  rows: readonly Row[],
  afterId: number,
): Row[] {
  let before = afterId;
  for (const { id } of rows) {
    if (id <= before) throw damagedRow('rows are out of order');
    before = id;
  }
  return rows as Row[];
}

interface Used {
  readonly id: number;
  readonly accessedAtMs: number;
}

/** As `ascending`, of rows by the time of their last use, then by id. */
export function ascendingByUse<Row extends Used>(rows: readonly Row[], after: Used): Row[] {
  let before = after;
  for (const row of rows) {
    const isLater =
      row.accessedAtMs > before.accessedAtMs ||
      (row.accessedAtMs === before.accessedAtMs && row.id > before.id);
    if (!isLater) throw damagedRow('rows are out of order');
    before = row;
  }
  return rows as Row[];
}
