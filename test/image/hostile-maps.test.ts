/** What one request does with a map that is as long as a hostile image can make it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openVolume } from '../../src/ext4/volume.ts';
import type { Inode, Volume } from '../../src/ext4/volume.ts';
import { runsOf, seekContent } from '../../src/image/server/extent-list.ts';
import { openImage } from '../ext4/support/images.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { endlessBytes, imageWithEndlessMaps, lowBytes } from './hostile-maps.ts';

function named(volume: Volume, name: string): Inode {
  const entry = volume.lookup(volume.root(), Buffer.from(name));
  assert.ok(entry !== undefined);
  return volume.child(volume.root(), entry);
}

test('a hostile map is not walked to its end for one lseek, and who goes on gets on', async () => {
  await using directory = await temporaryDirectory('seek');
  using device = openImage(await imageWithEndlessMaps(directory.path));
  const volume = openVolume(device);
  const empty = named(volume, 'empty');
  assert.equal(empty.sizeBytes, endlessBytes);
  const first = seekContent(volume, empty, 0, 'data') ?? Infinity;
  assert.ok(first > lowBytes && first < endlessBytes, `${first}`);
  assert.equal(seekContent(volume, empty, 5, 'hole'), 5);
  assert.equal(seekContent(volume, empty, first, 'data'), undefined);
  const dense = named(volume, 'dense');
  assert.equal(seekContent(volume, dense, 0, 'data'), lowBytes);
  assert.equal(seekContent(volume, dense, lowBytes + 7, 'hole'), endlessBytes);
});

test('a hostile map is not walked to its end to be mapped, whether it leads to something or not', async () => {
  await using directory = await temporaryDirectory('runs');
  using device = openImage(await imageWithEndlessMaps(directory.path));
  const volume = openVolume(device);
  for (const name of ['empty', 'dense']) {
    const inode = named(volume, name);
    // Its end would be a list of no runs, or of 16 million.
    assert.equal(runsOf(volume, inode, 0, { runsMax: Infinity, lookedAtMax: 1000 }), undefined);
  }
});
