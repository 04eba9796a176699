/**
 * Fast commits that the kernel left behind, replayed in memory: names, attributes, content and extents are those after
 * the kernel's own replay of a copy. What that leaves wrong (counts of directories), e2fsck puts right before it is
 * compared.
 */
import assert from 'node:assert/strict';
import { closeSync, lstatSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { openReplayed } from '../../../src/ext4/journal/replay.ts';
import type { Inode, Volume } from '../../../src/ext4/volume.ts';
import { filesystemStatus } from '../../../src/sys/statfs.ts';
import { loopMount } from '../../support/loop-mount.ts';
import { run, runOk } from '../../support/run.ts';
import { temporaryDirectory } from '../../support/temporary.ts';
import type { TemporaryDirectory } from '../../support/temporary.ts';
import { Dice } from '../support/mutate.ts';
import { copyOf, dirtyImage, Shutdown } from '../support/dirty.ts';
import { fiemap, joined } from '../support/fiemap.ts';
import { openImage } from '../support/images.ts';
import { contentOf, resolvePath, walkVolume } from '../support/walk.ts';

let directory: TemporaryDirectory;
before(async () => {
  directory = await temporaryDirectory('fast-commit');
  // Hundreds of times fsync: not on a disk.
  await runOk('mount', ['-t', 'tmpfs', '-o', 'size=700m', 'tmpfs', directory.path]);
});
after(() => directory[Symbol.asyncDispose]());

/** What is there before: committed in full. */
const setUp = `
  mkdir old removed many; touch removed/x; rm removed/x
  for i in 1 2 3 4 5 6; do echo "old $i" > old/f$i; done
  head -c 400000 /dev/urandom > old/big
  head -c 200000 /dev/urandom > old/cut
  ln old/f6 old/f6-other
  for i in $(seq 1 300); do echo $i > many/a-name-of-some-length-$i; done
  head -c 3000 /dev/zero > attributed; setfattr -n user.large -v $(head -c 500 /dev/zero | tr '\\0' v) attributed
  sync -f .
`;

interface Case {
  readonly name: string;
  /** Ends with an fsync that the kernel answers with a fast commit. */
  readonly load: string;
  readonly features?: string;
  readonly mkfs?: readonly string[];
  /** A directory gets a block: the kernel's may get another number of them, and free counts with them. */
  readonly directoriesGrow?: boolean;
  /** The kernel's replay leaves the inodes of removed directories behind, and e2fsck puts them into lost+found. */
  readonly leaves?: boolean;
}

const cases: readonly Case[] = [
  {
    name: 'files are made, written, cut, punched and preallocated',
    load: `
      head -c 7000 /dev/urandom > new1; sync new1
      head -c 100000 /dev/urandom > old/new2; sync old/new2
      echo overwritten > old/f1; sync old/f1
      echo more >> old/f2; sync old/f2
      truncate -s 12345 old/cut; sync old/cut
      fallocate -p -o 8192 -l 16384 old/big; sync old/big
      fallocate -n -o 0 -l 65536 new1; sync new1
      fallocate -o 1048576 -l 300000 old/f3; sync old/f3
      chmod 4711 old/f4; chown 1234:70000 old/f4; touch -d '2040-01-02 03:04:05' old/f4; sync old/f4
      head -c 9000 /dev/urandom >> attributed; sync attributed`,
  },
  {
    name: 'names come, go and change',
    load: `
      echo one > one; sync one; ln one old/another; sync one
      mv old/f1 renamed; sync renamed; mv old/f2 old/f3; sync old/f3
      rm old/f4; echo x > old/f4; sync old/f4
      rm old/f6; sync old/f6-other
      echo short > short-lived; sync short-lived; rm short-lived; sync one
      rm old/f5; echo y > y; sync y`,
    features: '^metadata_csum',
  },
  {
    name: 'directories are made and filled',
    load: `mkdir fresh; echo in > fresh/in; sync fresh/in
      mkdir fresh/deep; echo deeper > fresh/deep/er; sync fresh/deep/er`,
  },
  {
    name: 'a directory is removed',
    load: 'rmdir removed; echo x > x; sync x',
    leaves: true,
  },
  {
    name: 'a file in hundreds of pieces',
    load: `
      for i in $(seq 0 2 400); do
        dd if=/dev/urandom of=pieces bs=4096 count=1 seek=$i conv=notrunc status=none
        [ $((i % 20)) -gt 0 ] || sync pieces
      done; sync pieces`,
  },
  {
    name: 'clusters of 16 KiB',
    load: 'head -c 70000 /dev/urandom > new; sync new; truncate -s 20000 old/big; sync old/big; rm old/cut; sync new',
    features: 'bigalloc',
    mkfs: ['-C', '16384'],
  },
  {
    name: 'an indexed directory gets names and loses some',
    load: `
      for i in 1 2 3 50 100 200; do rm many/a-name-of-some-length-$i; done
      for i in $(seq 1 10); do echo $i > many/an-added-name-$i; sync many/an-added-name-$i; done`,
    directoriesGrow: true,
  },
  {
    name: 'an indexed directory loses its index',
    load: `
      for i in $(seq 1 80); do echo $i > many/an-added-name-that-is-so-long-that-only-few-fit-into-a-block-$i; done
      rm many/a-name-of-some-length-7; sync many/an-added-name*-1`,
    mkfs: ['-b', '1024'],
    directoriesGrow: true,
  },
  {
    name: 'a directory grows by many names',
    load: `for i in $(seq 1 130); do echo $i > old/$i-this-name-is-so-long-that-few-of-them-fit-into-one-block; done
      sync old/1-this*`,
    features: '^metadata_csum',
    mkfs: ['-b', '1024'],
    directoriesGrow: true,
  },
];

/** What chance makes of a few files and directories. */
function randomCase(seed: number): Case {
  const dice = new Dice(seed);
  const steps: string[] = [];
  const name = (): string => ['', 'old/', 'many/'][dice.below(3)] + 'abcdefgh'[dice.below(8)]!;
  const size = (): number => dice.below(60_000);
  for (let step = 0; step < 40; step += 1) {
    const [one, other] = [name(), name()];
    const command = [
      `head -c ${size()} /dev/urandom > ${one}`,
      `head -c ${size()} /dev/urandom >> ${one}`,
      `head -c ${size()} /dev/urandom | dd of=${one} bs=64k seek=${dice.below(3)} conv=notrunc status=none`,
      `truncate -s ${size() * 3} ${one}`,
      `fallocate -o ${size()} -l ${size() + 1} ${one}`,
      `fallocate -n -o ${size()} -l ${size() + 1} ${one}`,
      `fallocate -p -o ${size()} -l ${size() + 1} ${one}`,
      `fallocate -z -o ${size()} -l ${size() + 1} ${one}`,
      `ln -f ${one} ${other}`,
      `mv ${one} ${other}`,
      `rm ${one}`,
      `chmod ${400 + dice.below(8)} ${one}`,
    ][dice.below(12)]!;
    // Most of them have something to do; who has not changes nothing.
    steps.push(`{ ${command}; } 2>/dev/null || true`);
    if (dice.below(3) > 0) steps.push(`sync ${other} 2>/dev/null || true`);
  }
  steps.push('echo last > last; sync last');
  return {
    name: `chance ${seed}`,
    load: steps.join('\n'),
    mkfs: ['-b', '1024'],
    directoriesGrow: true,
  };
}

const rounds = Number(process.env['EBB_FAST_COMMIT_ROUNDS'] ?? 1);
const random = Array.from({ length: rounds }, (_, round) => randomCase(round + 1));

for (const each of [...cases, ...random]) {
  test(`fast commits (${each.name}) are replayed in memory as the kernel does`, async () => {
    const { load, mkfs = [], features } = each;
    const wanted = ['fast_commit', ...(features === undefined ? [] : [features])].join(',');
    await using scratch = await temporaryDirectory('fast-commit', directory.path);
    const image = await dirtyImage(scratch.path, {
      mkfs: ['-t', 'ext4', '-O', wanted, '-J', 'size=8', '-N', '2000', ...mkfs],
      sizeBytes: 40 * 1024 * 1024,
      load: `${setUp}\n${load}`,
      how: Shutdown.noFlushLog,
      mountOptions: 'noatime,nobarrier',
    });
    const bytes = readFileSync(image);
    using device = openImage(image);
    const { volume, replay } = openReplayed(device);
    assert.ok(replay.fastChanges > 0, 'the journal ends in fast commits');
    const copy = await copyOf(image, 'kernel');
    // The first mount replays.
    await (await loopMount(copy))[Symbol.asyncDispose]();
    await run('e2fsck', ['-fy', copy], { debianPackage: 'e2fsprogs' });
    {
      await using mounted = await loopMount(copy, { mountOptions: 'ro' });
      compare(volume, mounted.path, each);
    }
    assert.ok(readFileSync(image).equals(bytes), 'the image is never touched');
  });
}

function compare(
  volume: Volume,
  point: string,
  { directoriesGrow = false, leaves = false }: Case,
): void {
  const ours = new Map([...walkVolume(volume)].map(({ path, inode }) => [path, inode]));
  const theirs = readdirSync(point, { recursive: true, encoding: 'utf8' });
  const names = theirs.filter((name) => !name.startsWith('lost+found/'));
  assert.deepEqual(
    [...ours.keys()].toSorted(),
    ['', ...names.map((name) => `/${name}`)].toSorted(),
  );
  for (const [path, inode] of ours) {
    if (path !== '/lost+found' || !leaves) compareStatus(inode, `${point}${path}`, directoriesGrow);
    assert.equal(resolvePath(volume, path).number, inode.number, path);
    if (inode.type === 'symlink') {
      const target = Buffer.from(volume.symlinkTarget(inode)).toString();
      assert.equal(target, readlinkSync(`${point}${path}`));
    }
    if (inode.type === 'file') compareContent(volume, inode, `${point}${path}`);
  }
  if (leaves) return;
  const { freeBlocks, freeInodes } = volume.statfs();
  const status = filesystemStatus(point);
  assert.equal(freeInodes, status.filesFree, 'free inodes');
  if (!directoriesGrow)
    assert.equal(freeBlocks, status.freeBytes / status.blockSizeBytes, 'free blocks');
}

function compareStatus(inode: Inode, place: string, directoriesGrow: boolean): void {
  const status = lstatSync(place, { bigint: true });
  const { number, mode, linkCount, sizeBytes, allocatedSectors, uid, gid } = inode;
  const sizes = inode.type === 'directory' && directoriesGrow ? [] : [sizeBytes, allocatedSectors];
  assert.deepEqual(
    [number, mode, linkCount, uid, gid, ...sizes].map(BigInt),
    [
      status.ino,
      status.mode,
      status.nlink,
      status.uid,
      status.gid,
      ...(sizes.length === 0 ? [] : [status.size, status.blocks]),
    ],
    place,
  );
  // A replay by the kernel is a change of the directory, now.
  if (inode.type === 'directory') return;
  const { seconds, nanoseconds } = inode.modificationTime;
  assert.equal(BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds), status.mtimeNs, place);
}

