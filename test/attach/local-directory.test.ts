/** Listing a directory of a tree: names and kinds, whatever the file system tells and whoever works in it. */
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { readEntries } from '../../src/attach/local-directory.ts';
import { decodeName } from '../../src/base/name.ts';
import { OpenFlag, openFd } from '../../src/sys/fd.ts';
import { runOk } from '../support/run.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';

const asRoot = { skip: process.getuid?.() === 0 ? false : 'needs root' };
/** Fewer than the kernel gives at once. */
const filesCount = 600;
const kinds = { directory: 'directory', link: 'symlink', pipe: 'other' };

for (const [what, mkfsArguments] of [
  ['tells kinds', []],
  ['tells no kinds', ['-O', '^filetype']],
] as const) {
  test(
    `a file system that ${what}: every kind is known, and what goes meanwhile is left out`,
    asRoot,
    async () => {
      await using filesystem = await loopFilesystem({ type: 'ext4', mkfsArguments });
      const at = (name: string): string => path.join(filesystem.path, 'd', name);
      mkdirSync(at(''));
      const files = Array.from({ length: filesCount }, (_unused, index) => `file-${index}`);
      for (const name of files) writeFileSync(at(name), name);
      mkdirSync(at('directory'));
      symlinkSync('file-0', at('link'));
      await runOk('mkfifo', [at('pipe')]);
      using directory = openFd(at(''), OpenFlag.rdonly | OpenFlag.directory);

      const all = new Map<string, string>();
      for await (const { name, kind } of readEntries(directory.fd)) all.set(decodeName(name), kind);
      const expected = { ...Object.fromEntries(files.map((name) => [name, 'file'])), ...kinds };
      assert.deepEqual(Object.fromEntries(all), expected);

      const gone = new Set<string>();
      const left: string[] = [];
      for await (const { name } of readEntries(directory.fd)) {
        const text = decodeName(name);
        left.push(text);
        if (left.length > 1) continue;
        for (const file of files.filter((one) => one !== text)) {
          rmSync(at(file));
          gone.add(file);
        }
      }
      for (const name of Object.keys(kinds)) assert.ok(left.includes(name), name);
      if (what === 'tells no kinds')
        assert.deepEqual(
          left.filter((name) => gone.has(name)),
          [],
        );
    },
  );
}

test('a directory that is removed while it is listed ends there', async () => {
  await using temporary = await temporaryDirectory('listed');
  const directory = path.join(temporary.path, 'd');
  mkdirSync(directory);
  for (let index = 0; index < 2_000; index += 1)
    writeFileSync(path.join(directory, `file-${index}`), '');
  using opened = openFd(directory, OpenFlag.rdonly | OpenFlag.directory);
  let count = 0;
  for await (const { kind } of readEntries(opened.fd)) {
    assert.equal(kind, 'file');
    if (count === 0) rmSync(directory, { recursive: true });
    count += 1;
  }
  assert.ok(count > 0 && count < 2_000);
});
