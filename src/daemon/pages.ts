/** Rows of a catalog, page by page: each page is as the catalog has it when it is asked for. */

const rowsPerPage = 500;

/** Pages by ascending id. `ask`: the rows after an id, no more than that many. */
export function* pages<Row>(
  ask: (afterId: number, rowsMax: number) => Row[],
  idOf: (row: Row) => number,
): Generator<Row[]> {
  for (let afterId = 0; ;) {
    const page = ask(afterId, rowsPerPage);
    if (page.length > 0) yield page;
    const last = page.at(-1);
    if (last === undefined || page.length < rowsPerPage) return;
    afterId = idOf(last);
  }
}

interface Used {
  readonly id: number;
  readonly accessedAtMs: number;
}

/** All that a catalog of either kind has, least recently used first. */
export function* leastRecentlyUsed<Row extends Used>(catalog: {
  leastRecentlyUsed(after: Used | undefined, limit: number): Row[];
}): Generator<Row> {
  for (let after: Used | undefined; ;) {
    const page = catalog.leastRecentlyUsed(after, rowsPerPage);
    yield* page;
    const last = page.at(-1);
    if (last === undefined || page.length < rowsPerPage) return;
    after = { accessedAtMs: last.accessedAtMs, id: last.id };
  }
}
