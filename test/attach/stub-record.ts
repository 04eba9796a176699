/** A stub's record for tests of what is decided from it. */
import { StubChange } from '../../src/base/stub-facts.ts';
import type { StubRecord } from '../../src/catalog/stub-catalog.ts';

export function stubRecord(overrides: Partial<StubRecord> = {}): StubRecord {
  const id = overrides.id ?? 1;
  return {
    id,
    handle: Uint8Array.of(id),
    key: 'd/a',
    version: 'v1',
    sizeBytes: 10,
    mtimeSeconds: 0,
    mtimeNanoseconds: 0,
    chunkBytes: 4096,
    bitmap: new Uint8Array(),
    residentBytes: 0,
    complete: false,
    change: StubChange.clean,
    ctimeSeconds: 0,
    ctimeNanoseconds: 0,
    pinned: false,
    lost: false,
    accessedAtMs: 0,
    ...overrides,
  };
}
