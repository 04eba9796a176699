/** `ebb image cp --force`: what it puts in the place of something, and when. */
import assert from 'node:assert/strict';
import {
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { ebb } from '../cli/support.ts';
import { debugfs, makeImage } from '../ext4/support/images.ts';
import { patternBytes } from '../support/pattern.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';

const mebibyte = 1024 * 1024;
let directory: TemporaryDirectory;

before(async () => {
  directory = await temporaryDirectory('image-force');
});
after(() => directory[Symbol.asyncDispose]());

function tree(root: string): string[] {
  return readdirSync(root, { recursive: true, encoding: 'utf8' }).sort();
}

test('--force replaces by what is whole: a file that cannot be read costs nobody his own', async () => {
  const made = path.join(directory.path, 'damaged-source');
  mkdirSync(made);
  writeFileSync(path.join(made, 'damaged'), patternBytes(4, 100_000));
  writeFileSync(path.join(made, 'sound'), 'new');
  symlinkSync('elsewhere', path.join(made, 'link'));
  const damaged = await makeImage(
    directory.path,
    ['-t', 'ext4', '-d', made],
    16 * mebibyte,
    'damaged',
  );
  // The magic number of its extents.
  await debugfs(damaged, ['sif /damaged block[0] 0']);
  const copy = path.join(directory.path, 'kept');
  mkdirSync(path.join(copy, 'directory'), { recursive: true });
  for (const name of ['damaged', 'sound', 'link']) writeFileSync(path.join(copy, name), 'mine');
  const words = ['image', 'cp', '--force', damaged];
  const result = await ebb([...words, '/damaged', '/sound', '/link', copy]);
  assert.equal(result.code, 1);
  assert.match(result.stderr, /^ebb image cp: damaged: .*\n$/);
  assert.equal(readFileSync(path.join(copy, 'damaged'), 'utf8'), 'mine');
  assert.equal(readFileSync(path.join(copy, 'sound'), 'utf8'), 'new');
  assert.equal(readlinkSync(path.join(copy, 'link')), 'elsewhere');
  assert.deepEqual(tree(copy), ['damaged', 'directory', 'link', 'sound']);
  rmSync(path.join(copy, 'sound'));
  mkdirSync(path.join(copy, 'sound'));
  const onto = await ebb([...words, '/sound', copy]);
  assert.match(onto.stderr, /^ebb image cp: sound: It is a directory here already/);
  assert.deepEqual(tree(copy), ['damaged', 'directory', 'link', 'sound']);
});

test('a name that --force has given to another file is no link to what was there before', async () => {
  const made = path.join(directory.path, 'linked-source');
  for (const each of ['a', 'b', 'c']) mkdirSync(path.join(made, each), { recursive: true });
  writeFileSync(path.join(made, 'a/name'), 'one');
  linkSync(path.join(made, 'a/name'), path.join(made, 'c/second'));
  linkSync(path.join(made, 'a/name'), path.join(made, 'c/third'));
  writeFileSync(path.join(made, 'b/name'), 'another');
  const linked = await makeImage(
    directory.path,
    ['-t', 'ext4', '-d', made],
    16 * mebibyte,
    'linked',
  );
  const copy = path.join(directory.path, 'linked-copy');
  mkdirSync(copy);
  const words = ['image', 'cp', '--force', linked, '/a/name', '/b/name', '/c', '/c', copy];
  const result = await ebb(words);
  assert.deepEqual([result.code, result.stderr], [0, '']);
  assert.equal(readFileSync(path.join(copy, 'name'), 'utf8'), 'another');
  const [second, third] = ['c/second', 'c/third'].map((name) => path.join(copy, name));
  assert.equal(readFileSync(second ?? '', 'utf8'), 'one');
  assert.equal(statSync(second ?? '').ino, statSync(third ?? '').ino);
  assert.deepEqual(tree(copy), ['c', 'c/second', 'c/third', 'name']);
});
