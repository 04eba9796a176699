/** Reading cold files of a served native tree: every way gives the source's bytes, and no more is fetched. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { patternBytes } from '../support/pattern.ts';
import { nativeScene } from './native-scene.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`${type}: a cold file is read`, async () => {
    await using scene = await nativeScene(type);
    scene.add('f', 5 * MiB + 17);
    const { stdout } = await scene.shell('cat f', {});
    assert.ok(stdout.equals(patternBytes(1, 5 * MiB + 17)));
    assert.deepEqual(scene.problems, []);
  });
}
