import assert from 'node:assert/strict';
import { open, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { fileDevice, memoryDevice } from '../../src/ext4/block-device.ts';
import type { BlockDevice } from '../../src/ext4/block-device.ts';
import { openVolume } from '../../src/ext4/volume.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const content = Uint8Array.from({ length: 10_000 }, (_, index) => (index * 7) % 251);

function checkReads(device: BlockDevice): void {
  assert.equal(device.sizeBytes, content.length);
  for (const [offset, size] of [
    [0, 10_000],
    [1, 4095],
    [9999, 1],
    [10_000, 0],
  ] as const) {
    const into = new Uint8Array(size);
    device.read(offset, into);
    assert.deepEqual(into, content.subarray(offset, offset + size));
  }
  for (const [offset, size] of [
    [9999, 2],
    [-1, 1],
    [0.5, 1],
    [2 ** 53, 1],
    [Number.NaN, 1],
  ] as const) {
    assert.throws(() => device.read(offset, new Uint8Array(size)), {
      name: 'EbbError',
      code: 'EIO',
    });
  }
}

test('memory is a device', () => checkReads(memoryDevice(content)));

test('an open file is a device, one that became shorter gives EIO', async () => {
  await using directory = await temporaryDirectory('device');
  const file = path.join(directory.path, 'image');
  await writeFile(file, content);
  await using handle = await open(file);
  const device = fileDevice(handle.fd, content.length);
  checkReads(device);
  await truncate(file, 5000);
  assert.throws(() => device.read(4999, new Uint8Array(2)), { code: 'EIO' });
});

test('what is no file system is refused', () => {
  assert.throws(() => openVolume(memoryDevice(content)), { name: 'EbbError' });
});
