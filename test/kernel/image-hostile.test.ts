/** Large files whose maps are hostile or damaged: the server reads them, and nobody waits for them. Needs root. */
import assert from 'node:assert/strict';
import { closeSync, openSync, readSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { mountImage } from '../image/fixture.ts';
import {
  endlessBytes,
  imageWithEndlessMaps,
  imageWithTornMap,
  lowBytes,
  soundBytes,
} from '../image/hostile-maps.ts';
import { loopMount } from '../support/loop-mount.ts';
import { patternBytes } from '../support/pattern.ts';
import { cpuSeconds } from '../support/process-costs.ts';
import { run } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';

/** All the way through such a map takes more, on any processor. */
const processorMaxSeconds = 5;
const pieceBytes = 100_000;

/** What is read at some places of both files, over seams as well. */
function readings(root: string): string[] {
  const said: string[] = [];
  for (const name of ['empty', 'dense']) {
    const file = openSync(path.join(root, name), 'r');
    try {
      for (const offset of [0, lowBytes - 5000, lowBytes * 9 + 77, endlessBytes - pieceBytes / 2]) {
        const piece = Buffer.alloc(pieceBytes);
        const count = readSync(file, piece, 0, pieceBytes, offset);
        said.push(`${name} ${offset} ${piece.subarray(0, count).toString('base64')}`);
      }
    } finally {
      closeSync(file);
    }
  }
  return said;
}

test('files of 16 million runs are opened without a walk through them, and have the kernel’s bytes', async () => {
  await using directory = await temporaryDirectory('endless');
  const image = await imageWithEndlessMaps(directory.path);
  let expected: string[];
  {
    await using kernel = await loopMount(image, { mountOptions: 'ro' });
    expected = readings(kernel.path);
  }
  await using mounted = await mountImage({ path: image });
  const before = cpuSeconds(mounted.serverPid);
  const seen = readings(mounted.path);
  const used = cpuSeconds(mounted.serverPid) - before;
  assert.ok(used < processorMaxSeconds, `the server took ${used} s`);
  assert.deepEqual(seen, expected);
  await assert.rejects(mountImage({ path: image }, 'native'), /cannot be mapped/);
});

test('of a large file with a damaged map is read what is sound, and the rest is EUCLEAN', async () => {
  await using directory = await temporaryDirectory('torn');
  const content = patternBytes(1, 2 * 1024 * 1024);
  await using mounted = await mountImage({ path: await imageWithTornMap(directory.path, content) });
  const head = await run('head', ['-c', `${soundBytes}`, path.join(mounted.path, 'torn')]);
  assert.ok(head.stdout.equals(content.subarray(0, soundBytes)), head.stderr.toString());
  const whole = await run('cat', [path.join(mounted.path, 'torn')]);
  assert.match(whole.stderr.toString(), /[Ss]tructure needs cleaning/);
});
