/** Copies of a tree's catalog are told from the catalog itself. */
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { beginEpoch, keepEpoch, requireSameEpoch } from '../../src/attach/tree-epoch.ts';
import type { EpochRecord } from '../../src/attach/tree-epoch.ts';
import { EbbError } from '../../src/base/errors.ts';
import { temporaryDirectory } from '../support/temporary.ts';

/** As much of a catalog as matters here; a copy is one more of them. */
class Settings implements EpochRecord {
  readonly values: Map<string, string>;

  constructor(values: ReadonlyMap<string, string> = new Map()) {
    this.values = new Map(values);
  }

  setting(name: string): string | undefined {
    return this.values.get(name);
  }

  setSetting(name: string, value: string): void {
    this.values.set(name, value);
  }
}

const isRefused = (error: unknown): boolean =>
  error instanceof EbbError && error.code === 'EUCLEAN' && /ebb rebuild \/t,/.test(error.message);

test('a copy of a catalog is right until the tree is served, and until it is not served any more', async () => {
  await using directory = await temporaryDirectory('epoch');
  const ebb = directory.path;
  const catalog = new Settings();
  requireSameEpoch(catalog, ebb, '/t');
  const copies: Settings[] = [];
  for (let turn = 0; turn < 4; turn += 1) {
    copies.push(new Settings(catalog.values));
    beginEpoch(catalog, ebb);
    requireSameEpoch(catalog, ebb, '/t');
    requireSameEpoch(new Settings(catalog.values), ebb, '/t');
    for (const copy of copies) {
      assert.throws(() => requireSameEpoch(copy, ebb, '/t'), isRefused);
    }
  }
  const another = new Settings(new Map([['epochs', 'one two']]));
  assert.throws(() => requireSameEpoch(another, ebb, '/t'), isRefused);
  const rebuilt = new Settings();
  assert.throws(() => requireSameEpoch(rebuilt, ebb, '/t'), isRefused);
  keepEpoch(rebuilt, ebb);
  requireSameEpoch(rebuilt, ebb, '/t');
  rmSync(path.join(ebb, 'epoch'));
  assert.throws(() => requireSameEpoch(rebuilt, ebb, '/t'), isRefused);
});

test('a crash between catalog and tree, or a full disk of the tree, makes no copy of the catalog', async () => {
  await using directory = await temporaryDirectory('epoch');
  const ebb = directory.path;
  const catalog = new Settings();
  beginEpoch(catalog, ebb);
  // What cannot be written leaves the word that the tree has, however often.
  const inTheWay = path.join(ebb, 'epoch.new');
  mkdirSync(inTheWay);
  writeFileSync(path.join(inTheWay, 'file'), '');
  for (let turn = 0; turn < 3; turn += 1) {
    assert.throws(() => beginEpoch(catalog, ebb));
    requireSameEpoch(catalog, ebb, '/t');
  }
  rmSync(inTheWay, { recursive: true });
  beginEpoch(catalog, ebb);
  requireSameEpoch(catalog, ebb, '/t');
});
