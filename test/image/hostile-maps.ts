/** An image whose files have maps that are as long as a hostile image can make them, or lead nowhere. */
import { closeSync, openSync, writeSync } from 'node:fs';
import { mkdir, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { debugfs, makeImage } from '../ext4/support/images.ts';

const blockBytes = 1024;
const pointers = blockBytes / 4;
const lowBlocks = 12 + pointers + pointers ** 2;
/** Of the endless files: what comes before the third level of pointers. All of it is a hole. */
export const lowBytes = lowBlocks * blockBytes;
/** Of the endless files, to the end of the third level. */
export const endlessBytes = (lowBlocks + pointers ** 3) * blockBytes;
/** Of `torn`: what comes before the second level. */
export const soundBytes = (12 + pointers) * blockBytes;

const parameters = ['-t', 'ext2', '-b', `${blockBytes}`];
const imageBytes = 8 * 1024 * 1024;

/** `empty` and `dense`: the third level leads 16,777,216 times to the same block: one of zeros, one of one pointer. */
export async function imageWithEndlessMaps(directory: string): Promise<string> {
  const source = path.join(directory, 'endless');
  await mkdir(source);
  await writeFile(path.join(source, 'tables'), new Uint8Array(6 * blockBytes).fill(1));
  for (const name of ['empty', 'dense']) {
    await writeFile(path.join(source, name), '');
    await truncate(path.join(source, name), endlessBytes);
  }
  const image = await makeImage(
    directory,
    [...parameters, '-d', source],
    imageBytes,
    'endless.img',
  );
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

/** `torn`, a file of `content`: the second level of its map leads out of the image. */
export async function imageWithTornMap(directory: string, content: Uint8Array): Promise<string> {
  const source = path.join(directory, 'torn');
  await mkdir(source);
  await writeFile(path.join(source, 'torn'), content);
  const image = await makeImage(directory, [...parameters, '-d', source], imageBytes, 'torn.img');
  await debugfs(image, ['set_inode_field /torn block[DIND] 1000000']);
  return image;
}
