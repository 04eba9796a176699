/** Columns of text, aligned. Pure. */

export interface Column {
  readonly title: string;
  readonly align?: 'left' | 'right';
}

/** Lines of a table with a heading; the last column is not padded. Cells must be harmless text already. */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
): string[] {
  return alignRows([columns.map((column) => column.title), ...rows], columns);
}

/** Aligns rows without a heading; `columns` gives the alignment. Two spaces between columns. */
export function alignRows(
  rows: readonly (readonly string[])[],
  columns: readonly Pick<Column, 'align'>[],
): string[] {
  const widths = columns.map((_, index) =>
    rows.reduce((widest, row) => Math.max(widest, (row[index] ?? '').length), 0),
  );
  return rows.map((row) =>
    columns
      .map(({ align }, index) => {
        const cell = row[index] ?? '';
        if (align === 'right') return cell.padStart(widths[index] ?? 0);
        return index === columns.length - 1 ? cell : cell.padEnd(widths[index] ?? 0);
      })
      .join('  ')
      .trimEnd(),
  );
}

/** `label   value` lines with the values below each other. */
export function renderFacts(facts: readonly (readonly [string, string])[]): string[] {
  const width = facts.reduce((widest, [label]) => Math.max(widest, label.length), 0);
  return facts.map(([label, value]) => `  ${label.padEnd(width)}  ${value}`.trimEnd());
}
