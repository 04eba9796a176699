/** Fast commits that no kernel wrote: what cannot be replayed is refused by name, and whatever they say has an end. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { before, test } from 'node:test';
import { EbbError } from '../../../src/base/errors.ts';
import { memoryDevice } from '../../../src/ext4/block-device.ts';
import { openReplayed } from '../../../src/ext4/journal/replay.ts';
import { temporaryDirectory } from '../../support/temporary.ts';
import { dirtyImage, Shutdown } from '../support/dirty.ts';
import { addRange, ForgedImage, inodeTag, nameTag, Tag, words } from '../support/fast-commits.ts';
import type { FastTag } from '../support/fast-commits.ts';
import { Dice } from '../support/mutate.ts';
import { resolvePath, surveyVolume } from '../support/walk.ts';

const runs = Number(process.env['EBB_FUZZ_RUNS'] ?? 150);
const limits = { entriesMax: 2000, readMaxBytes: 4 * 1024 * 1024 };
const processorMaxMs = 10_000;
const flag = { extents: 0x80000, encrypt: 0x800, casefold: 0x40000000, inline: 0x10000000 };
const root = 2;

let image: ForgedImage;
/** Numbers of inodes, by what they are. */
let directory: number;
let other: number;
let file: number;
let indexed: number;

before(async () => {
  await using scratch = await temporaryDirectory('forged');
  const load = `
    mkdir directory other indexed; touch file; ln -s target symlink
    head -c 30000 /dev/urandom > file
    for i in 1 3 5 7 9 11; do dd if=file of=pieces bs=4k count=1 seek=$i status=none; done
    for i in $(seq 1 120); do echo $i > indexed/a-name-of-some-length-$i; done
    sync -f .; echo last > last; sync last`;
  const path = await dirtyImage(scratch.path, {
    mkfs: ['-t', 'ext4', '-b', '4096', '-O', 'fast_commit', '-J', 'size=8', '-N', '500'],
    sizeBytes: 20 * 1024 * 1024,
    load,
    how: Shutdown.noFlushLog,
  });
  image = new ForgedImage(readFileSync(path));
  const { volume } = openReplayed(memoryDevice(image.bytes), { journal: 'full-commits' });
  [directory, other, file, indexed] = ['directory', 'other', 'file', 'indexed'].map(
    (name) => resolvePath(volume, `/${name}`).number,
  ) as [number, number, number, number];
});

/** The inode as after the log, with other flags. */
function withFlags(number: number, set: number, clear = 0): FastTag {
  const raw = rawAfterLog(number);
  raw.writeUInt32LE(((raw.readUInt32LE(0x20) | set) & ~clear) >>> 0, 0x20);
  return inodeTag(number, raw);
}

function rawAfterLog(number: number): Buffer {
  const { device } = openReplayed(memoryDevice(image.bytes), { journal: 'full-commits' });
  const bytes = Buffer.alloc(device.sizeBytes);
  device.read(0, bytes);
  return new ForgedImage(bytes).rawInode(number);
}

const refused: readonly (readonly [string, RegExp, () => readonly FastTag[]])[] = [
  [
    'directories that fold',
    /EOPNOTSUPP .*folds case.*nofastcommit/,
    () => [withFlags(directory, flag.casefold), nameTag(Tag.link, directory, file, 'new')],
  ],
  [
    'encrypted directories',
    /EOPNOTSUPP .*encrypted.*nofastcommit/,
    () => [withFlags(directory, flag.encrypt), nameTag(Tag.link, directory, file, 'new')],
  ],
  [
    'inline directories',
    /EOPNOTSUPP .*inline data.*nofastcommit/,
    () => [
      withFlags(directory, flag.inline, flag.extents),
      nameTag(Tag.unlink, directory, file, 'new'),
    ],
  ],
  [
    'block pointers',
    /EOPNOTSUPP .*block pointers.*nofastcommit/,
    () => [withFlags(file, 0, flag.extents)],
  ],
  [
    'moved directories',
    /EOPNOTSUPP .*move a directory.*nofastcommit/,
    () => [nameTag(Tag.link, other, directory, 'moved')],
  ],
  ['a reserved inode', /EUCLEAN .*inode 8/, () => [inodeTag(8, image.rawInode(file))]],
  [
    'an inode that does not exist',
    /EUCLEAN .*inode 90000/,
    () => [nameTag(Tag.link, root, 90_000, 'x')],
  ],
  [
    'an inode without content',
    /EUCLEAN .*without content/,
    () => [nameTag(Tag.create, root, 400, 'x')],
  ],
  ['a name with a slash', /EUCLEAN .*cannot be one/, () => [nameTag(Tag.link, root, file, 'a/b')]],
  ['a name in a file', /EUCLEAN .*names in inode/, () => [nameTag(Tag.link, file, other, 'x')]],
  ['blocks of a directory', /EUCLEAN .*of directory/, () => [addRange(directory, 5, 1, 3000)]],
  ['a block outside', /EUCLEAN .*of block 6000/, () => [addRange(file, 0, 1000, 6000)]],
  [
    'a range behind the end',
    /EUCLEAN .*blocks from/,
    () => [{ tag: Tag.removeRange, value: words(file, 0xffffffff, 2) }],
  ],
];

