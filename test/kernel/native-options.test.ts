/** What `ebb attach` was told, as users of the tree feel it: rules for programs, and a limit of what is kept here. */
import assert from 'node:assert/strict';
import { copyFile, mkdir, symlink } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { compileHelper } from '../probes/probe.ts';
import { AttachedTree, treeFilesystems } from '../support/attached-tree.ts';
import { compareFiles } from '../support/compare.ts';
import { CorpusWriter, chunkBytes, mebibyte } from '../support/corpus.ts';
import { run, runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

/** One with holes and one with poison, unless all are asked for. */
const types = process.env['EBB_OPTIONS'] === 'all' ? treeFilesystems : (['ext4', 'xfs'] as const);
const limitBytes = 4 * mebibyte;
const names = Array.from({ length: 12 }, (_unused, index) => `kept/${index}.bin`);
const options =
  `--cache-size ${limitBytes} --whole-max 64K --rule grep=deny:EBUSY --rule of-holes=whole`.split(
    ' ',
  );

let directory: TemporaryDirectory;
let source: string;
/** By their names, which is what rules go by. */
const program = (name: string): string => path.join(directory.path, 'programs', name);

before(async () => {
  directory = await temporaryDirectory('native-options');
  source = path.join(directory.path, 'source');
  const writer = new CorpusWriter(source);
  for (const [index, name] of names.entries()) writer.bytes(name, mebibyte + 1_001 * index);
  writer.bytes('denied/small.bin', 10_000);
  for (const name of ['denied/large.bin', 'exact.bin', 'seek.bin', 'fiemap.bin', 'copied.bin']) {
    writer.bytes(name, 9 * chunkBytes + 5);
  }
  await mkdir(path.dirname(program('any')));
  await copyFile('/bin/cat', program('updatedb'));
  await copyFile('/bin/dd', program('clamd'));
  await copyFile(await compileHelper(directory.path), program('of-holes'));
  // As some distributions have them.
  await copyFile('/bin/cp', program('coreutils'));
  await symlink('coreutils', program('cp'));
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

for (const type of types) {
  test(`${type}: rules for programs hold, and what was used longest ago makes room`, async () => {
    await using tree = await AttachedTree.attach({ type, remote: source, options });
    const recalled = async (): Promise<number> => (await tree.status()).recalledBytes;
    const at = (name: string): string => path.join(tree.path, name);

    // Denied programs, by a rule of one's own and by default, move no byte.
    const grep = await run('grep', ['-r', 'needle', at('denied')]);
    assert.equal(grep.code, 2);
    assert.equal(grep.stderr.toString().match(/Device or resource busy/g)?.length, 2);
    const updatedb = await run(program('updatedb'), [at('denied/small.bin')]);
    assert.match(updatedb.stderr.toString(), /Operation not permitted/);
    assert.equal(await recalled(), 0);
    // A scanner moves what it reads, in chunks.
    const scanned = [`if=${at('exact.bin')}`, 'bs=4k', 'skip=300', 'count=2', 'status=none'];
    await runOk(program('clamd'), scanned);
    assert.equal(await recalled(), chunkBytes);
    // Who looks for holes is not fooled where a rule says that he does, on ext4 neither.
    for (const method of ['seek', 'fiemap']) {
      const seen = await runOk(program('of-holes'), [method, at(`${method}.bin`)]);
      const original = path.join(source, `${method}.bin`);
      const expected = await runOk(program('of-holes'), ['read', original]);
      assert.equal(seen.stdout.toString(), expected.stdout.toString(), method);
    }

    // One program that is all of them is what it was called as.
    const copy = path.join(directory.path, `copy-${type}`);
    await runOk(program('cp'), [at('copied.bin'), copy]);
    await runOk('cmp', [copy, path.join(source, 'copied.bin')]);

    const isRight = async (some: readonly string[]): Promise<void> => {
      const compared = await compareFiles(tree.path, source, some, { readers: 1 });
      const bad = compared.filter(({ errno, wrong }) => errno !== 0 || wrong !== -1);
      assert.deepEqual(bad, [], await tree.logTail());
    };
    const residentBytes = async (): Promise<number> => (await tree.status()).residentBytes;
    for (let round = 0; round < 2; round += 1) {
      await isRight(names);
      await waitFor(async () => (await residentBytes()) <= limitBytes, { what: 'room to be made' });
    }
    assert.ok((await recalled()) > 1.5 * names.length * mebibyte, 'what went came again');
    assert.ok((await residentBytes()) > limitBytes / 2, 'no more went than had to');
  });
}
