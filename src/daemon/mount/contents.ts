/** Joins tree and catalog: a content has a row and a local file, made together, loaded together, deleted together. */
import { systemClock } from '../../base/clock.ts';
import type { Clock } from '../../base/clock.ts';
import { assert } from '../../base/assert.ts';
import { ebbError, toEbbError } from '../../base/errors.ts';
import { ROOT_NODE_ID } from '../../catalog/catalog.ts';
import type { Catalog, Content, Node } from '../../catalog/catalog.ts';
import { openSqliteCatalog } from '../../catalog/sqlite/catalog.ts';
import type { LocalContents } from '../../recall/namespace/prepare.ts';
import { SingleFlight } from '../../recall/namespace/single-flight.ts';
import { countsLate } from '../../sys/statfs.ts';
import { openTree, reservedBytesDefault } from '../../tree/content-store.ts';
import type { ContentStore, TreeOptions, TreeProblem } from '../../tree/content-store.ts';
import { handleRecord, openHandleSecret } from '../../tree/handle-secret.ts';
import type { HandleSecret } from '../../tree/handle-secret.ts';
import { CatalogStamp, forgetClaims } from '../../tree/catalog-stamp.ts';
import { catalogPath, makeDirectories, removeUnused } from '../../tree/layout.ts';
import type { Former } from '../../tree/layout.ts';
import type { StoredContent } from '../../tree/stored-content.ts';
import { leastRecentlyUsed } from '../pages.ts';
import type { Reservoir } from '../space-keeper.ts';

export class Contents implements LocalContents, Reservoir {
  readonly catalog: Catalog;
  readonly store: ContentStore;
  readonly reservedBytes = reservedBytesDefault;
  readonly count: (() => Promise<void>) | undefined;
  readonly #clock: Clock;
  readonly #former: Former;
  /** Contents without a row whose file goes in a moment. */
  readonly #deleting = new Set<number>();
  /** Files that are not ours, on their way out. */
  readonly #removals = new SingleFlight<number, void>();

  private constructor(store: ContentStore, catalog: Catalog, clock: Clock, former: Former) {
    this.store = store;
    this.catalog = catalog;
    this.#clock = clock;
    this.#former = former;
    this.count = countsLate(store.directory) ? () => store.sync() : undefined;
  }

  /**
   * Takes possession of the cache (one daemon at a time) and opens its catalog. `remote`: identity without
   * credentials; a cache belongs to one. Throws as `openTree` and `openSqliteCatalog`.
   */
  static async open(
    cacheDirectory: string,
    remote: string,
    onProblem: (problem: TreeProblem) => void,
    clock: Clock = systemClock,
    more: Pick<TreeOptions, 'limits' | 'syncData'> = {},
  ): Promise<Contents> {
    const former = makeDirectories(cacheDirectory);
    // The catalog is opened only once the lock is ours.
    const late: { catalog?: Catalog; stamp?: CatalogStamp } = {};
    const opened = (): Catalog => {
      assert(late.catalog !== undefined, 'the catalog is open before a content is used');
      return late.catalog;
    };
    const store = openTree(cacheDirectory, {
      remote,
      lookup: (id) => opened().content(id),
      commit: (rows) => opened().commitResidency(rows),
      beforeFreeing: () => late.stamp?.renew(),
      onProblem,
      ...more,
    });
    try {
      late.catalog = openSqliteCatalog(catalogPath(cacheDirectory));
      late.stamp = new CatalogStamp(cacheDirectory, late.catalog, clock);
      if (!late.stamp.isNewest) {
        forgetClaims(late.catalog);
        late.stamp.renew();
        const message =
          'The catalog of the cache is not the newest one (was it put back from a backup?): ' +
          'all content is recalled again.';
        onProblem({ kind: 'old catalog', contentId: undefined, message, cause: undefined });
      }
    } catch (error) {
      late.catalog?.[Symbol.dispose]();
      store.abandon();
      throw error;
    }
    return new Contents(store, late.catalog, clock, former);
  }

  get catalogPath(): string {
    return catalogPath(this.store.directory);
  }

