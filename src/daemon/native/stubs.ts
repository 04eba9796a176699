/** The stubs of a tree as the space keeper sees them: what they take, and which go first. */
import type { StubCatalog, StubRecord } from '../../catalog/stub-catalog.ts';
import { filesystemStatus } from '../../sys/statfs.ts';
import type { NativeStubStore } from '../../tree/stubs/store.ts';
import type { Reservoir } from '../space-keeper.ts';

const rowsPerPage = 500;

export class StubReservoir implements Reservoir {
  readonly #store: NativeStubStore;
  readonly #catalog: StubCatalog;

  constructor(store: NativeStubStore, catalog: StubCatalog) {
    this.#store = store;
    this.#catalog = catalog;
  }

  use(): { allocatedBytes: number; freeBytes: number } {
    return {
      allocatedBytes: this.#catalog.totals().residentBytes + this.#store.log.uncommittedBytes,
      freeBytes: filesystemStatus(this.#store.rootFd).availableBytes,
    };
  }

  async flush(): Promise<void> {
    await this.#store.flush();
  }

  *leastRecentlyUsed(): Generator<StubRecord> {
    for (let after: { accessedAtMs: number; id: number } | undefined; ;) {
      const page = this.#catalog.leastRecentlyUsed(after, rowsPerPage);
      yield* page;
      const last = page.at(-1);
      if (last === undefined || page.length < rowsPerPage) return;
      after = { accessedAtMs: last.accessedAtMs, id: last.id };
    }
  }
}

/**
 * Ids of the files that somebody was let write to and of which it is not known whether he did, in pages. However many
 * stubs there are, only these are read.
 */
export function undecidedStubs(catalog: StubCatalog): Generator<number[]> {
  return pages((afterId) => catalog.undecided(afterId, rowsPerPage), Number);
}

/** All records, in pages. */
export function allStubs(catalog: StubCatalog): Generator<StubRecord[]> {
  return pages(
    (afterId) => catalog.page(afterId, rowsPerPage),
    ({ id }) => id,
  );
}

/** Each page is as the catalog has it when it is asked for. */
function* pages<Row>(
  ask: (afterId: number) => Row[],
  idOf: (row: Row) => number,
): Generator<Row[]> {
  for (let afterId = 0; ;) {
    const page = ask(afterId);
    if (page.length > 0) yield page;
    const last = page.at(-1);
    if (last === undefined || page.length < rowsPerPage) return;
    afterId = idOf(last);
  }
}
