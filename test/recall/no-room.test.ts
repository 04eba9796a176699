/** Thousands who wait when there is no room any more: each of them hears of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EbbError, ebbError } from '../../src/base/errors.ts';
import { RecallEngine } from '../../src/recall/engine.ts';
import type { Reserve } from '../../src/recall/recall.ts';
import type { ContentFile } from '../../src/tree/content.ts';
import { Residency } from '../../src/tree/residency.ts';
import { scene } from './scene.ts';
import { by, chunk, HeldRemote, MiB, settle } from './support.ts';

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

/** As the space keeper: who reads ahead leaves as much as he takes. */
function reserveOf(freeBytes: () => number): Reserve {
  return (bytes, intent, { now } = {}) => {
    const isAhead = intent === 'readahead';
    const wantedBytes = (now?.().otherBytes ?? 0) + (isAhead ? 2 * bytes : bytes);
    if (wantedBytes > freeBytes()) throw ebbError(isAhead ? 'EAGAIN' : 'ENOSPC', 'full');
  };
}

test('who reads in sequence gets what there is room for: little is brought behind where he has to stop', async () => {
  const roomBytes = 40 * MiB + chunk;
  const reserve = reserveOf(() => roomBytes - it.file.residency.residentBytes);
  await using it = scene(64 * MiB, { reserve });
  it.remote.open();
  let readBytes = 0;
  try {
    for (; readBytes < 64 * MiB; readBytes += chunk) {
      const stream = by(1, 'demand', { streamId: 7 });
      if (it.file.residency.has(readBytes, chunk)) it.engine.advance(it.file, readBytes, chunk, 7);
      else await it.engine.ensure(it.file, readBytes, chunk, stream);
    }
  } catch (error) {
    assert.ok(error instanceof EbbError && error.code === 'ENOSPC', String(error));
  }
  assert.ok(roomBytes - readBytes <= MiB, `${roomBytes - readBytes} bytes are not his`);
  assert.equal(it.engine.totals().failures, 1, 'guesses without room are no failures');
});

test('what is being read ahead gives its room to who is asked for', async () => {
  const reserve = reserveOf(() => 3 * MiB);
  await using it = scene(64 * MiB, { reserve });
  const first = it.engine.ensure(it.file, 0, chunk, by(1, 'demand', { streamId: 7 }));
  await settle();
  const [, ahead] = it.remote.seen;
  assert.equal(ahead?.lengthBytes, MiB);
  const other = it.engine.ensure(it.file, 32 * MiB, 2 * MiB, by(2));
  await settle();
  assert.equal(ahead?.signal.aborted, true);
  it.remote.open();
  await Promise.all([first, other]);
  assert.ok(it.file.residency.has(32 * MiB, 2 * MiB));
});

for (const intent of ['demand', 'get'] as const) {
  test(`who counts on several pieces that are read ahead, and given up, is served: ${intent}`, async () => {
    let mayGoAhead = true;
    const refusals: PromiseWithResolvers<void>[] = [];
    const reserve: Reserve = (_bytes, forWhat) => {
      if (forWhat !== 'readahead' || !mayGoAhead) return undefined;
      const refusal = Promise.withResolvers<void>();
      refusals.push(refusal);
      return refusal.promise;
    };
    await using it = scene(64 * MiB, { reserve, limits: { readAheadInitialBytes: 8 * MiB } });
    it.remote.open();
    await it.engine.ensure(it.file, 0, chunk, by(1, 'demand', { streamId: 7 }));
    await settle();
    assert.ok(refusals.length > 1, `${refusals.length} pieces`);
    const read = it.engine.ensure(it.file, chunk, 7 * MiB, by(2, intent));
    mayGoAhead = false;
    for (const { reject } of refusals) reject(ebbError('EAGAIN', 'full'));
    await read;
    assert.equal(it.engine.totals().failures, 0);
  });
}
