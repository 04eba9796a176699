/** Directories with those above them, and where there can be none. */
import assert from 'node:assert/strict';
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { makePath } from '../../src/sys/make-path.ts';
import { makeDirectories } from '../../src/tree/layout.ts';
import { temporaryDirectory } from '../support/temporary.ts';

test('directories are made with those above them; what is there stays as it is', async () => {
  await using directory = await temporaryDirectory('make-path');
  const at = (name: string): string => path.join(directory.path, name);
  mkdirSync(at('a'), { mode: 0o755 });
  makePath(at('a/b/c'), 0o700);
  makePath(at('a/b/c'), 0o755);
  const modes = ['a', 'a/b', 'a/b/c'].map((name) => statSync(at(name)).mode & 0o777);
  assert.deepEqual(modes, [0o755, 0o700, 0o700]);
});

test('where a directory takes no other nobody tries for ever, and a cache says so', async () => {
  await using directory = await temporaryDirectory('make-path');
  const file = path.join(directory.path, 'file');
  writeFileSync(file, '');
  assert.throws(() => makePath('/proc/no/such', 0o700), { code: 'ENOENT' });
  assert.throws(() => makePath(file, 0o700), { code: 'EEXIST' });
  assert.throws(() => makePath(path.join(file, 'below'), 0o700), { code: 'ENOTDIR' });
  assert.throws(() => makeDirectories('/proc/no/such'), {
    code: 'ENOENT',
    message: /^The cache directory \/proc\/no\/such cannot be made: /,
  });
  assert.throws(() => makeDirectories(file), {
    code: 'ENOTDIR',
    message: /^The cache directory .*\/file is no directory/,
  });
  assert.throws(() => makeDirectories(path.join(file, 'below')), { code: 'ENOTDIR' });
});
