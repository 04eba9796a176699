/** What who mounts an image is told about it: what of it is damaged and was read around. */
import assert from 'node:assert/strict';
import { closeSync, fstatSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { openImage } from '../../src/image/server/open.ts';
import { makeImage } from '../ext4/support/images.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const mib = 1024 * 1024;
const nowhere = { ask: () => 0, prefetch: () => {}, wait: () => 0 };

function notesOf(image: string): readonly string[] {
  const fd = openSync(image, 'r');
  try {
    const imageBytes = fstatSync(fd).size;
    return openImage(fd, { imageBytes, mode: 'serve' }, nowhere).notes;
  } finally {
    closeSync(fd);
  }
}

test('a mount says which damage it reads around: table, superblock, container', async () => {
  await using directory = await temporaryDirectory('open-notes');
  const image = await makeImage(directory.path, ['-t', 'ext4', '-b', '1024'], 16 * mib);
  assert.deepEqual(notesOf(image), []);
  const disk = path.join(directory.path, 'disk');
  writeFileSync(disk, new Uint8Array(18 * mib));
  const script = { input: 'label: gpt\nstart=2048, type=linux\n', debianPackage: 'fdisk' };
  await runOk('sfdisk', ['-q', '--no-reread', '--no-tell-kernel', disk], script);
  const bytes = readFileSync(disk);
  readFileSync(image).copy(bytes, mib);
  writeFileSync(disk, bytes);
  assert.deepEqual(notesOf(disk), ['partition 1']);
  bytes.fill(0, 512, 1024);
  bytes.fill(0, mib + 1024, mib + 2048);
  writeFileSync(disk, bytes);
  const [place, table, superblock, ...more] = notesOf(disk);
  assert.deepEqual([place, more], ['partition 1', []]);
  assert.match(table ?? '', /first partition table is damaged .* its copy is used/);
  assert.match(superblock ?? '', /first superblock is damaged \(.*\): the copy in block 8193/);
  const packed = path.join(directory.path, 'packed');
  await runOk('qemu-img', ['convert', '-O', 'qcow2', image, packed], {
    debianPackage: 'qemu-utils',
  });
  const qcow = readFileSync(packed);
  // incompatible_features, bit 1.
  qcow.writeUInt8(qcow.readUInt8(79) | 2, 79);
  writeFileSync(packed, qcow);
  assert.deepEqual(notesOf(packed), ['QEMU marked this image as corrupt']);
});
