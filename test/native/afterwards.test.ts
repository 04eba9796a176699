/** What is left of a file in the kernel, or comes to light, after its user has closed it. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { StubChange } from '../../src/base/stub-facts.ts';
import { killAtExit } from '../support/run.ts';
import { patternBytes } from '../support/pattern.ts';
import { nativeScene, settle } from './native-scene.ts';
import type { NativeScene } from './native-scene.ts';
import type { StubFile } from '../../src/tree/stubs/stub-store.ts';

const sizeBytes = 3 * 1024 * 1024 + 1_234;
const tailBytes = 5_000;

async function releasePatiently(scene: NativeScene, file: StubFile): Promise<void> {
  for (let tries = 0; tries < 50; tries += 1) if ((await scene.release(file)).released) return;
  assert.fail('it is not released');
}

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`${type}: what was spliced into a pipe stays what it was when the file is released`, async () => {
    await using scene = await nativeScene(type);
    const file = scene.add('f', sizeBytes);
    await settle(scene, 'f', file);
    const program = `
import os, sys
fd = os.open("f", os.O_RDONLY)
expected = os.pread(fd, ${tailBytes}, ${sizeBytes - tailBytes})
r, w = os.pipe()
assert os.splice(fd, w, ${tailBytes}, offset_src=${sizeBytes - tailBytes}) == ${tailBytes}
os.close(fd)
print("ready", flush=True)
sys.stdin.readline()
got = b""
while len(got) < ${tailBytes}: got += os.read(r, ${tailBytes})
sys.exit(got != expected)`;
    const reader = spawn(
      '/bin/sh',
      ['-c', 'cd "$0" && exec python3 -c "$1"', scene.path, program],
      {
        stdio: ['pipe', 'pipe', 'inherit'],
      },
    );
    killAtExit(reader);
    await once(reader.stdout, 'data');
    await releasePatiently(scene, file);
    reader.stdin.write('\n');
    const [code] = await once(reader, 'exit');
    assert.equal(code, 0, 'other bytes came out of the pipe');
    assert.ok((await scene.shell('cat f')).stdout.equals(patternBytes(1, sizeBytes)));
  });

  test(`${type}: who writes through a mapping of what is all here, and sets the old time, has changed it`, async () => {
    await using scene = await nativeScene(type);
    const file = scene.add('f', sizeBytes);
    await settle(scene, 'f', file);
    await scene.shellOk(`python3 -c '
import mmap, os
before = os.stat("f")
fd = os.open("f", os.O_RDWR)
m = mmap.mmap(fd, 0)
m[2000000:2000003] = b"abc"
os.utime("f", ns=(before.st_atime_ns, before.st_mtime_ns))
m.close()
os.close(fd)'`);
    await scene.server.recorded(file.id);
    const result = await scene.release(file);
    const expected = patternBytes(1, sizeBytes);
    expected.write('abc', 2_000_000);
    assert.ok((await scene.shell('cat f')).stdout.equals(expected), JSON.stringify(result));
    assert.equal(result.released, false);
  });

  test(`${type}: who writes a moment before it is released, and sets the old time, keeps what he wrote`, async () => {
    await using scene = await nativeScene(type);
    const file = scene.add('f', sizeBytes);
    await settle(scene, 'f', file);
    const program = `
import os
before = os.stat("f")
fd = os.open("f", os.O_RDWR)
os.pwrite(fd, b"abc", 2000000)
os.utime("f", ns=(before.st_atime_ns, before.st_mtime_ns))`;
    const before = scene.server.moment(file);
    const [result] = await scene.store.release([file], {
      prove: ({ version, sizeBytes: size }) => {
        // Nothing that is told of it is taken in meanwhile: this thread waits.
        const { status } = spawnSync('python3', ['-c', program], { cwd: scene.path });
        assert.equal(status, 0);
        return Promise.resolve({ version, sizeBytes: size });
      },
      isBusy: (id) => scene.server.isBusy(id),
      beforeFreeing: (fd, one) => scene.server.beforeFreeing(fd, one, before),
    });
    const expected = patternBytes(1, sizeBytes);
    expected.write('abc', 2_000_000);
    assert.ok((await scene.shell('cat f')).stdout.equals(expected), JSON.stringify(result));
    assert.equal(result?.released, false);
    await scene.server.recorded(file.id);
    assert.equal(file.change, StubChange.dirty);
  });

  test(`${type}: a mode or a name that was changed is no change of what is in it`, async () => {
    await using scene = await nativeScene(type);
    const file = scene.add('f', sizeBytes);
    await settle(scene, 'f', file);
    await scene.shellOk('chmod 600 f; mv f g');
    await releasePatiently(scene, file);
    assert.ok((await scene.shell('cat g')).stdout.equals(patternBytes(1, sizeBytes)));
  });

  test(`${type}: who opens what is all here for writing, and writes nothing, leaves it clean`, async () => {
    await using scene = await nativeScene(type);
    const file = scene.add('f', sizeBytes);
    await settle(scene, 'f', file);
    for (const pinned of [false, true]) {
      scene.server.setPinned(file, pinned);
      await scene.shellOk(`python3 -c 'import os; os.open("f", os.O_RDWR)'`);
      await scene.server.recorded(file.id);
      assert.equal(file.change, 0, `${pinned}`);
    }
  });
}
