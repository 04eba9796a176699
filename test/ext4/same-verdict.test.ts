/**
 * Forms that are rare but sound, and damage that would only hide: what the kernel reads is read, with its bytes, and
 * what it refuses is refused.
 */
import assert from 'node:assert/strict';
import {
  closeSync,
  constants,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { decodeName } from '../../src/base/name.ts';
import { memoryDevice } from '../../src/ext4/block-device.ts';
import { Directories } from '../../src/ext4/directory.ts';
import { openReplayed } from '../../src/ext4/journal/replay.ts';
import { InodeFlag } from '../../src/ext4/loaded-inode.ts';
import { openParts } from '../../src/ext4/parts.ts';
import { openVolume } from '../../src/ext4/volume.ts';
import { CopyOut } from '../../src/image/reader/copy-out.ts';
import type { ImageLine } from '../../src/image/reader/lines.ts';
import { seekContent } from '../../src/image/server/extent-list.ts';
import { getXattr, setXattr } from '../../src/sys/xattr.ts';
import { loopMount } from '../support/loop-mount.ts';
import { patternBytes } from '../support/pattern.ts';
import { run, runOk, said } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { compareWithKernel } from './support/compare.ts';
import { copyOf, dirtyImage } from './support/dirty.ts';
import { debugfs, makeImage, mustBeClean, openImage } from './support/images.ts';
import { resolvePath } from './support/walk.ts';

const damaged = { name: 'EbbError', code: 'EUCLEAN' };
const mebibyte = 1024 * 1024;

/** Mounts it read only and compares everything. */
async function mustBeAsTheKernelSays(image: string): Promise<void> {
  await using mounted = await loopMount(image, { mountOptions: 'ro' });
  using device = openImage(image);
  compareWithKernel(openVolume(device), mounted.path);
}

test('a node of extents that does not begin where its parent says is damage, and no hole', async () => {
  await using scratch = await temporaryDirectory('verdict');
  const blockSizeBytes = 1024;
  const parameters = ['-t', 'ext4', '-b', `${blockSizeBytes}`, '-O', '^metadata_csum'];
  const image = await makeImage(scratch.path, parameters, 16 * mebibyte);
  {
    await using mounted = await loopMount(image);
    const descriptor = openSync(path.join(mounted.path, 'scattered'), 'w');
    for (let index = 0; index < 300; index += 1) {
      const bytes = patternBytes(index, blockSizeBytes);
      writeSync(descriptor, bytes, 0, blockSizeBytes, 2 * index * blockSizeBytes);
    }
    closeSync(descriptor);
  }
  await mustBeAsTheKernelSays(image);
  // The second entry of the root: its first block is now one of those that the first entry leads to.
  assert.match(await debugfs(image, ['ex scattered']), /0\/ 1 +2\//);
  await debugfs(image, ['sif scattered block[6] 3']);
  await using mounted = await loopMount(image, { mountOptions: 'ro' });
  using device = openImage(image);
  const volume = openVolume(device);
  const inode = resolvePath(volume, '/scattered');
  const read = new Uint8Array(blockSizeBytes);
  const descriptor = openSync(path.join(mounted.path, 'scattered'), 'r');
  try {
    for (const block of [4, 20, 160]) {
      const offset = block * blockSizeBytes;
      assert.throws(
        () => readSync(descriptor, read, 0, read.length, offset),
        { code: 'EIO' },
        'the kernel',
      );
      assert.throws(() => volume.read(inode, offset, read), damaged, `block ${block}`);
    }
  } finally {
    closeSync(descriptor);
  }
});

test('an inline file that is longer than what its inode holds has zeros there', async () => {
  await using scratch = await temporaryDirectory('verdict');
  const parameters = ['-t', 'ext4', '-O', 'inline_data'];
  const image = await makeImage(scratch.path, parameters, 16 * mebibyte);
  const sizes = [61, 5000, 101, 300_000, 1024 ** 3];
  {
    await using mounted = await loopMount(image);
    for (const size of sizes) {
      writeFileSync(
        path.join(mounted.path, `${size}`),
        patternBytes(size, size % 2 === 0 ? 2 : 100),
      );
    }
  }
  // What truncate(2) of older kernels left; newer ones move the content to blocks.
  await debugfs(
    image,
    sizes.map((size) => `sif ${size} size ${size}`),
  );
  await mustBeClean(image);
  await mustBeAsTheKernelSays(image);
  using device = openImage(image);
  const volume = openVolume(device);
  const largest = resolvePath(volume, `/${1024 ** 3}`);
  assert.ok(largest.inlineData);
  const { blockSizeBytes } = volume.superblock;
  assert.equal(seekContent(volume, largest, 1, 'data'), 1);
  assert.equal(seekContent(volume, largest, 1, 'hole'), blockSizeBytes);
  assert.equal(seekContent(volume, largest, blockSizeBytes, 'data'), undefined);
  assert.equal(seekContent(volume, largest, blockSizeBytes + 1, 'hole'), blockSizeBytes + 1);
  const rootFd = openSync(scratch.path, constants.O_RDONLY | constants.O_DIRECTORY);
  const said: ImageLine[] = [];
  const output = { line: (line: ImageLine) => said.push(line), data: () => undefined };
  new CopyOut(volume, rootFd, output, { force: false }).copy(largest, 'copy');
  closeSync(rootFd);
  const { size, blocks } = statSync(path.join(scratch.path, 'copy'));
  assert.equal(size, largest.sizeBytes);
  assert.ok(blocks * 512 <= mebibyte, `the hole stays one: ${blocks}`);
});

test('descriptors that came with growing take only the blocks that they need', async () => {
  await using scratch = await temporaryDirectory('verdict');
  const parameters = ['-t', 'ext4', '-b', '1024', '-g', '256', '-O', 'meta_bg,^resize_inode'];
  const image = await makeImage(scratch.path, parameters, 64 * mebibyte);
  // As the kernel leaves it that grew it: the first descriptors stay behind the superblock.
  await debugfs(image, ['ssv first_meta_bg 1']);
  await run('e2fsck', ['-fy', image]);
  await mustBeClean(image);
  {
    await using mounted = await loopMount(image);
    // Also of groups that have a copy of the superblock but, now, no descriptors behind it.
    const free = Number(await said('stat', '-f', '-c', '%a', mounted.path));
    await runOk('fallocate', ['-l', `${free - 500}KiB`, path.join(mounted.path, 'everywhere')]);
  }
  await mustBeClean(image);
  await mustBeAsTheKernelSays(image);
});

test('features of an image of revision 0 count: its journal is replayed, what is unknown is refused', async () => {
  await using scratch = await temporaryDirectory('verdict');
  const image = await dirtyImage(scratch.path, {
    mkfs: ['-t', 'ext3', '-I', '128'],
    load: 'echo content > file; mkdir below; sync below; echo more > below/late; sync below/late',
  });
  await debugfs(image, ['ssv rev_level 0']);
  {
    using device = openImage(image);
    const { volume, replay } = openReplayed(device);
    assert.equal(replay.state, 'replayed');
    assert.ok(volume.superblock.features.has('filetype'));
    await using mounted = await loopMount(await copyOf(image, 'kernel'));
    for (const name of ['file', 'below/late']) {
      const inode = resolvePath(volume, `/${name}`);
      const read = Buffer.alloc(inode.sizeBytes);
      volume.read(inode, 0, read);
      assert.equal(read.toString(), readFileSync(path.join(mounted.path, name), 'utf8'));
    }
  }
  await debugfs(image, ['ssv feature_incompat 0x80000046']);
  using device = openImage(image);
  assert.throws(() => openVolume(device), { name: 'EbbError', code: 'EOPNOTSUPP' });
});

test('names of a directory are found whether its hashes were made with signed or unsigned characters', async () => {
  const names = Array.from({ length: 300 }, (_, index) => `Größe-${'ÄÖÜ'.repeat(9)}-${index}`);
  for (const [flags, sign] of [
    [1, 'signed'],
    [2, 'unsigned'],
  ] as const) {
    await using scratch = await temporaryDirectory('verdict');
    const image = await makeImage(scratch.path, ['-t', 'ext3', '-b', '1024'], 16 * mebibyte);
    await debugfs(image, [`ssv flags ${flags}`]);
    {
      await using mounted = await loopMount(image);
      for (const name of names) writeFileSync(path.join(mounted.path, name), '');
    }
    assert.match(await debugfs(image, ['stats']), new RegExp(`flags: +${sign}_directory_hash`));
    // As before kernels noted which of both it is.
    await debugfs(image, ['ssv flags 0']);
    using device = openImage(image);
    const volume = openVolume(device);
    assert.notEqual(volume.root().flags & InodeFlag.index, 0);
    for (const name of names) resolvePath(volume, `/${Buffer.from(name).toString('latin1')}`);
    assert.equal(volume.lookup(volume.root(), Buffer.from('Größe')), undefined);
  }
});

test('an index of three levels leads to each name', async () => {
  await using scratch = await temporaryDirectory('verdict');
  const parameters = ['-t', 'ext4', '-b', '1024', '-O', 'large_dir,^has_journal', '-N', '64'];
  const image = await makeImage(scratch.path, parameters, 64 * mebibyte);
  // Three in a block at the most; and two levels lead to 123 times 127 blocks, whatever the hashes are.
  const names = Array.from({ length: 48_000 }, (_, index) => `${index}-`.padEnd(250, 'x'));
  {
    await using mounted = await loopMount(image);
    const origin = path.join(mounted.path, 'origin');
    writeFileSync(origin, '');
    for (const name of names) linkSync(origin, path.join(mounted.path, name));
  }
  using device = openImage(image);
  const { image: parts } = openParts(device, {});
  const { physicalBlock = 0 } = parts.map.run(parts.inode(2), 0);
  // indirect_levels of struct dx_root_info.
  assert.equal(parts.cache.block(physicalBlock).u8(30), 2);
  const directories = new Directories(parts, () => assert.fail('the directory is read through'));
  const { inodeNumber } = directories.lookup(parts.inode(2), Buffer.from('origin')) ?? {};
  for (const name of names.filter((_, index) => index % 12 === 0)) {
    const found = directories.lookup(parts.inode(2), Buffer.from(name));
    assert.equal(found?.inodeNumber, inodeNumber, name);
  }
});

test('the size of a file system is what the kernel counts, whatever its superblock says of it', async () => {
  await using scratch = await temporaryDirectory('verdict');
  for (const [name, parameters, change] of [
    ['journal', ['-t', 'ext2'], (image: string) => runOk('tune2fs', ['-j', image])],
    ['none', ['-t', 'ext4'], (image: string) => debugfs(image, ['ssv overhead_clusters 0'])],
    ['wrong', ['-t', 'ext3'], (image: string) => debugfs(image, ['ssv overhead_clusters 999'])],
    [
      'meta_bg',
      ['-t', 'ext4', '-b', '1024', '-g', '256', '-O', 'meta_bg,^resize_inode'],
      (image: string) => debugfs(image, ['ssv overhead_clusters 0']),
    ],
  ] as const) {
    const image = await makeImage(scratch.path, parameters, 64 * mebibyte, name);
    await change(image);
    await mustBeAsTheKernelSays(image);
  }
});

test('inodes of a file system that another system made have no checksums', async () => {
  await using scratch = await temporaryDirectory('verdict');
  const image = await makeImage(scratch.path, ['-t', 'ext4', '-b', '4096', '-o', 'FreeBSD']);
  {
    await using mounted = await loopMount(image);
    for (const name of ['one', 'two']) writeFileSync(path.join(mounted.path, name), name);
  }
  assert.notEqual((await run('e2fsck', ['-fn', image])).code, 0, 'the kernel wrote none');
  await mustBeAsTheKernelSays(image);
});

test('a value in an inode of its own is held against its checksum, without other checksums, too', async () => {
  await using scratch = await temporaryDirectory('verdict');
  const parameters = ['-t', 'ext4', '-O', 'ea_inode,^metadata_csum'];
  const image = await makeImage(scratch.path, parameters, 16 * mebibyte);
  const value = patternBytes(7, 20_000);
  {
    await using mounted = await loopMount(image);
    writeFileSync(path.join(mounted.path, 'file'), '');
    setXattr(path.join(mounted.path, 'file'), 'user.large', value);
  }
  await mustBeAsTheKernelSays(image);
  const bytes = readFileSync(image);
  // In its place and in the journal.
  let copies = 0;
  for (let at = 0; (at = bytes.indexOf(value.subarray(0, 1000), at)) > 0; copies += 1) {
    bytes[at + 500]! ^= 1;
  }
  assert.ok(copies > 0);
  writeFileSync(image, bytes);
  await using mounted = await loopMount(image, { mountOptions: 'ro' });
  assert.throws(
    () => getXattr(path.join(mounted.path, 'file'), 'user.large'),
    { code: 'EUCLEAN' },
    'the kernel',
  );
  const volume = openVolume(memoryDevice(bytes));
  const [attribute] = volume.xattrs(resolvePath(volume, '/file'));
  assert.throws(() => attribute?.value, damaged);
});

test('a block that an indexed directory lacks is damage; one that counts as never written is read', async () => {
  await using scratch = await temporaryDirectory('verdict');
  const parameters = ['-t', 'ext4', '-b', '1024', '-O', '^metadata_csum'];
  const image = await makeImage(scratch.path, parameters, 16 * mebibyte);
  {
    await using mounted = await loopMount(image);
    for (const [name, count] of [
      ['few', 3],
      ['many', 300],
    ] as const) {
      mkdirSync(path.join(mounted.path, name));
      for (let index = 0; index < count; index += 1)
        writeFileSync(path.join(mounted.path, name, `entry ${index}`), '');
    }
  }
  // i_block[4] has the length of the first extent.
  await debugfs(image, ['sif /few block[4] 0x8001', 'punch /many 3 3']);
  await using mounted = await loopMount(image, { mountOptions: 'ro' });
  using device = openImage(image);
  const volume = openVolume(device);
  const namesOf = (name: string): string[] =>
    [...volume.entries(resolvePath(volume, name), 0)].map((entry) => decodeName(entry.name));
  assert.deepEqual(namesOf('/few').sort(), readdirSync(path.join(mounted.path, 'few')).sort());
  assert.equal(namesOf('/few').length, 3);
  assert.throws(() => readdirSync(path.join(mounted.path, 'many')), { errno: -117 });
  assert.throws(() => namesOf('/many'), damaged);
  // Nobody hears that there is no such name.
  const many = resolvePath(volume, '/many');
  let lost = 0;
  for (let index = 0; index < 300; index += 1) {
    try {
      assert.ok(volume.lookup(many, Buffer.from(`entry ${index}`)) !== undefined);
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'EUCLEAN');
      lost += 1;
    }
  }
  assert.ok(lost > 10 && lost < 100, `${lost}`);
});

test('one question to a directory has an end, however large its blocks are', async () => {
  await using scratch = await temporaryDirectory('verdict');
  const source = path.join(scratch.path, 'source');
  mkdirSync(path.join(source, 'endless'), { recursive: true });
  const blockSizeBytes = 65_536;
  writeFileSync(path.join(source, 'tables'), new Uint8Array(3 * blockSizeBytes).fill(1));
  const parameters = ['-t', 'ext2', '-b', `${blockSizeBytes}`, '-O', 'large_dir', '-d', source];
  const image = await makeImage(scratch.path, parameters, 64 * mebibyte);
  const said = await debugfs(image, ['blocks /tables']);
  const blocks = (/^[\d ]+$/m.exec(said)?.[0] ?? '').trim().split(' ').map(Number);
  const [leaf = 0, first = 0, second = 0] = blocks;
  await debugfs(image, [
    `sif endless block[DIND] ${second}`,
    'sif endless size 0x10000000000',
    'sif endless size_high 0x100',
  ]);
  const bytes = readFileSync(image);
  // One unused record, as long as the block.
  bytes.fill(0, leaf * blockSizeBytes, (leaf + 1) * blockSizeBytes);
  bytes.writeUInt16LE(0xffff, leaf * blockSizeBytes + 4);
  for (const [table, pointer] of [
    [first, leaf],
    [second, first],
  ] as const) {
    const start = table * blockSizeBytes;
    for (let at = 0; at < blockSizeBytes; at += 4) bytes.writeUInt32LE(pointer, start + at);
  }
  const { image: parts } = openParts(memoryDevice(bytes), {});
  const volume = openVolume(memoryDevice(bytes));
  const { number } = resolvePath(volume, '/endless');
  let readBytes = 0;
  const directories = new Directories(parts, () => (readBytes += blockSizeBytes));
  assert.throws(() => directories.lookup(parts.inode(number), Buffer.from('none')), damaged);
  assert.ok(readBytes <= 2 * 1024 ** 3, `${readBytes}`);
});

test('an inode that says nothing of its further fields has times in them, but no attributes', async () => {
  for (const features of ['^metadata_csum', 'metadata_csum']) {
    await using scratch = await temporaryDirectory('verdict');
    const parameters = ['-t', 'ext4', '-I', '256', '-O', features];
    const image = await makeImage(scratch.path, parameters, 16 * mebibyte);
    {
      await using mounted = await loopMount(image);
      for (const name of ['kept', 'lost']) {
        writeFileSync(path.join(mounted.path, name), patternBytes(1, 5000));
        setXattr(path.join(mounted.path, name), 'user.inside', Buffer.from('value'));
      }
    }
    await debugfs(image, [
      'feature project',
      'sif lost projid 7',
      'sif lost extra_isize 0',
      'sif lost mtime_extra 6',
    ]);
    await mustBeAsTheKernelSays(image);
    using device = openImage(image);
    const volume = openVolume(device);
    const lost = resolvePath(volume, '/lost');
    assert.deepEqual(volume.xattrs(lost), []);
    assert.equal(volume.xattrs(resolvePath(volume, '/kept')).length, 1);
    assert.equal(lost.projectId, 0);
    assert.equal(lost.modificationTime.nanoseconds, 1);
    assert.ok(lost.birthTime !== undefined);
  }
});
