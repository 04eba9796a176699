/**
 * Damaged images: whatever is in them, the reader answers, in bounded time, with an errno or with
 * something that keeps the contract. EBB_EXT4_FUZZ=1000000 tries that many inputs, from a new seed.
 */
import assert from 'node:assert/strict';
import { mkdir, readFile, symlink, truncate, writeFile, open } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { memoryDevice } from '../../src/ext4/block-device.ts';
import { openVolume } from '../../src/ext4/volume.ts';
import { setXattr } from '../../src/sys/xattr.ts';
import { patternBytes } from '../support/pattern.ts';
import { run } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { debugfs, makeImage } from './support/images.ts';
import { Dice, findTargets, Mutator } from './support/mutate.ts';
import { Resealer } from './support/reseal.ts';
import { surveyVolume } from './support/walk.ts';
import type { Survey } from './support/walk.ts';

const asked = process.env['EBB_EXT4_FUZZ'];
const inputsPerImage = Math.ceil(Number(asked ?? 100_000) / 8);
const seed = asked === undefined ? 1 : Date.now() % 2 ** 32;

/** What one input may cost: so much that only something without an end exceeds it. */
const limits = { entriesMax: 3000, readMaxBytes: 8 * 1024 * 1024 };
const readsMax = 60_000;
const processorMaxMs = 5000;

interface Subject {
  readonly name: string;
  readonly parameters: readonly string[];
  readonly debugfs?: readonly string[];
  readonly sizeBytes?: number;
}

const subjects: readonly Subject[] = [
  { name: 'ext2', parameters: ['-t', 'ext2', '-b', '1024'] },
  {
    name: 'ext3 without indexes',
    parameters: ['-t', 'ext3', '-b', '1024', '-O', '^dir_index'],
    sizeBytes: 4 << 20,
  },
  { name: 'ext4', parameters: ['-t', 'ext4', '-b', '1024'] },
  {
    name: 'ext4 without checksums',
    parameters: ['-t', 'ext4', '-b', '1024', '-O', '^metadata_csum,uninit_bg'],
  },
  {
    name: 'inline data, attributes in inodes',
    parameters: [
      '-t',
      'ext4',
      '-b',
      '1024',
      '-I',
      '256',
      '-O',
      'inline_data,ea_inode,^metadata_csum',
    ],
  },
  {
    name: 'casefold, three levels',
    parameters: ['-t', 'ext4', '-b', '1024', '-O', 'casefold,large_dir,^metadata_csum'],
    debugfs: ['sif flat flags 0x40000000'],
  },
  {
    name: 'encrypt, meta_bg, 4 KiB blocks',
    parameters: ['-t', 'ext4', '-b', '4096', '-O', 'encrypt,meta_bg,^resize_inode'],
    debugfs: ['sif flat flags 0x80800'],
    sizeBytes: 4 << 20,
  },
  {
    name: 'bigalloc',
    parameters: ['-t', 'ext4', '-b', '1024', '-O', 'bigalloc', '-C', '4096'],
    sizeBytes: 4 << 20,
  },
];

/** A small tree in which every structure occurs. */
async function makeSource(directory: string): Promise<string> {
  const source = path.join(directory, 'source');
  await mkdir(path.join(source, 'flat'), { recursive: true });
  await mkdir(path.join(source, 'a/b/c'), { recursive: true });
  for (let index = 0; index < 90; index += 1) {
    await writeFile(
      path.join(source, 'flat', `entry number ${index}${'-'.repeat(index % 60)}`),
      '',
    );
  }
  for (const size of [5, 70, 130, 5000]) {
    await writeFile(path.join(source, `a/size ${size}`), patternBytes(size, size));
  }
  await symlink('short', path.join(source, 'a/b/short'));
  await symlink('long/'.repeat(30), path.join(source, 'a/b/long'));
  await using scattered = await open(path.join(source, 'a/b/c/scattered'), 'w');
  for (let index = 0; index < 100; index += 1) {
    await scattered.write(
      patternBytes(index, 1024),
      0,
      1024,
      index * 9000 - ((index * 9000) % 4096),
    );
  }
  await truncate(path.join(source, 'a/size 5000'), 900_000);
  const attributed = path.join(source, 'a/size 70');
  setXattr(attributed, 'user.small', Buffer.from('small'));
  setXattr(attributed, 'user.larger', patternBytes(1, 300));
  setXattr(attributed, 'trusted.other', patternBytes(2, 100));
  return source;
}

