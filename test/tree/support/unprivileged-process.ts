/** Uses a cache without privileges: fills a file, loses the catalog, rebuilds it, releases the file. */
import { rmSync } from 'node:fs';

import { catalogPath } from '../../../src/tree/layout.ts';
import { rebuildCatalog } from '../../../src/tree/rebuild.ts';
import { releaseContent } from '../../../src/tree/release-content.ts';
import { openCache } from './cache.ts';

const [, , directory = ''] = process.argv;

const before = openCache(directory);
const { id } = before.add('f', 4_096);
const filled = before.store.get(id);
if (filled !== undefined) await before.fill(filled);
await before.store.log.flush();
before.abandon();
for (const suffix of ['', '-wal', '-shm']) rmSync(catalogPath(directory) + suffix, { force: true });

const after = openCache(directory);
const report = await rebuildCatalog(after.catalog, directory, after.store.identity);
const content = after.store.get(id);
const result =
  content &&
  (await releaseContent(after.store, content, {
    prove: ({ version, sizeBytes }) => Promise.resolve({ version, sizeBytes }),
    isBusy: () => false,
  }));
const outcome = result?.released === true ? 'released' : JSON.stringify(result);
console.log(`${after.store.marks.attributeName} ${report.residentBytes} ${outcome}`);
after.abandon();
