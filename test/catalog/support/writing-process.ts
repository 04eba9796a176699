/**
 * A process that writes to a catalog until it is killed, and reports what was durable when the call returned
 * (`id residentBytes` a line).
 */
import { writeSync } from 'node:fs';

import { openSqliteCatalog } from '../../../src/catalog/sqlite/catalog.ts';
import { insert, newContent, newNode, remove } from '../../conformance/catalog-fixtures.ts';

const [, , file = '', round = '0'] = process.argv;
const catalog = openSqliteCatalog(file);
for (let number = 0; ; number += 1) {
  const names = Array.from({ length: 20 }, (_, index) => newNode(1, `${round}-${number}-${index}`));
  const nodes = insert(catalog, 1, ...names);
  const [kept, gone] = nodes;
  if (kept === undefined || gone === undefined) break;
  catalog.putContent(newContent(kept.id, `${round}-${number}`, { residentBytes: 0 }));
  catalog.putContent(newContent(gone.id, 'gone'));
  remove(catalog, 1, gone.id, ...nodes.slice(10).map((node) => node.id));
  const residentBytes = (number % 97) + 1;
  const bitmap = Uint8Array.of(residentBytes);
  catalog.commitResidency([{ id: kept.id, bitmap, residentBytes, complete: false }]);
  catalog.deleteContent(gone.id);
  writeSync(1, `${kept.id} ${residentBytes} ${gone.id} ${nodes.at(-1)?.id}\n`);
}