for (const [what, expected, tags] of refused) {
  test(`what cannot be replayed exactly is refused, by name: ${what}`, () => {
    const forged = new ForgedImage(Buffer.from(image.bytes));
    forged.commit(tags());
    assert.throws(
      () => openReplayed(memoryDevice(forged.bytes)),
      (error) => error instanceof EbbError && expected.test(`${error.code} ${error.message}`),
    );
    // And without them it is read.
    const { volume } = openReplayed(memoryDevice(forged.bytes), { journal: 'full-commits' });
    assert.equal(resolvePath(volume, '/file').number, file);
  });
}

test('whatever fast commits say, the image is answered', () => {
  const seed = process.env['EBB_FUZZ_RUNS'] === undefined ? 1 : Date.now() % 2 ** 32;
  const raws = [root, file, directory, indexed, file + 1].map((number) => rawAfterLog(number));
  const forged = new ForgedImage(Buffer.from(image.bytes));
  let opened = 0;
  const codes = new Map<string, number>();
  for (let run = 0; run < runs; run += 1) {
    const dice = new Dice((seed + run * 0x85ebca6b) >>> 0);
    forged.commit(forgedTags(dice, raws));
    const start = process.cpuUsage();
    const survey = surveyVolume(() => openReplayed(memoryDevice(forged.bytes)).volume, limits);
    const { user, system } = process.cpuUsage(start);
    assert.ok((user + system) / 1000 < processorMaxMs, `seed ${seed}, run ${run}`);
    if (survey.entries > 0) opened += 1;
    for (const [code, count] of survey.errors) codes.set(code, (codes.get(code) ?? 0) + count);
  }
  assert.ok(opened > runs / 10, `${opened} of ${runs} could be read`);
  const known = ['EUCLEAN', 'EOPNOTSUPP', 'ENOKEY', 'ENOENT'];
  assert.deepEqual(
    [...codes.keys()].filter((code) => !known.includes(code)),
    [],
  );
});

/** Mostly what could be meant: files 300 to 302 are new, what has ranges is a file. */
function forgedTags(dice: Dice, raws: readonly Buffer[]): FastTag[] {
  const raw = Buffer.from(raws[1]!);
  raw.fill(0, 0x28, 0x64);
  const tags = [300, 301, 302].map((number) => inodeTag(number, raw.subarray(0, 160)));
  const count = dice.below(60);
  for (let index = 0; index < count; index += 1) tags.push(forgedTag(dice, raws));
  return tags;
}

function forgedTag(dice: Dice, raws: readonly Buffer[]): FastTag {
  const odd = dice.below(400) === 0;
  const number = odd ? dice.below(600) : dice.of([file, 300, 301, 302]);
  const linked = dice.below(4) === 0 ? dice.of([root, directory, other, indexed]) : number;
  const block = odd ? dice.word() : 2500 + dice.below(2500);
  const logical = odd ? dice.word() : dice.below(64);
  const name = odd ? dice.of(['.', '..', 'a/b', '', '\0']) : dice.of(['a', 'b', 'long'.repeat(60)]);
  const parent = odd ? number : dice.of([root, other, indexed]);
  switch (dice.below(7)) {
    case 0:
      return nameTag(Tag.create, parent, number, name + dice.below(9));
    case 1:
      return nameTag(Tag.link, parent, number, name + dice.below(9));
    case 2:
      return nameTag(Tag.unlink, parent, linked, name + dice.below(9));
    case 3:
      return { tag: Tag.removeRange, value: words(number, logical, 1 + dice.below(20)) };
    case 4: {
      const raw = Buffer.from(odd ? dice.of(raws) : raws[1]!);
      if (dice.below(20) === 0) raw.writeUInt32LE(dice.word(), dice.below(40) * 4);
      return inodeTag(odd ? linked : number, raw.subarray(0, 160));
    }
    default:
      return addRange(number, logical, dice.of([1, 2, 30, 32_770]), block);
  }
}
