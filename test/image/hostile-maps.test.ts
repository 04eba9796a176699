/** SEEK_DATA and SEEK_HOLE over maps that are as long as a hostile image can make them. */
import assert from 'node:assert/strict';
import { closeSync, openSync, writeSync } from 'node:fs';
import { mkdir, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { openVolume } from '../../src/ext4/volume.ts';
import type { Inode, Volume } from '../../src/ext4/volume.ts';
import { seekContent } from '../../src/image/server/extent-list.ts';
import { debugfs, makeImage, openImage } from '../ext4/support/images.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const blockBytes = 1024;
const pointers = blockBytes / 4;
/** Blocks before those behind the third level of pointers, and with them. */
const lowBlocks = 12 + pointers + pointers ** 2;
const fileBytes = (lowBlocks + pointers ** 3) * blockBytes;

/** Two files whose third level leads, 16,777,216 times, to the same block: one of zeros, one of one pointer. */
async function hostileImage(directory: string): Promise<string> {
  const source = path.join(directory, 'source');
  await mkdir(source);
  await writeFile(path.join(source, 'tables'), new Uint8Array(6 * blockBytes).fill(1));
  for (const name of ['empty', 'dense']) {
    await writeFile(path.join(source, name), '');
    await truncate(path.join(source, name), fileBytes);
  }
  const parameters = ['-t', 'ext2', '-b', `${blockBytes}`, '-d', source];
  const image = await makeImage(directory, parameters, 8 * 1024 * 1024);
  const said = await debugfs(image, ['blocks /tables']);
  const blocks = (/^[\d ]+$/m.exec(said)?.[0] ?? '').trim().split(' ').map(Number);
  const [emptyTop = 0, emptyMiddle = 0, zeros = 0, denseTop = 0, denseMiddle = 0, same = 0] =
    blocks;
  const descriptor = openSync(image, 'r+');
  for (const [block, pointer] of [
    [emptyTop, emptyMiddle],
    [emptyMiddle, zeros],
    [zeros, 0],
    [denseTop, denseMiddle],
    [denseMiddle, same],
    [same, same],
  ] as const) {
    const table = new Uint32Array(pointers).fill(pointer);
    writeSync(descriptor, table, 0, blockBytes, block * blockBytes);
  }
  closeSync(descriptor);
  await debugfs(image, [
    `set_inode_field /empty block[TIND] ${emptyTop}`,
    `set_inode_field /dense block[TIND] ${denseTop}`,
  ]);
  return image;
}

function named(volume: Volume, name: string): Inode {
  const entry = volume.lookup(volume.root(), Buffer.from(name));
  assert.ok(entry !== undefined);
  return volume.child(volume.root(), entry);
}

test('a hostile map is not walked to its end for one lseek, and who goes on gets on', async () => {
  await using directory = await temporaryDirectory('seek');
  using device = openImage(await hostileImage(directory.path));
  const volume = openVolume(device);
  const empty = named(volume, 'empty');
  assert.equal(empty.sizeBytes, fileBytes);
  const first = seekContent(volume, empty, 0, 'data') ?? Infinity;
  assert.ok(first > lowBlocks * blockBytes && first < fileBytes, `${first}`);
  assert.equal(seekContent(volume, empty, 5, 'hole'), 5);
  assert.equal(seekContent(volume, empty, first, 'data'), undefined);
  const dense = named(volume, 'dense');
  assert.equal(seekContent(volume, dense, 0, 'data'), lowBlocks * blockBytes);
  assert.equal(seekContent(volume, dense, lowBlocks * blockBytes + 7, 'hole'), fileBytes);
});
