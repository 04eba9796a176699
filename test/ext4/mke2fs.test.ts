/** Images that the kernel of the tests may not mount: what went into mke2fs -d comes out again. */
import assert from 'node:assert/strict';
import { lstatSync, mkdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { openVolume } from '../../src/ext4/volume.ts';
import type { Volume } from '../../src/ext4/volume.ts';
import { getXattr, setXattr } from '../../src/sys/xattr.ts';
import { run } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { debugfs, makeImage, mustBeClean, openImage } from './support/images.ts';
import { flatCount, formImage, forms, makeSource } from './support/mke2fs-forms.ts';
import { contentOf, resolvePath, surveyVolume, walkVolume } from './support/walk.ts';

function compareWithSource(volume: Volume, source: string): void {
  let count = 0;
  for (const { path: name, inode } of walkVolume(volume)) {
    if (name === '' || name === '/lost+found') continue;
    count += 1;
    const place = source + Buffer.from(name, 'latin1').toString();
    const status = lstatSync(place);
    assert.equal(inode.mode, status.mode, place);
    assert.equal(resolvePath(volume, name), inode);
    assert.equal(inode.modificationTime.seconds, Math.floor(status.mtimeMs / 1000));
    if (inode.type === 'file') {
      assert.ok(contentOf(volume, inode).equals(readFileSync(place)), place);
    } else if (inode.type === 'symlink') {
      assert.equal(Buffer.from(volume.symlinkTarget(inode)).toString(), readlinkSync(place));
    }
    for (const { name: attribute, value } of volume.xattrs(inode)) {
      const theirs = getXattr(place, Buffer.from(attribute).toString());
      assert.deepEqual(Buffer.from(value), Buffer.from(theirs ?? 'none'), place);
    }
  }
  assert.equal(count, flatCount + 8);
  assert.equal(volume.xattrs(resolvePath(volume, '/a/b/small')).length, 2);
}

for (const form of forms) {
  const { name, isUnchecked } = form;
  test(`a directory that became an image is read back: ${name}`, async () => {
    await using scratch = await temporaryDirectory('mke2fs');
    const source = makeSource(scratch.path);
    const image = await formImage(scratch.path, form, source);
    for (const isIndexed of isUnchecked === true ? [false] : [false, true]) {
      if (isIndexed) await run('e2fsck', ['-fyD', image]);
      if (isUnchecked !== true) await mustBeClean(image);
      using device = openImage(image);
      const volume = openVolume(device);
      const hasIndex = (resolvePath(volume, '/flat').flags & 0x1000) !== 0;
      // ext2 has no indexes by default; what mke2fs itself writes has none.
      assert.equal(hasIndex, isIndexed && volume.superblock.features.has('dir_index'));
      compareWithSource(volume, source);
      const limits = { entriesMax: 10_000, readMaxBytes: 1e9 };
      const survey = surveyVolume(() => openVolume(device), limits);
      assert.equal(survey.entries, flatCount + 9);
      assert.deepEqual([...survey.errors], []);
    }
  });
}

test('a directory that folds finds names in any case, by its index', async () => {
  await using scratch = await temporaryDirectory('casefold');
  const source = makeSource(scratch.path);
  const later = 'flat/\ua7cb later than the tables';
  writeFileSync(path.join(source, later), '');
  const parameters = ['-t', 'ext4', '-O', 'casefold', '-E', 'encoding=utf8', '-d', source];
  const image = await makeImage(scratch.path, parameters);
  await debugfs(image, ['sif flat flags 0x40080000']);
  await run('e2fsck', ['-fyD', image]);
  using device = openImage(image);
  const volume = openVolume(device);
  const flat = resolvePath(volume, '/flat');
  assert.equal(flat.casefold, true);
  const find = (name: string): string | undefined => {
    const entry = volume.lookup(flat, Buffer.from(name));
    return entry === undefined ? undefined : Buffer.from(entry.name).toString();
  };
  assert.equal(find('gRÖSSE-aB-1'), 'Größe-Ab-1');
  assert.equal(find('GRO\u0308SSE-ABAB-2'), 'Größe-AbAb-2');
  assert.equal(find('größe-ab-2'), undefined);
  assert.equal(find('grosse-ab-1'), undefined);
  assert.equal(find('\ua7cb later than the tables'), '\ua7cb later than the tables');
  // Elsewhere case counts.
  assert.equal(volume.lookup(resolvePath(volume, '/a'), Buffer.from('LARGE')), undefined);
});

test('what stat(2) does not say: projects, generations, versions, birth', async () => {
  await using scratch = await temporaryDirectory('fields');
  const source = path.join(scratch.path, 'source');
  mkdirSync(source);
  writeFileSync(path.join(source, 'file'), 'x');
  const parameters = ['-t', 'ext4', '-O', 'quota,project', '-L', 'label of 16 char', '-d', source];
  const image = await makeImage(scratch.path, parameters, 16 << 20);
  await debugfs(image, [
    'sif file projid 1234',
    'sif file generation 4000000000',
    'sif file version 0x0000000780000001',
    'sif file crtime @5000000000',
  ]);
  using device = openImage(image);
  const volume = openVolume(device);
  const { projectId, generation, version, birthTime } = resolvePath(volume, '/file');
  assert.deepEqual(
    { projectId, generation, version, birthSeconds: birthTime?.seconds },
    { projectId: 1234, generation: 4e9, version: 0x780000001, birthSeconds: 5e9 },
  );
  const said = await debugfs(image, ['stats']);
  assert.equal(volume.superblock.label, 'label of 16 char');
  assert.ok(said.includes(`Filesystem UUID:          ${volume.superblock.uuid}`));
  const [, features = ''] = /Filesystem features: +(.*)/.exec(said) ?? [];
  assert.deepEqual([...volume.superblock.features].toSorted(), features.split(' ').toSorted());
});

test('attributes are looked for everywhere when a group counts used inodes as never used', async () => {
  await using directory = await temporaryDirectory('mke2fs-unused');
  const source = path.join(directory.path, 'source');
  mkdirSync(source);
  const file = path.join(source, 'file');
  writeFileSync(file, 'content');
  setXattr(file, 'user.name', Buffer.from('value'));
  const image = await makeImage(directory.path, ['-t', 'ext4', '-d', source]);
  using device = openImage(image);
  const right = openVolume(device);
  const { number } = resolvePath(right, '/file');
  assert.deepEqual(right.attributedInodes(), [number]);
  assert.deepEqual(right.fileSizes(8), { files: 1, largeBytes: 0 });
  assert.deepEqual(right.fileSizes(7), { files: 1, largeBytes: 7 });
  const { inodesPerGroup } = right.superblock;
  assert.ok(number <= inodesPerGroup);
  const unused = inodesPerGroup - number + 1;
  await debugfs(image, [`set_bg 0 itable_unused ${unused}`, 'set_bg 0 checksum calc']);
  const wrong = openVolume(device);
  assert.deepEqual(wrong.attributedInodes(), [], 'nobody has seen it yet');
  assert.equal(resolvePath(wrong, '/file').number, number);
  assert.equal(wrong.attributedInodes(), undefined);
});
