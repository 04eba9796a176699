/** Released when its recall has just ended, and is not recorded yet. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TreeReleaser } from '../../src/daemon/native/tree-releaser.ts';
import { nativeScene } from './native-scene.ts';

const sizeBytes = 300_000;

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`${type}: what has just been brought here can be released at once`, async () => {
    // Not recorded by itself, however slow the machine is.
    await using scene = await nativeScene(type, { commitIntervalMs: 3_600_000 });
    const { store, server, engine, memory } = scene;
    const file = scene.add('f', sizeBytes);
    await scene.shellOk('cat f > /dev/null');
    assert.ok(file.residency.complete && !file.residency.isRecorded);
    const isBusy = (id: number): boolean => engine.isBusy(id);
    const releaser = new TreeReleaser({ store, server, remote: memory, isBusy });
    const { signal } = new AbortController();
    const outcome = await releaser.release(file.id, { dryRun: false, signal });
    assert.ok('releasedBytes' in outcome && outcome.releasedBytes > 0, JSON.stringify(outcome));
  });
}
