/** `ebb image check` beside e2fsck -fn: what one calls damaged, the other does, where reading depends on it. */
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { memoryDevice } from '../../src/ext4/block-device.ts';
import { openVolume } from '../../src/ext4/volume.ts';
import { Check } from '../../src/image/reader/check.ts';
import { runImageRequest } from '../../src/image/reader/run-request.ts';
import { debugfs, makeImage } from '../ext4/support/images.ts';
import { run } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';

const mebibyte = 1024 * 1024;
const runs = Number(process.env['EBB_CHECK_RUNS'] ?? 12);

let directory: TemporaryDirectory;
let source: string;
before(async () => {
  directory = await temporaryDirectory('image-check');
  source = path.join(directory.path, 'source');
  mkdirSync(path.join(source, 'etc/deep'), { recursive: true });
  mkdirSync(path.join(source, 'many'));
  for (let index = 0; index < 200; index += 1) {
    writeFileSync(path.join(source, 'many', `a name of some length ${index}`), `${index}`);
  }
  writeFileSync(path.join(source, 'etc/one'), Buffer.alloc(50_000, 1));
  writeFileSync(path.join(source, 'etc/two'), Buffer.alloc(50_000, 2));
  writeFileSync(path.join(source, 'etc/deep/three'), 'three');
  symlinkSync('x'.repeat(100), path.join(source, 'etc/long'));
  symlinkSync('one', path.join(source, 'etc/short'));
});
after(() => directory[Symbol.asyncDispose]());

/** What our check says, a line each; none for a sound image. */
function complaints(bytes: Uint8Array): string[] {
  const said: string[] = [];
  const request = { action: 'check', selection: {}, journal: 'replay', paths: [] } as const;
  const code = runImageRequest(memoryDevice(bytes), request, {
    line: (line) => {
      if ('error' in line) said.push(`${line.error.path}: ${line.error.message}`);
    },
    data: () => {},
  });
  assert.equal(code === 0, said.length === 0);
  return said;
}

/** Whether e2fsck finds anything to repair. */
async function isSoundForE2fsck(image: string): Promise<boolean> {
  const result = await run('e2fsck', ['-fn', image], { debianPackage: 'e2fsprogs' });
  return result.code === 0;
}

const forms: readonly (readonly [string, readonly string[]])[] = [
  ['ext4', ['-t', 'ext4']],
  ['ext4 without checksums', ['-t', 'ext4', '-O', '^metadata_csum']],
  ['ext2, blocks of 4 KiB', ['-t', 'ext2', '-b', '4096']],
  ['inline data', ['-t', 'ext4', '-O', 'inline_data']],
];

for (const [name, words] of forms) {
  test(`a sound image (${name}) is sound for both`, async () => {
    const image = await makeImage(
      directory.path,
      [...words, '-d', source],
      16 * mebibyte,
      `sound-${name.length}`,
    );
    assert.ok(await isSoundForE2fsck(image));
    assert.deepEqual(complaints(readFileSync(image)), []);
  });
}

const damage: readonly (readonly [string, readonly string[], RegExp])[] = [
  ['an entry of a free inode', ['clri /etc/one'], /etc\/one: .*free/],
  [
    'a wrong link count',
    ['sif /etc/one links_count 7'],
    /etc\/one: it has 1 names, its link count is 7/,
  ],
  ['a second name that the link count does not know', ['ln /etc/one /etc/again'], /another name/],
  ['the same of a file without blocks', ['ln /etc/short /etc/again'], /another name already/],
  [
    'a wrong link count of a directory',
    ['sif /etc links_count 9'],
    /etc: it has 1 directories, its link count is 9/,
  ],
  [
    'an extent outside of the file system',
    ['sif /etc/one block[5] 0xfffffff'],
    /etc\/one: .*claims blocks/,
  ],
  [
    'blocks of two files',
    ['sif /etc/one block[5] 9000', 'sif /etc/two block[5] 9010'],
    /another's, too/,
  ],
  ['a broken header of extents', ['sif /etc/one block[0] 0x12345678'], /etc\/one: .*damaged/],
  ['a directory with two names', ['ln /etc/deep /deep-again'], /another name already|names inode/],
  ['a directory block of nothing', ['zap_block -f /etc -p 0xff 0'], /etc: .*damaged/],
  ['a symlink without a target', ['sif /etc/long size 0'], /etc\/long: .*damaged/],
  ['a symlink that says to be shorter', ['sif /etc/short size 2'], /etc\/short: .*damaged/],
  ['content behind the end', ['sif /etc/one size 100'], /etc\/one: it has content behind its end/],
  [
    'a file that is encrypted where nothing can be',
    ['sif /etc/one flags 0x80800'],
    /etc\/one: it is encrypted, in a file system without/,
  ],
  ['a directory without a block', ['punch /etc 0 0'], /etc: .*has no block 0/],
  [
    'a directory without one of its blocks',
    ['punch /many 2 2'],
    /many: block 2 of the directory is missing/,
  ],
  ['an index of nothing', ['zap_block -f /many -p 0x77 0'], /many: .*damaged/],
];

