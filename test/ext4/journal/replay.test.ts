/** Journals that the kernel left behind, replayed in memory: the same as after e2fsck's replay, and the kernel's. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { truncate } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { memoryDevice } from '../../../src/ext4/block-device.ts';
import { openReplayed } from '../../../src/ext4/journal/replay.ts';
import type { ReplayedVolume } from '../../../src/ext4/journal/replay.ts';
import type { Volume } from '../../../src/ext4/volume.ts';
import { loopMount } from '../../support/loop-mount.ts';
import { run, runOk } from '../../support/run.ts';
import { temporaryDirectory } from '../../support/temporary.ts';
import type { TemporaryDirectory } from '../../support/temporary.ts';
import { copyOf, dirtyImage, Shutdown } from '../support/dirty.ts';
import type { DirtyOptions } from '../support/dirty.ts';
import { debugfs, makeImage, openImage } from '../support/images.ts';
import { contentOf, walkVolume } from '../support/walk.ts';

let directory: TemporaryDirectory;
before(async () => {
  directory = await temporaryDirectory('journal');
});
after(() => directory[Symbol.asyncDispose]());

/** Several transactions: names, content, links, deletions of what an earlier one had made. */
const load = `
  mkdir -p a/b old many
  for i in $(seq 1 60); do echo "file $i" > many/name-that-is-rather-long-$i; done
  head -c 300000 /dev/urandom > a/big; ln -s big a/link; ln a/big a/b/other
  sync a
  for i in $(seq 1 30); do mkdir old/$i; touch old/$i/x; done
  sync a
  rm -r old; mv a/b/other moved; truncate -s 12345 a/big
  sync a
  for i in $(seq 1 50); do rm many/name-that-is-rather-long-$i; done
  head -c 500000 /dev/urandom > reused; mkdir after; echo tail > after/last
  sync a
  echo late > late
`;

const cases: readonly (readonly [string, DirtyOptions])[] = [
  ['checksums of version 3, 64 bits', { load }],
  ['the log not flushed', { load, how: Shutdown.noFlushLog }],
  ['no checksums, blocks of 1 KiB', { load, mkfs: ['-t', 'ext3', '-b', '1024'] }],
  [
    'checksums of version 1',
    { load, mkfs: ['-t', 'ext4', '-O', '^metadata_csum'], mountOptions: 'journal_checksum' },
  ],
  [
    'asynchronous commits',
    {
      load,
      mkfs: ['-t', 'ext4', '-O', '^metadata_csum'],
      mountOptions: 'data=writeback,journal_async_commit',
    },
  ],
  [
    'asynchronous commits, version 3',
    { load, mountOptions: 'data=writeback,journal_async_commit' },
  ],
  [
    'data in the journal, with its magic number',
    {
      load: `${load}
        for i in 1 2 3; do printf '\\300\\073\\071\\230 escaped %s' $i > magic$i; done
        head -c 200000 /dev/urandom > journalled; sync journalled`,
      mountOptions: 'data=journal',
    },
  ],
  [
    'a log that went round',
    {
      load: `for round in 1 2 3 4 5 6 7 8 9; do
        for i in $(seq 1 50); do mkdir -p d$round/$i; echo $round > d$round/$i/f; done
        sync d$round; [ $round -lt 3 ] || rm -r d$((round - 2)); done; echo x > y; sync y`,
      mkfs: ['-t', 'ext4', '-b', '1024', '-J', 'size=1'],
    },
  ],
];

for (const [name, options] of cases) {
  test(`a dirty journal (${name}) is replayed in memory as e2fsck and the kernel do`, async () => {
    const image = await dirtyImage(directory.path, options);
    const before = readFileSync(image);
    using device = openImage(image);
    const replayed = openReplayed(device);
    assert.equal(replayed.replay.state, 'replayed');
    assert.ok(replayed.replay.transactions >= 1);
    await compareWithE2fsck(image, before, replayed);
    await compareWithKernel(image, replayed.volume);
    assert.ok(readFileSync(image).equals(before), 'the image is never touched');
  });
}

test('a file system that was enlarged while mounted, as only its journal says, is read as it is now', async () => {
  const words = ['-t', 'ext4', '-b', '1024', '-J', 'size=1', '-N', '64'];
  const image = await makeImage(directory.path, words, 8 * 1024 * 1024, 'grown');
  await truncate(image, 40 * 1024 * 1024);
  const larger = await copyOf(image, 'larger');
  await runOk('resize2fs', [larger], { debianPackage: 'e2fsprogs' });
  // Inodes behind the first 64 are in the new groups.
  await debugfs(
    larger,
    Array.from({ length: 150 }, (_, index) => `mkdir d${index}`),
  );
  await logDifferences(image, larger);
  const before = readFileSync(image);
  const replayed = openReplayed(memoryDevice(before));
  assert.equal(replayed.volume.superblock.blockCount, 40 * 1024);
  assert.ok([...walkVolume(replayed.volume)].some(({ inode }) => inode.number > 100));
  await compareWithE2fsck(image, before, replayed);
  // The mount that replays knows the old size only (EIO for what is in the new groups), the next one does not.
  const mountedOnce = await copyOf(image, 'once');
  await (await loopMount(mountedOnce))[Symbol.asyncDispose]();
  await compareWithKernel(mountedOnce, replayed.volume);
});