  /** What handles of this cache's nodes are made with; `renew` as in `HandleSecretOptions`. Throws as it does. */
  handleSecret(renew: boolean): HandleSecret {
    const { directory, identity } = this.store;
    const record = handleRecord(this.catalog);
    return openHandleSecret({ directory, treeId: identity.treeId, record, renew });
  }

  contentOf(node: Node, key: string): StoredContent {
    assert(node.version !== null && node.exact, `node ${node.id} is exact and has a version`);
    const known = this.store.get(node.id);
    if (known !== undefined) {
      if (known.version === node.version && known.sizeBytes === node.sizeBytes) return known;
      throw ebbError('EIO', `The cache has another version of ${key} under the same id.`);
    }
    const content = this.store.create(node.id, key, node.version, node.sizeBytes);
    try {
      const facts = this.store.factsOf(content);
      this.catalog.putContent({ ...facts, accessedAtMs: this.#clock.nowMs(), lost: false });
    } catch (error) {
      // Without a row nothing of it would ever be recorded.
      this.store.delete(node.id).catch(() => undefined);
      throw error;
    }
    return content;
  }

  /** The content if it has a local file. */
  get(id: number): StoredContent | undefined {
    return this.store.get(id);
  }

  /**
   * A descriptor for reading that the caller owns, and its content. A cache file that is not ours any more (the
   * store disowned it: EIO) is made anew, empty, first.
   */
  async openLocal(node: Node, key: string): Promise<{ file: StoredContent; descriptor: number }> {
    if (this.#removals.has(node.id)) await this.#remove(node.id);
    const file = this.contentOf(node, key);
    try {
      return { file, descriptor: this.store.openForPassthrough(node.id).release() };
    } catch (error) {
      if (toEbbError(error).code !== 'EIO') throw error;
      await this.#remove(node.id);
      const fresh = this.contentOf(node, key);
      return { file: fresh, descriptor: this.store.openForPassthrough(node.id).release() };
    }
  }

  /** Once for all who found that the file is not ours: a second removal would take what the first has made anew. */
  #remove(id: number): Promise<void> {
    return this.#removals.run(id, () => this.delete(id));
  }

  /** Gives up a local file whose row did not get into the catalog: nothing of it would ever be recorded. */
  discardUnrecorded(id: number): void {
    if (this.catalog.content(id) !== undefined) return;
    // What cannot be removed now is a leftover, and replaced when its id gets a content.
    this.store.delete(id).catch(() => undefined);
  }

  /** Removes row and file. Refuses nothing: the caller has decided. */
  async delete(id: number): Promise<void> {
    this.#deleting.add(id);
    try {
      this.catalog.deleteContent(id);
      await this.store.delete(id);
    } finally {
      this.#deleting.delete(id);
    }
  }

  /** Whether nothing and nobody knows of a file with this id: no row, no deletion under way. */
  isUnknown(id: number): boolean {
    return !this.#deleting.has(id) && this.catalog.content(id) === undefined;
  }

  /** Chunks are written whole, so resident bytes are what the files take on disk. */
  use(): { allocatedBytes: number; freeBytes: number } {
    const { store, catalog } = this;
    const { residentBytes } = catalog.totals(ROOT_NODE_ID);
    return {
      allocatedBytes: residentBytes + store.log.uncommittedBytes,
      freeBytes: store.space().availableBytes,
    };
  }

  async flush(): Promise<void> {
    await this.store.log.flush();
  }

  leastRecentlyUsed(): Generator<Content> {
    return leastRecentlyUsed(this.catalog);
  }

  /** Closes all without committing anything. */
  abandon(): void {
    this.store.abandon();
    this.catalog[Symbol.dispose]();
  }

  async close(): Promise<void> {
    const hasNames = this.catalog.children(ROOT_NODE_ID, 0, 1).length > 0;
    if (!hasNames && this.catalog.node(ROOT_NODE_ID)?.listedAtMs === 0) {
      // Nothing was ever listed, so there is nothing to commit.
      this.catalog[Symbol.dispose]();
      removeUnused(this.store.directory, this.#former);
      this.store.abandon();
      return;
    }
    try {
      await this.store[Symbol.asyncDispose]();
    } finally {
      this.catalog[Symbol.dispose]();
    }
  }
}
