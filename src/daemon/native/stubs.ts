/** The stubs of a tree as the space keeper sees them: what they take, and which go first. */
import type { StubCatalog, StubRecord } from '../../catalog/stub-catalog.ts';
import { countsLate, filesystemStatus } from '../../sys/statfs.ts';
import { reservedBytesDefault } from '../../tree/stubs/store.ts';
import type { NativeStubStore } from '../../tree/stubs/store.ts';
import { leastRecentlyUsed, pages } from '../pages.ts';
import type { Reservoir } from '../space-keeper.ts';

export class StubReservoir implements Reservoir {
  readonly #store: NativeStubStore;
  readonly #catalog: StubCatalog;

  readonly reservedBytes = reservedBytesDefault;
  readonly count: (() => Promise<void>) | undefined;

  constructor(store: NativeStubStore, catalog: StubCatalog) {
    this.#store = store;
    this.#catalog = catalog;
    this.count = countsLate(store.rootFd) ? () => store.syncTree() : undefined;
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

  leastRecentlyUsed(): Generator<StubRecord> {
    return leastRecentlyUsed(this.#catalog);
  }
}

/**
 * Ids of the files that somebody was let write to and of which it is not known whether he did, in pages. However many
 * stubs there are, only these are read.
 */
export function undecidedStubs(catalog: StubCatalog): Generator<number[]> {
  return pages((afterId, rowsMax) => catalog.undecided(afterId, rowsMax), Number);
}

/** All records, in pages. */
export function allStubs(catalog: StubCatalog): Generator<StubRecord[]> {
  return pages(
    (afterId, rowsMax) => catalog.page(afterId, rowsMax),
    ({ id }) => id,
  );
}
