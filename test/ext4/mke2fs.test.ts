/** An image of mke2fs -d gives back the files that went into it. */
import assert from 'node:assert/strict';
import { lstat, mkdir, readFile, readlink, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { openVolume } from '../../src/ext4/volume.ts';
import { patternBytes } from '../support/pattern.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { makeImage, mustBeClean, openImage } from './support/images.ts';
import { contentOf, resolvePath, surveyVolume, walkVolume } from './support/walk.ts';

for (const type of ['ext2', 'ext3', 'ext4']) {
  test(`a directory that became an ${type} image is read back`, async () => {
    await using scratch = await temporaryDirectory('first');
    const source = path.join(scratch.path, 'source');
    await mkdir(path.join(source, 'a/b'), { recursive: true });
    await writeFile(path.join(source, 'a/large'), patternBytes(1, 3_000_000));
    await writeFile(path.join(source, 'a/b/small'), 'small');
    await symlink('../b/small', path.join(source, 'a/b/short'));
    await symlink('x/'.repeat(100), path.join(source, 'a/long'));
    const image = await makeImage(scratch.path, ['-t', type, '-d', source]);
    await mustBeClean(image);
    using device = openImage(image);
    const volume = openVolume(device);
    const paths: string[] = [];
    for (const { path: name, inode } of walkVolume(volume)) {
      if (name === '' || name === '/lost+found') continue;
      paths.push(name);
      const status = await lstat(source + name);
      assert.equal(inode.mode, status.mode, name);
      assert.equal(resolvePath(volume, name), inode);
      if (inode.type === 'file') {
        assert.ok(contentOf(volume, inode).equals(await readFile(source + name)), name);
      } else if (inode.type === 'symlink') {
        const target = Buffer.from(volume.symlinkTarget(inode)).toString();
        assert.equal(target, await readlink(source + name));
      }
    }
    assert.deepEqual(paths.sort(), [
      '/a',
      '/a/b',
      '/a/b/short',
      '/a/b/small',
      '/a/large',
      '/a/long',
    ]);
    const survey = surveyVolume(() => openVolume(device), { entriesMax: 100, readMaxBytes: 1e7 });
    assert.equal(survey.entries, 7);
    assert.deepEqual([...survey.errors], []);
  });
}
