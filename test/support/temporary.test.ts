/** The helpers that every other test relies on. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, statfs, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { run, runOk } from './run.ts';
import { detachMountsBelow, loopFilesystem, mountsBelow, temporaryDirectory } from './temporary.ts';
import { waitFor } from './wait-for.ts';

const asRoot = { skip: process.getuid?.() === 0 ? false : 'needs root' };

test(
  'a temporary directory is gone after its block, with what is mounted in it',
  asRoot,
  async () => {
    let left: string;
    {
      await using directory = await temporaryDirectory('self');
      left = directory.path;
      await writeFile(path.join(directory.path, 'file'), 'x');
      const odd = path.join(directory.path, 'odd name\twith\\all');
      await mkdir(odd);
      await runOk('mount', ['-t', 'tmpfs', 'none', odd]);
      assert.deepEqual(await mountsBelow(directory.path), [odd]);
      await detachMountsBelow(directory.path);
      assert.deepEqual(await mountsBelow(directory.path), []);
      await runOk('mount', ['-t', 'tmpfs', 'none', odd]);
    }
    assert.equal(existsSync(left), false);
  },
);

const magicNumbers = { ext4: 0xef53, xfs: 0x58465342, btrfs: 0x9123683e } as const;
for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`a loop-mounted ${type} comes and goes`, asRoot, async () => {
    let image: string;
    let device: string;
    {
      await using filesystem = await loopFilesystem({ type });
      ({ imagePath: image, device } = filesystem);
      assert.equal((await statfs(filesystem.path)).type, magicNumbers[type]);
      await writeFile(path.join(filesystem.path, 'file'), 'content');
    }
    assert.equal(existsSync(image), false);
    // By its file: the device may be somebody else's by now.
    const { stdout } = await run('losetup', ['--list', '--noheadings', '--output', 'BACK-FILE']);
    assert.ok(!stdout.toString().includes(path.dirname(image)), `${device} is still in use`);
  });
}

test('run captures, feeds, and ends what takes too long with all its children', async () => {
  const echoed = await run('cat', [], { input: 'in' });
  assert.deepEqual([echoed.code, echoed.stdout.toString()], [0, 'in']);
  const failed = await run('/bin/sh', ['-c', 'echo no >&2; exit 7']);
  assert.deepEqual([failed.code, failed.stderr.toString()], [7, 'no\n']);
  await assert.rejects(runOk('/bin/sh', ['-c', 'echo why >&2; exit 7']), /ended with 7\nwhy/);
  const stuck = await run('/bin/sh', ['-c', 'sleep 60 & echo $!; wait'], { timeoutMs: 300 });
  assert.equal(stuck.timedOut, true);
  const grandchild = Number(stuck.stdout.toString());
  await waitFor(() => !existsSync(`/proc/${grandchild}`), { what: 'the grandchild to end' });
  await assert.rejects(
    run('no-such-program', [], { debianPackage: 'nothing' }),
    /Debian package nothing/,
  );
});

test('waitFor gives the value or a sentence', async () => {
  let count = 0;
  assert.equal(
    await waitFor(() => ++count === 3 && 'third', { what: 'three', intervalMs: 1 }),
    'third',
  );
  await assert.rejects(
    waitFor(() => false, { what: 'never', timeoutMs: 30 }),
    /30 ms for never/,
  );
  let asked = 0;
  const wrong = async (): Promise<void> => assert.equal((asked += 1), 2);
  await assert.rejects(waitFor(wrong, { what: 'a right byte' }), assert.AssertionError);
});
