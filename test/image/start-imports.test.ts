/** What the broker of an image mount loads: an import of node:fs is 5 ms more of it (src/base/node-fs.ts). */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const src = path.join(import.meta.dirname, '../../src');
/** Loaded by name by the broker while a local image is mounted through FUSE. */
const loaded = [
  'image/broker/main.ts',
  'image/broker/options.ts',
  'image/broker/serve.ts',
  'image/broker/broker.ts',
  'image/broker/keeper.ts',
  'image/broker/backings.ts',
  'image/broker/writers.ts',
];
const importForm = /^import (?!type)[^;]*? from '([^']+)';/gm;

/** Adds a source and all that it imports. */
function collect(file: string, into: Map<string, string[]>): void {
  if (into.has(file)) return;
  const froms = [...readFileSync(file, 'utf8').matchAll(importForm)].map(([, from = '']) => from);
  into.set(file, froms);
  for (const from of froms) {
    if (from.startsWith('.')) collect(path.join(path.dirname(file), from), into);
  }
}

/** They load streams and more. */
const large = ['node:fs', 'node:stream/consumers'];

test('nothing that a mount of an image waits for imports node:fs or what it would load', () => {
  const found = new Map<string, string[]>();
  for (const file of loaded) collect(path.join(src, file), found);
  assert.ok(found.has(path.join(src, 'base/node-fs.ts')));
  const importing = [...found].filter(([, froms]) => froms.some((from) => large.includes(from)));
  assert.deepEqual(
    importing.map(([file]) => path.relative(src, file)),
    [],
  );
});
