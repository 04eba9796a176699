/** `ebb image cp`: what has several names in an image has them in the copy, whatever it is and however deep. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { ebb } from '../cli/support.ts';
import { debugfs, makeImage, mustBeClean } from '../ext4/support/images.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const depth = 25;
const directoryName = 'ä'.repeat(100);

/** From the deepest directory: device and inode of each name, and what it holds. */
const look = `
import json, os, sys
os.chdir(sys.argv[1])
for _ in range(int(sys.argv[3])): os.chdir(sys.argv[2])
def facts(name):
    found = os.lstat(name)
    content = os.readlink(name) if os.path.islink(name) else open(name).read()
    return [found.st_dev, found.st_ino, found.st_nlink, content]
print(json.dumps({name: facts(name) for name in sorted(os.listdir('.'))}))
`;

type Facts = readonly [device: number, inode: number, links: number, content: string];

test('files and symlinks with several names are one each in a copy, also below 5000 bytes of path', async () => {
  await using directory = await temporaryDirectory('copy-links');
  const image = await makeImage(directory.path, ['-t', 'ext4', '-O', '^metadata_csum'], 16 << 20);
  const source = path.join(import.meta.dirname, 'copy-links.test.ts');
  await debugfs(image, [
    ...Array.from({ length: depth }, () => [
      `mkdir ${directoryName}`,
      `cd ${directoryName}`,
    ]).flat(),
    `write ${source} file-1`,
    'ln file-1 file-2',
    'sif file-1 links_count 2',
    'symlink symlink-1 nowhere',
    'ln symlink-1 symlink-2',
    'sif symlink-1 links_count 2',
  ]);
  await mustBeClean(image);
  const copy = path.join(directory.path, 'copy');
  mkdirSync(copy);
  const words = ['image', 'cp', image, `/${directoryName}`, copy];
  try {
    // The second time everything is there, and is replaced name by name.
    for (const more of [[], ['--force']]) {
      const result = await ebb([...words, ...more]);
      assert.deepEqual([result.code, result.stderr], [0, '']);
      const looking = ['-c', look, copy, directoryName, `${depth}`];
      const { stdout } = await runOk('python3', looking);
      const found = JSON.parse(stdout.toString()) as Record<string, Facts>;
      assert.deepEqual(Object.keys(found), ['file-1', 'file-2', 'symlink-1', 'symlink-2']);
      for (const kind of ['file', 'symlink']) {
        assert.deepEqual(found[`${kind}-1`], found[`${kind}-2`]);
        assert.equal(found[`${kind}-1`]?.[2], 2);
      }
      assert.equal(found['symlink-1']?.[3], 'nowhere');
    }
  } finally {
    // Node cannot: it goes by paths.
    await runOk('rm', ['-rf', copy]);
  }
});
