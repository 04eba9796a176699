/** Where an image lies: on file systems of which the kernel reads files in other ways than from a disk. Needs root. */
import assert from 'node:assert/strict';
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { toEbbError } from '../../src/base/errors.ts';
import { mountNative } from '../../src/image/broker/native.ts';
import { makeImage } from '../ext4/support/images.ts';
import { assertSame, manifest, mountImage, withoutFacts } from '../image/fixture.ts';
import type { ManifestLine, MountedImage } from '../image/fixture.ts';
import { loopMount } from '../support/loop-mount.ts';
import { patternBytes } from '../support/pattern.ts';
import { runOk } from '../support/run.ts';
import { mountsBelow, temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';

const mebibyte = 1024 * 1024;
let directory: TemporaryDirectory;
let image: string;
let expected: ManifestLine[];

before(async () => {
  directory = await temporaryDirectory('places');
  const source = path.join(directory.path, 'source');
  await mkdir(path.join(source, 'a/b'), { recursive: true });
  await writeFile(path.join(source, 'a/large'), patternBytes(1, 5 * mebibyte + 77));
  for (let size = 0; size < 20_000; size += 1777) {
    await writeFile(path.join(source, `a/b/${size}`), patternBytes(size, size));
  }
  await mkdir(path.join(directory.path, 'lower'));
  const parameters = ['-t', 'ext4', '-b', '4096', '-d', source];
  image = await makeImage(
    path.join(directory.path, 'lower'),
    parameters,
    16 * mebibyte,
    'disk.img',
  );
  await using kernel = await loopMount(image, { mountOptions: 'ro' });
  expected = await manifest(kernel.path);
  assert.ok(expected.length > 12);
});

after(() => directory[Symbol.asyncDispose]());

/** Mounts a file system of that kind which has the image in it; the image's name there. */
async function placeOn(kind: 'tmpfs' | 'overlay'): Promise<string> {
  const place = path.join(directory.path, kind);
  await mkdir(place);
  if (kind === 'tmpfs') {
    await runOk('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', place]);
    await copyFile(image, path.join(place, 'disk.img'));
  } else {
    const [upper, work] = ['upper', 'work'].map((name) => path.join(directory.path, name));
    await Promise.all([upper, work].map((name) => mkdir(name ?? '')));
    const layers = `lowerdir=${path.dirname(image)},upperdir=${upper},workdir=${work}`;
    await runOk('mount', ['-t', 'overlay', '-o', layers, 'overlay', place]);
  }
  return path.join(place, 'disk.img');
}

for (const kind of ['tmpfs', 'overlay'] as const) {
  test(`an image on ${kind} is shown as from a disk; natively, too, or it is said why not`, async (t) => {
    const place = await placeOn(kind);
    {
      await using mounted = await mountImage({ path: place });
      assertSame(await manifest(mounted.path), expected);
    }
    let native: MountedImage;
    try {
      native = await mountImage({ path: place }, 'native');
    } catch (error) {
      t.diagnostic(toEbbError(error).message);
      assert.match(toEbbError(error).message, /mount without -o native/);
      return;
    }
    await using mounted = native;
    const without = ['ino', 'ctime', 'blocks', 'map'];
    assertSame(await manifest(mounted.path, without), withoutFacts(expected, without));
  });
}

test('a server that says a tree without end is given up with a sentence, and nothing is mounted', async () => {
  const mountPoint = path.join(directory.path, 'endless');
  await mkdir(mountPoint);
  const here = path.join(import.meta.dirname, '../image/sandbox');
  const mounting = mountNative(
    { imagePath: image, mountPoint, native: true, allowOther: false },
    undefined,
    undefined,
    {
      script: path.join(here, 'endless-tree.ts'),
      scripts: here,
      args: [],
      output: 'ignore',
    },
  );
  await assert.rejects(mounting, { code: 'EFBIG', message: /too large for a native mount/ });
  assert.deepEqual(await mountsBelow(mountPoint), []);
});
