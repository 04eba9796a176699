/**
 * File systems of many forms, filled through the kernel: names, attributes, extended attributes,
 * ACLs, content, holes and extents are what the kernel says they are.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openVolume } from '../../src/ext4/volume.ts';
import { loopMount } from '../support/loop-mount.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { compareWithKernel } from './support/compare.ts';
import { openImage } from './support/images.ts';
import { profileImage, profiles } from './support/profiles.ts';

for (const profile of profiles) {
  test(`the kernel agrees about ${profile.name}`, async () => {
    await using scratch = await temporaryDirectory('ext4');
    const image = await profileImage(scratch.path, profile);
    await using mounted = await loopMount(image, { mountOptions: 'ro' });
    using device = openImage(image);
    const volume = openVolume(device, { blockCacheMaxBytes: 2 * 1024 * 1024, inodeCacheMax: 100 });
    for (const feature of profile.features ?? []) {
      assert.ok(volume.superblock.features.has(feature), feature);
    }
    const comparison = compareWithKernel(volume, mounted.path);
    assert.ok(comparison.files > 100 && comparison.extents > 30 && comparison.bytes > 1e6);
    assert.ok(comparison.attributes > 20);
  });
}
