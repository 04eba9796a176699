/** What a stub catalog is, in the plainest way: what the real one is compared with. */
import { StubChange } from '../../../src/base/stub-facts.ts';
import assert from 'node:assert/strict';

import { ebbError } from '../../../src/base/errors.ts';
import type {
  KnownKey,
  ListedDirectory,
  SiblingQuestion,
  StubCatalog,
  StubRecord,
  StubState,
  StubTotals,
} from '../../../src/catalog/stub-catalog.ts';
import { namesakeReach, siblingReach } from '../../../src/catalog/stub-catalog.ts';

export class StubCatalogModel implements StubCatalog {
  #stubs = new Map<number, StubRecord>();
  readonly #known = new Map<string, KnownKey>();
  readonly #listed = new Map<string, ListedDirectory>();
  readonly #settings = new Map<string, string>();
  #nextId = 1;

  get(id: number): StubRecord | undefined {
    return this.#stubs.get(id);
  }

  byHandle(handle: Uint8Array): StubRecord | undefined {
    return this.page(0, Infinity).find((stub) => Buffer.compare(stub.handle, handle) === 0);
  }

  stateByHandle(handle: Uint8Array): StubState | undefined {
    const stub = this.byHandle(handle);
    if (stub === undefined) return undefined;
    const { id, sizeBytes, residentBytes, change } = stub;
    return { id, sizeBytes, residentBytes, change };
  }

  byKey(key: string): StubRecord | undefined {
    return this.page(0, Infinity).findLast((stub) => stub.key === key);
  }

  reserveIds(count: number): number {
    this.#nextId += count;
    return this.#nextId - count;
  }

  continueIdsAfter(id: number): void {
    this.#nextId = Math.max(this.#nextId, id + 1);
  }

  insert(records: readonly StubRecord[]): void {
    const before = new Map(this.#stubs);
    for (const record of records) {
      if (this.get(record.id) !== undefined || this.byHandle(record.handle) !== undefined) {
        this.#stubs = before;
        throw ebbError('EEXIST', 'there');
      }
      this.#stubs.set(record.id, record);
    }
    for (const { id } of records) this.continueIdsAfter(id);
  }

  commitResidency(
    rows: readonly Pick<StubRecord, 'id' | 'bitmap' | 'residentBytes' | 'complete'>[],
  ): void {
    for (const row of rows) this.#change(row.id, row);
  }

  setChange(
    rows: readonly Pick<StubRecord, 'id' | 'change' | 'ctimeSeconds' | 'ctimeNanoseconds'>[],
  ): void {
    for (const row of rows) this.#change(row.id, row);
  }

  setPinned(id: number, pinned: boolean): void {
    this.#change(id, { pinned });
  }

  setLost(id: number, lost: boolean): void {
    this.#change(id, { lost });
  }

  touch(accesses: ReadonlyMap<number, number>): void {
    for (const [id, accessedAtMs] of accesses) this.#change(id, { accessedAtMs });
  }

  delete(ids: readonly number[]): void {
    for (const id of ids) this.#stubs.delete(id);
  }

  bury(ids: readonly number[]): void {
    for (const id of ids) {
      const stub = this.get(id);
      if (stub !== undefined) this.setKnown([{ key: stub.key, version: stub.version, id: 0 }]);
    }
    this.delete(ids);
  }

  known(key: string): KnownKey | undefined {
    return this.#known.get(key);
  }

  setKnown(keys: readonly KnownKey[]): void {
    for (const known of keys) this.#known.set(known.key, known);
  }

  page(afterId: number, limit: number): StubRecord[] {
    const ids = [...this.#stubs.keys()].filter((id) => id > afterId).toSorted((a, b) => a - b);
    return ids.slice(0, limit).flatMap((id) => this.get(id) ?? []);
  }

  undecided(afterId: number, limit: number): number[] {
    const { intent, discarding } = StubChange;
    return this.page(afterId, Infinity)
      .filter(({ change }) => change === intent || change === discarding)
      .map(({ id }) => id)
      .slice(0, limit);
  }

  #missing(sizeMaxBytes: number): StubRecord[] {
    return this.page(0, Infinity)
      .filter(({ change, complete, lost }) => change === 0 && !complete && !lost)
      .filter(({ sizeBytes }) => sizeBytes > 0 && sizeBytes <= sizeMaxBytes);
  }

  namesakes({ of, sizeMaxBytes, limit }: SiblingQuestion): number[] {
    const nameOf = (key: string): string => key.split('/').at(-1) ?? '';
    return this.#missing(sizeMaxBytes)
      .filter(({ id, key }) => id !== of.id && nameOf(key) === nameOf(of.key))
      .map(({ id }) => ({ id, distance: Math.abs(id - of.id) }))
      .filter(({ distance }) => distance <= namesakeReach)
      .toSorted((a, b) => a.distance - b.distance || b.id - a.id)
      .map(({ id }) => id)
      .slice(0, limit);
  }

  siblings({ of, sizeMaxBytes, limit }: SiblingQuestion): number[] {
    const directoryOf = (key: string): string => key.split('/').slice(0, -1).join('/');
    const near = this.#missing(sizeMaxBytes)
      .filter(({ id, key }) => id !== of.id && directoryOf(key) === directoryOf(of.key))
      .map(({ id }) => id)
      .filter((id) => Math.abs(id - of.id) <= siblingReach);
    const before = near.filter((id) => id < of.id).toReversed();
    return [...near.filter((id) => id > of.id), ...before].slice(0, limit);
  }

  leastRecentlyUsed(
    after: { readonly accessedAtMs: number; readonly id: number } | undefined,
    limit: number,
  ): StubRecord[] {
    const order = (a: { accessedAtMs: number; id: number }, b: typeof a): number =>
      a.accessedAtMs - b.accessedAtMs || a.id - b.id;
    return this.page(0, Infinity)
      .filter(({ residentBytes, pinned, change }) => residentBytes > 0 && !pinned && change === 0)
      .filter((stub) => after === undefined || order(stub, after) > 0)
      .toSorted(order)
      .slice(0, limit);
  }

  totals(): StubTotals {
    const stubs = this.page(0, Infinity);
    const sum = (of: (stub: StubRecord) => number): number =>
      stubs.reduce((total, stub) => total + of(stub), 0);
    return {
      stubs: stubs.length,
      complete: sum(({ complete }) => (complete ? 1 : 0)),
      dirty: sum(({ change }) => (change === StubChange.dirty ? 1 : 0)),
      remoteBytes: sum(({ sizeBytes }) => sizeBytes),
      residentBytes: sum(({ residentBytes }) => residentBytes),
    };
  }

  listed(key: string): ListedDirectory | undefined {
    return this.#listed.get(key);
  }

  setListed(directories: readonly ListedDirectory[]): void {
    for (const directory of directories) this.#listed.set(directory.key, directory);
  }

  forgetListed(): void {
    this.#listed.clear();
  }

  flush(): void {
    assert.ok(this.#nextId > 0);
  }

  setting(name: string): string | undefined {
    return this.#settings.get(name);
  }

  setSetting(name: string, value: string): void {
    this.#settings.set(name, value);
  }

  [Symbol.dispose](): void {
    this.#stubs.clear();
  }

  #change(id: number, change: Partial<StubRecord>): void {
    const stub = this.get(id);
    if (stub !== undefined) this.#stubs.set(id, { ...stub, ...change });
  }
}
