/** Thousands who wait when there is no room any more: each of them hears of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ebbError } from '../../src/base/errors.ts';
import { RecallEngine } from '../../src/recall/engine.ts';
import type { ContentFile } from '../../src/tree/content.ts';
import { Residency } from '../../src/tree/residency.ts';
import { by, chunk, HeldRemote, settle } from './support.ts';

function emptyFile(id: number): ContentFile {
  const residency = Residency.create(chunk, chunk);
  return {
    id,
    key: `file-${id}`,
    version: 'v1',
    sizeBytes: chunk,
    residency,
    losses: 0,
    write: () => Promise.resolve(),
    markResident: (first, count) => residency.markResident(first, count),
    readSync: () => 0,
  };
}

test('when the room for thousands is gone, each of them is refused', async () => {
  const readers = 4_000;
  const remote = new HeldRemote(chunk);
  let isFull = false;
  const reserve = (): void => {
    if (isFull) throw ebbError('ENOSPC', 'full');
  };
  const engine = new RecallEngine({ remote, reserve });
  const reads = Array.from({ length: readers }, (_, id) =>
    engine.ensure(emptyFile(id + 1), 0, 10, by(1)),
  );
  await settle();
  const begun = remote.active;
  isFull = true;
  remote.open();
  const codes = new Map<string, number>();
  for (const result of await Promise.allSettled(reads)) {
    const code =
      result.status === 'fulfilled' ? 'here' : String((result.reason as { code?: unknown }).code);
    codes.set(code, (codes.get(code) ?? 0) + 1);
  }
  assert.deepEqual(Object.fromEntries(codes), { here: begun, ENOSPC: readers - begun });
  assert.deepEqual(engine.flights(), []);
  await engine.close();
});
