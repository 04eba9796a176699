/** `ebb image mount`: what is seen through it is what the kernel's own driver shows. Needs root. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chmod, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { openFuseToEverybody } from '../support/fuse-device.ts';
import { loopMount } from '../support/loop-mount.ts';
import { run, runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';
import { assertSame, filledImage, manifest, mountImage, withoutFacts } from '../image/fixture.ts';
import type { ManifestLine, TestImage } from '../image/fixture.ts';

/** The kernel's own view. */
async function kernelManifest(
  image: TestImage,
  without: readonly string[],
): Promise<ManifestLine[]> {
  await using mounted = await loopMount(image.path, { mountOptions: 'ro' });
  return await manifest(mounted.path, without);
}

const kinds: readonly (readonly [name: string, mkfsArguments: readonly string[]])[] = [
  ['ext4', ['-b', '4096']],
  [
    'ext4 with 1 KiB blocks, inline data and large attributes',
    ['-b', '1024', '-O', 'inline_data,ea_inode'],
  ],
];

/** Nobody writes; devices and set-user-id bits are shown and do not count. */
async function nothingCounts(mountPoint: string): Promise<void> {
  const write = await run('sh', ['-c', `echo x > ${mountPoint}/a/large`]);
  assert.match(write.stderr.toString(), /[Rr]ead-only/);
  const device = await run('cat', [`${mountPoint}/a/device`]);
  assert.match(device.stderr.toString(), /denied/);
  const { stdout } = await runOk('findmnt', ['-no', 'OPTIONS', mountPoint]);
  const options = stdout.toString().trim().split(',');
  for (const option of ['ro', 'nosuid', 'nodev']) {
    assert.ok(options.includes(option), `${option}: ${options.join()}`);
  }
}

for (const [name, mkfsArguments] of kinds) {
  test(`${name}: an image mount shows what the kernel's driver shows`, async () => {
    await using image = await filledImage(mkfsArguments);
    const expected = await kernelManifest(image, []);
    assert.ok(expected.length > 1500);
    assert.ok(
      expected.every(
        (line) => line['readBytes'] === undefined || line['readBytes'] === line['size'],
      ),
    );
    await using mounted = await mountImage(image);
    assertSame(await manifest(mounted.path), expected);
    await nothingCounts(mounted.path);
    const again = await mounted.ebb('image', 'mount', image.path, mounted.path);
    assert.equal(again.code, 1);
    assert.match(
      again.stderr.toString(),
      /^ebb image mount: .* is mounted already; take it away with: ebb umount /,
    );
    const list = await mounted.ebb('ls', mounted.path);
    assert.match(list.stderr.toString(), / is in a mounted image: /);
    const umount = await mounted.ebb('umount', mounted.path);
    assert.equal(umount.code, 0, umount.stderr.toString());
    assert.equal(mounted.isMounted(), false);
    await waitFor(() => !existsSync(`/proc/${mounted.brokerPid}`), {
      what: 'the end of the broker',
    });

    // EROFS has one time for a file, its own inode numbers, and counts blocks by size.
    const without = ['ino', 'ctime', 'blocks', 'map'];
    await using native = await mountImage(image, 'native');
    assert.equal(native.brokerPid, 0, 'nobody serves it');
    assertSame(await manifest(native.path, without), withoutFacts(expected, without));
    await nothingCounts(native.path);
    const away = await native.ebb('umount', native.path);
    assert.equal(away.code, 0, away.stderr.toString());
    assert.equal(native.isMounted(), false);
  });
}

/** `nobody`: fusermount3 insists on an account with a name. */
const user = { uid: 65_534, gid: 65_534 };

test('who is not root mounts an image by fusermount3; others do not see into it', async () => {
  await openFuseToEverybody();
  await using image = await filledImage();
  await runOk('chown', ['-R', '65534:65534', image.directory.path]);
  await chmod(image.directory.path, 0o755);
  const expected = await kernelManifest(image, []);
  await using mounted = await mountImage(image, '', user);
  const seen = await manifest(mounted.path, [], user);
  // What the modes in the image do not let him read, he cannot read.
  const readable = seen.filter((line) => line['error'] === undefined);
  assert.ok(readable.length > 1500);
  const names = new Set(readable.map((line) => line.name));
  assertSame(
    readable,
    expected.filter((line) => names.has(line.name)),
  );
  assert.equal(seen.find((line) => line.name === '/a/owned')?.['error'], 'EACCES');
  const other = await run('ls', [mounted.path], { uid: 4001, gid: 4001 });
  assert.notEqual(other.code, 0);
  const umount = await mounted.ebb('umount', mounted.path);
  assert.equal(umount.code, 0, umount.stderr.toString());
});

test('what is no image is refused with a sentence, and nothing is mounted', async () => {
  await using directory = await temporaryDirectory('no-image');
  const none = path.join(directory.path, 'none');
  await writeFile(none, new Uint8Array(8 * 1024 * 1024));
  await assert.rejects(mountImage({ path: none }), /cannot be mounted/);
});
