/** A directory that is too long to be held: what of it is in memory at a time. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { systemClock } from '../../src/base/clock.ts';
import { ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import { openSqliteCatalog } from '../../src/catalog/sqlite/catalog.ts';
import { partNames } from '../../src/recall/namespace/listing-entry.ts';
import { Namespace } from '../../src/recall/namespace/namespace.ts';
import { MemoryRemote } from '../../src/remote/memory/memory-remote.ts';
import type { ListingBatch } from '../../src/remote/remote.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const batchNames = 1_024;
const batches = 60;

/** Makes names when it is asked for them. */
class LongRemote extends MemoryRemote {
  produced = 0;
  onBatch = (): void => {};

  override async *list(): AsyncGenerator<ListingBatch> {
    for (let batch = 0; batch < batches; batch += 1) {
      const objects = Array.from({ length: batchNames }, (_unused, index) => ({
        name: `file-${batch}-${index}`,
        kind: 'file' as const,
        sizeBytes: 1,
      }));
      this.produced += objects.length;
      this.onBatch();
      yield { objects, skipped: [] };
    }
  }
}

test('a long listing is entered as it comes: no more than one part of it waits, however long it is', async () => {
  await using directory = await temporaryDirectory('long-listing');
  using catalog = openSqliteCatalog(path.join(directory.path, 'catalog.db'));
  const remote = new LongRemote();
  let waitingMax = 0;
  remote.onBatch = () => {
    waitingMax = Math.max(waitingMax, remote.produced - catalog.totals(ROOT_NODE_ID).files);
  };
  const namespace = new Namespace({
    catalog,
    remote,
    clock: systemClock,
    ttlMs: 60_000,
    deadlineMs: 60_000,
    onChange: () => undefined,
    onProblem: (message, error) => assert.fail(`${message}: ${error.message}`),
  });
  await namespace.list(ROOT_NODE_ID);
  assert.equal(catalog.totals(ROOT_NODE_ID).files, batches * batchNames);
  assert.ok(waitingMax > 0 && waitingMax <= partNames + batchNames, `${waitingMax} waited`);
});
