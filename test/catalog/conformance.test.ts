/** The conformance suite over both catalogs. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { MemoryCatalog } from '../../src/catalog/memory/catalog.ts';
import { openSqliteCatalog } from '../../src/catalog/sqlite/catalog.ts';
import { catalogConformance } from '../conformance/catalog.ts';

catalogConformance('memory', () => ({
  catalog: new MemoryCatalog(),
  [Symbol.dispose]: () => undefined,
}));

catalogConformance('sqlite', () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'ebb-catalog-'));
  const catalog = openSqliteCatalog(path.join(directory, 'catalog.sqlite'));
  return {
    catalog,
    [Symbol.dispose]: () => {
      catalog[Symbol.dispose]();
      rmSync(directory, { recursive: true, force: true });
    },
  };
});