function compareContent(volume: Volume, inode: Inode, place: string): void {
  assert.ok(contentOf(volume, inode).equals(readFileSync(place)), place);
  const descriptor = openSync(place, 'r');
  try {
    const { blockSizeBytes } = volume.superblock;
    const extents = [...volume.extents(inode, { pastEnd: true })].map((extent) => ({
      logicalBytes: extent.logicalBlock * blockSizeBytes,
      physicalBytes: extent.physicalBlock * blockSizeBytes,
      lengthBytes: extent.blockCount * blockSizeBytes,
      unwritten: extent.unwritten,
    }));
    assert.deepEqual(joined(extents), fiemap(descriptor), place);
  } finally {
    closeSync(descriptor);
  }
}

test('a file that was deleted while it was open: the kernel cannot replay that, here the others are read', async () => {
  const image = await dirtyImage(directory.path, {
    mkfs: ['-t', 'ext4', '-O', 'fast_commit', '-J', 'size=8'],
    sizeBytes: 40 * 1024 * 1024,
    load: `${setUp}
      exec 5>deleted; echo gone >&5; rm deleted; sync /dev/fd/5; echo kept > kept; sync kept`,
    how: Shutdown.noFlushLog,
  });
  using device = openImage(image);
  const { volume } = openReplayed(device);
  const names = [...volume.entries(volume.root(), 0)].map(({ name }) =>
    Buffer.from(name).toString(),
  );
  assert.ok(names.includes('kept') && !names.includes('deleted'), names.join(' '));
  assert.equal(contentOf(volume, resolvePath(volume, '/kept')).toString(), 'kept\n');
});

test('without its fast commits an image is as of its last full commit', async () => {
  const image = await dirtyImage(directory.path, {
    mkfs: ['-t', 'ext4', '-O', 'fast_commit', '-J', 'size=8'],
    sizeBytes: 40 * 1024 * 1024,
    load: `${setUp}\n echo new > new; sync new`,
    how: Shutdown.noFlushLog,
  });
  using device = openImage(image);
  const { volume, replay } = openReplayed(device, { journal: 'full-commits' });
  assert.ok(replay.fastChanges === 0 && replay.fastChangesIgnored > 0);
  assert.equal(volume.lookup(volume.root(), Buffer.from('new')), undefined);
  assert.ok(volume.lookup(volume.root(), Buffer.from('old')) !== undefined);
});