/** Makes `image` one that has become `other` by a transaction in its journal. */
async function logDifferences(image: string, other: string): Promise<void> {
  const bytes = readFileSync(image);
  const logged = readFileSync(other);
  const { volume } = openReplayed(memoryDevice(bytes));
  const { blockSizeBytes } = volume.superblock;
  const own = journalBlocks(volume);
  const changed: number[] = [];
  for (let block = 0; block < bytes.length / blockSizeBytes; block += 1) {
    const [from, to] = [block * blockSizeBytes, (block + 1) * blockSizeBytes];
    const isSame = bytes.subarray(from, to).equals(logged.subarray(from, to));
    if (!isSame && !own.has(block)) changed.push(block);
  }
  const contents = changed.map((block) =>
    logged.subarray(block * blockSizeBytes, (block + 1) * blockSizeBytes),
  );
  const source = `${image}-logged`;
  writeFileSync(source, Buffer.concat(contents));
  await debugfs(other, ['jo', `jw -b ${changed.join(',')} ${source}`, 'jc']);
  await debugfs(image, ['feature needs_recovery']);
  const dirty = readFileSync(image);
  const written = readFileSync(other);
  for (const block of own) {
    const [from, to] = [block * blockSizeBytes, (block + 1) * blockSizeBytes];
    written.copy(dirty, from, from, to);
  }
  writeFileSync(image, dirty);
}

function journalBlocks(volume: Volume): Set<number> {
  const own = new Set<number>();
  const journal = volume.inode(volume.superblock.journalInode);
  for (const extent of volume.extents(journal, { pastEnd: true })) {
    for (let at = 0; at < extent.blockCount; at += 1) own.add(extent.physicalBlock + at);
  }
  return own;
}

/** Every block but those of the journal and the superblock, which says that it was replayed. */
async function compareWithE2fsck(image: string, before: Buffer, replayed: ReplayedVolume) {
  const copy = await copyOf(image, 'e2fsck');
  await run('e2fsck', ['-y', '-E', 'journal_only', copy], { debianPackage: 'e2fsprogs' });
  const expected = readFileSync(copy);
  const { device, volume } = replayed;
  const { blockSizeBytes, blockCount } = volume.superblock;
  const own = journalBlocks(volume);
  const block = Buffer.alloc(blockSizeBytes);
  let changed = 0;
  for (let number = 0; number < blockCount; number += 1) {
    const start = number * blockSizeBytes;
    const wanted = expected.subarray(start, start + blockSizeBytes);
    const isSuperblock = start <= 1024 && start + blockSizeBytes > 1024;
    if (own.has(number) || isSuperblock) continue;
    device.read(start, block);
    assert.ok(block.equals(wanted), `block ${number}`);
    if (!block.equals(before.subarray(start, start + blockSizeBytes))) changed += 1;
  }
  assert.ok(changed > 0, 'there was something to replay');
}

async function compareWithKernel(image: string, volume: Volume): Promise<void> {
  const copy = await copyOf(image, 'kernel');
  const ours = new Map([...walkVolume(volume)].map((visited) => [visited.path, visited.inode]));
  await using mounted = await loopMount(copy);
  const point = mounted.path;
  const theirs = readdirSync(point, { recursive: true, encoding: 'latin1' });
  assert.deepEqual(
    [...ours.keys()].filter((name) => name !== '').sort(),
    theirs.map((name) => `/${name}`).sort(),
  );
  for (const name of theirs) {
    const inode = ours.get(`/${name}`);
    assert.ok(inode !== undefined);
    const file = path.join(point, name);
    const facts = lstatSync(file, { bigint: true });
    const { seconds, nanoseconds } = inode.modificationTime;
    assert.deepEqual(
      [inode.number, inode.mode, inode.linkCount, inode.sizeBytes, inode.uid].map(BigInt),
      [facts.ino, facts.mode, facts.nlink, facts.size, facts.uid],
      name,
    );
    assert.equal(BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds), facts.mtimeNs, name);
    if (inode.type === 'symlink') {
      assert.equal(Buffer.from(volume.symlinkTarget(inode)).toString(), readlinkSync(file));
    }
    if (inode.type === 'file') {
      assert.equal(sha256(contentOf(volume, inode)), sha256(readFileSync(file)), name);
    }
  }
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