for (const [name, commands, sentence] of damage) {
  test(`${name} is found by both`, async () => {
    const words = ['-t', 'ext4', '-O', '^metadata_csum', '-b', '1024', '-d', source];
    const image = await makeImage(directory.path, words, 16 * mebibyte, 'damaged');
    await debugfs(image, commands);
    assert.equal(await isSoundForE2fsck(image), false);
    assert.match(complaints(readFileSync(image)).join('\n'), sentence);
  });
}

test('check does not read through a directory without an index for each of its names', async () => {
  const words = ['-t', 'ext2', '-O', '^dir_index', '-d', source];
  const image = await makeImage(directory.path, words, 16 * mebibyte, 'linear');
  const volume = openVolume(memoryDevice(readFileSync(image)));
  let lookups = 0;
  const counted = new Proxy(volume, {
    get: (target, key) => {
      const value: unknown = Reflect.get(target, key, target);
      if (key === 'lookup') lookups += 1;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  const check = new Check(counted, { line: () => {}, data: () => {} });
  check.run();
  assert.ok(check.files > 200);
  assert.equal(check.problems, 0);
  assert.equal(lookups, 0);
  // The second of two equal names is found by nobody.
  const bytes = readFileSync(image);
  const entry = bytes.indexOf('\x03\x01one', 0, 'latin1');
  bytes.write('two', entry + 2);
  writeFileSync(image, bytes);
  assert.equal(await isSoundForE2fsck(image), false);
  assert.match(complaints(bytes).join('\n'), /^\/etc\/two: it is not found under its name/m);
});

test('a lost first superblock is found by both', async () => {
  const image = await makeImage(
    directory.path,
    ['-t', 'ext4', '-b', '1024', '-d', source],
    16 * mebibyte,
    'lost',
  );
  const bytes = readFileSync(image);
  bytes.fill(0, 1024, 2048);
  writeFileSync(image, bytes);
  assert.equal(await isSoundForE2fsck(image), false);
  assert.match(complaints(bytes).join('\n'), /the first superblock is damaged/);
});

/** What e2fsck says besides complaints, and complaints about what reading does not depend on. */
const notForReading = [
  /^(Pass \d|$|e2fsck( \d|: aborted)|.*: \d+\/\d+ files|.*WARNING: Filesystem still has errors)/,
  // What it would do about it.
  /^[A-Z][a-z]+( [\w/+]+){0,3}\? no$/,
  /bitmap differences|count wrong|i_blocks is|dtime|i_faddr|i_frag|imagic|orphan/,
  /^Unattached inode/,
  // Inodes without a name.
  /^(Resize|Quota|Journal) inode|\b[Ii]node ([1-9]|10)\b/,
  // An index that is wrong is left aside.
  /HTREE|LARGE_DIR|casefold flag|casefold feature/,
];

/** Nobody looks at "." and at what stands behind "..", of which other complaints follow. */
const aboutDots = /'\.'|'\.\.'/;

/** Complaints of e2fsck about what a reader needs. */
async function complaintsOfE2fsck(image: string): Promise<{ code: number | null; said: string[] }> {
  const { code, stdout, stderr } = await run('e2fsck', ['-fn', image]);
  const lines = `${stdout.toString()}\n${stderr.toString()}`.split('\n').map((line) => line.trim());
  const isAboutDots = lines.some((line) => aboutDots.test(line));
  const isForReading = (line: string): boolean =>
    !isAboutDots && !notForReading.some((pattern) => pattern.test(line));
  return { code, said: lines.filter(isForReading) };
}

test('check complains of what e2fsck complains of, and of nothing else, where reading depends on it', async () => {
  const words = [
    '-t',
    'ext4',
    '-O',
    '^metadata_csum,^has_journal',
    '-b',
    '1024',
    '-N',
    '512',
    '-d',
    source,
  ];
  const image = await makeImage(directory.path, words, 4 * mebibyte, 'mutated');
  const bytes = readFileSync(image);
  const copy = `${image}-copy`;
  copyFileSync(image, copy);
  const table = Number(/inode table at (\d+)/i.exec(await debugfs(image, ['stats']))?.[1]);
  assert.ok(table > 0);
  const directories = await Promise.all(
    ['/', '/etc', '/many'].map(async (name) =>
      Number(/\n(\d+) /.exec(await debugfs(image, [`blocks ${name}`]))?.[1]),
    ),
  );
  // Where inodes and names are: 30 inodes, three directories.
  const spans = [
    [table * 1024 + 2 * 256, 20 * 256],
    ...directories.map((block) => [block * 1024, 1024]),
  ];
  const change = fc.tuple(fc.nat(spans.length - 1), fc.nat(2 ** 30), fc.nat(255));
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 3 }), async (changes) => {
      const mutant = Buffer.from(bytes);
      for (const [span, where, value] of changes) {
        const [start = 0, size = 1] = spans[span] ?? [];
        mutant[start + (where % size)] = value;
      }
      const said = complaints(mutant);
      writeFileSync(copy, mutant);
      const theirs = await complaintsOfE2fsck(copy);
      if (said.length > 0) assert.notEqual(theirs.code, 0, said.join('\n'));
      else assert.deepEqual(theirs.said, []);
    }),
    { numRuns: runs, seed: 20_261_121 },
  );
});