async function makeSubject(
  directory: string,
  source: string,
  subject: Subject,
): Promise<Uint8Array> {
  const sizeBytes = subject.sizeBytes ?? 2 << 20;
  const image = await makeImage(
    directory,
    ['-N', '160', '-d', source, ...subject.parameters],
    sizeBytes,
    subject.name,
  );
  if (subject.debugfs !== undefined) await debugfs(image, subject.debugfs);
  // Gives large directories their indexes.
  await run('e2fsck', ['-fyD', image], { debianPackage: 'e2fsprogs' });
  return new Uint8Array(await readFile(image));
}

for (const [index, subject] of subjects.entries()) {
  test(`damaged images of ${subject.name} are answered`, async () => {
    await using scratch = await temporaryDirectory('fuzz');
    const source = await makeSource(scratch.path);
    const image = await makeSubject(scratch.path, source, subject);
    const sound = memoryDevice(image);
    const healthy = surveyVolume(() => openVolume(sound), limits);
    assert.ok(healthy.entries > 100, `${healthy.entries} entries`);
    const unexpected = [...healthy.errors.keys()].filter((code) => code !== 'ENOKEY');
    assert.deepEqual(unexpected, []);
    const before = Buffer.from(image);

    const { blockSizeBytes } = openVolume(sound).superblock;
    const hasChecksums = openVolume(sound).superblock.features.has('metadata_csum');
    const resealer = hasChecksums ? new Resealer(image, sound) : undefined;
    resealer?.sealAll();
    assert.ok(Buffer.compare(before, image) === 0, 'what is sound is sealed as it was');
    const mutator = new Mutator(image, findTargets(image, sound), blockSizeBytes);
    const total: Survey = { entries: 0, readBytes: 0, extents: 0, errors: new Map() };
    for (let input = 0; input < inputsPerImage; input += 1) {
      const dice = new Dice((seed + index * 0x9e3779b1 + input * 0x85ebca6b) >>> 0);
      const what = `seed ${seed}, ${subject.name}, input ${input}`;
      // Attackers compute checksums as well. Where there are none, and for one in four, they are left as they are.
      const isSealed = resealer !== undefined && dice.below(4) > 0;
      mutator.mutate(dice, isSealed ? resealer : undefined);
      let reads = 0;
      const device = {
        sizeBytes: sound.sizeBytes,
        read(offset: number, into: Uint8Array): void {
          reads += 1;
          sound.read(offset, into);
        },
      };
      const start = process.cpuUsage();
      const verifyChecksums = isSealed || dice.below(2) === 0;
      try {
        const survey = surveyVolume(() => openVolume(device, { verifyChecksums }), limits);
        total.entries += survey.entries;
        for (const [code, count] of survey.errors) {
          total.errors.set(code, (total.errors.get(code) ?? 0) + count);
        }
      } catch (error) {
        throw new Error(what, { cause: error });
      }
      const { user, system } = process.cpuUsage(start);
      assert.ok(reads < readsMax, `${what}: ${reads} reads`);
      assert.ok((user + system) / 1000 < processorMaxMs, `${what}: ${user + system} us`);
      mutator.undo();
    }
    assert.ok(Buffer.compare(before, image) === 0, 'the image is as it was');
    // The damage is felt, and what is left is read nevertheless.
    assert.ok((total.errors.get('EUCLEAN') ?? 0) > inputsPerImage / 20);
    assert.ok(total.entries > inputsPerImage * 10);
    const known = [
      'EUCLEAN',
      'EOPNOTSUPP',
      'EIO',
      'ENOKEY',
      'ENOENT',
      'ENOTDIR',
      'EINVAL',
      'EISDIR',
    ];
    assert.deepEqual(
      [...total.errors.keys()].filter((code) => !known.includes(code)),
      [],
    );
  });
}
