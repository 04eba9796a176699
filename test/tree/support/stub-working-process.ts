/**
 * A process that makes, recalls, changes and releases stubs until it is killed, and says a line after each step.
 *
 * stub-working-process.ts FILESYSTEM CATALOG SEED
 */
import { writeSync } from 'node:fs';
import path from 'node:path';

import type { StubFile } from '../../../src/tree/stubs/stub-store.ts';
import { openStubs, recall } from './stubs.ts';

const [, , mount = '', catalogPath = '', seed = '1'] = process.argv;
const data = path.join(mount, '.ebb', 'data');
const stubs = openStubs(
  { path: mount, data, catalogPath, [Symbol.dispose]: () => undefined },
  { limits: { commitIntervalMs: 5 } },
);
const { store, catalog } = stubs;

/** A small generator of our own, so that a seed says what happened. */
let state = Number(seed) + 1;
function random(below: number): number {
  state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
  return (state >>> 8) % below;
}

const filesMax = 200;
const files: StubFile[] = catalog.page(0, filesMax).flatMap(({ id }) => store.get(id) ?? []);

// What the one before us was killed in.
for (const file of files) {
  if (file.change === 0) continue;
  if (!store.unchanged(file)) throw new Error('nobody changed it');
  await store.setChange(file, 0);
}

async function step(): Promise<string> {
  const kind = random(10);
  if (files.length < 10 || (kind < 2 && files.length < filesMax)) {
    const sizeBytes = [5_000, 20_000, 81_920, 300_001][random(4)] ?? 0;
    files.push(stubs.add(`${seed}-${files.length}`, sizeBytes));
    return 'made';
  }
  const file = files[random(files.length)] as StubFile;
  if (kind < 7) {
    // As the recall engine: nothing is written into what is wholly here.
    if (file.residency.complete) return 'here';
    const first = random(file.residency.chunkCount);
    await recall(file, first, 1 + random(file.residency.chunkCount - first));
    return 'recalled';
  }
  if (kind < 9) {
    const batch = new Set(Array.from({ length: 8 }, () => files[random(files.length)] as StubFile));
    const results = await store.release([...batch], {
      prove: ({ version, sizeBytes }) => Promise.resolve({ version, sizeBytes }),
      isBusy: () => false,
    });
    return `released ${results.filter(({ released }) => released).length}`;
  }
  if (file.change === 0) await store.setChange(file, 2);
  if (!store.unchanged(file)) throw new Error('nobody changed it');
  await store.setChange(file, 0);
  return 'changed';
}

for (;;) writeSync(1, `${await step()}\n`);
