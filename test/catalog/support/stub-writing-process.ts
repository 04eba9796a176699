/** A process that writes to a catalog of stubs until it is killed, and says what was durable (`id change` a line). */
import type { StubChange } from '../../../src/base/stub-facts.ts';
import { writeSync } from 'node:fs';

import { openSqliteStubCatalog } from '../../../src/catalog/stubs-sqlite/catalog.ts';
import { stubRecord } from '../../conformance/stub-catalog.ts';

const catalog = openSqliteStubCatalog(process.argv[2] ?? '');
for (let number = 0; ; number += 1) {
  const first = catalog.reserveIds(10);
  const handle = (id: number): Uint8Array => {
    const bytes = new Uint8Array(12);
    new DataView(bytes.buffer).setUint32(4, id, true);
    return bytes;
  };
  catalog.insert(
    Array.from({ length: 10 }, (_, at) => stubRecord(first + at, { handle: handle(first + at) })),
  );
  const residentBytes = number % 97;
  catalog.commitResidency([
    { id: first + 1, bitmap: Uint8Array.of(1), residentBytes, complete: number % 2 === 0 },
  ]);
  const change = (number % 4) as StubChange;
  catalog.setChange([{ id: first, change, ctimeSeconds: 1, ctimeNanoseconds: 2 }]);
  writeSync(1, `${first} ${change}\n`);
}
