/**
 * A process that recalls until it is killed: writes the source's bytes, marks, commits every few milliseconds, and
 * reports what the catalog has said is durable (`id residentBytes` a line).
 */
import { writeSync } from 'node:fs';

import { openCache } from './cache.ts';

const [, , directory = '', round = '0'] = process.argv;

const cache = openCache(directory, { limits: { commitIntervalMs: 3 } });
for (let number = 0; ; number += 1) {
  const content = cache.add(`file-${round}-${number}`, 40 * 4_096 - (number % 7));
  const chunks = content.residency.chunkCount;
  for (let step = 0; step < chunks; step += 1) {
    await cache.fill(content, (step * 7) % chunks, 1);
  }
  await cache.store.log.settled(content.id);
  writeSync(1, `${content.id} ${cache.catalog.content(content.id)?.residentBytes ?? 0}\n`);
}
