/** What a damaged, hostile or foreign image is answered with, kind by kind. */
import assert from 'node:assert/strict';
import { linkSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { ebbError } from '../../src/base/errors.ts';
import { memoryDevice } from '../../src/ext4/block-device.ts';
import type { BlockDevice } from '../../src/ext4/block-device.ts';
import { hashName } from '../../src/ext4/hash.ts';
import { openVolume } from '../../src/ext4/volume.ts';
import type { DirectoryEntry, Inode, Volume } from '../../src/ext4/volume.ts';
import { setXattr } from '../../src/sys/xattr.ts';
import { patternBytes } from '../support/pattern.ts';
import { run, said } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { debugfs, makeImage } from './support/images.ts';
import { contentOf, resolvePath, walkVolume } from './support/walk.ts';

const damaged = { name: 'EbbError', code: 'EUCLEAN' };

interface Made {
  readonly bytes: Buffer;
  readonly file: string;
}

const flatCount = 400;

/** An image with files, a large directory with an index, attributes in a block. */
async function make(
  directory: string,
  parameters: readonly string[],
  commands: readonly string[] = [],
  sizeBytes = 16 << 20,
): Promise<Made> {
  const source = path.join(directory, 'source');
  mkdirSync(path.join(source, 'a/b'), { recursive: true });
  mkdirSync(path.join(source, 'flat'));
  writeFileSync(path.join(source, 'a/file'), patternBytes(1, 100_000));
  writeFileSync(path.join(source, 'a/sl-ash'), 'x');
  setXattr(path.join(source, 'a/file'), 'user.large', patternBytes(3, 700));
  writeFileSync(path.join(source, 'flat/0'), '');
  for (let index = 1; index < flatCount; index += 1) {
    const name = path.join(source, 'flat', `${'n'.repeat(100)}${index}`);
    linkSync(path.join(source, 'flat/0'), name);
  }
  const file = await makeImage(directory, ['-d', source, ...parameters], sizeBytes);
  await run('e2fsck', ['-fyD', file]);
  if (commands.length > 0) await debugfs(file, commands);
  return { bytes: readFileSync(file), file };
}

/** Everything below the root as text. */
function contents(volume: Volume): string[] {
  return [...walkVolume(volume)].map(({ path: place, inode }) => {
    const content = inode.type === 'file' ? contentOf(volume, inode).toString('base64') : '';
    return `${place} ${inode.number} ${inode.mode} ${content}`;
  });
}

function entryOf(volume: Volume, directory: Inode, name: string): DirectoryEntry {
  const entry = volume.lookup(directory, Buffer.from(name));
  assert.ok(entry !== undefined, name);
  return entry;
}

const modern = ['-t', 'ext4', '-b', '1024'];
const old = ['-t', 'ext2', '-b', '1024'];

for (const [kind, parameters] of [
  ['ext4', modern],
  ['ext2', old],
  ['sparse_super2', [...modern, '-O', 'sparse_super2,^resize_inode']],
] as const) {
  test(`a lost first superblock or descriptor table is replaced by its backup: ${kind}`, async () => {
    await using scratch = await temporaryDirectory('damage');
    const { bytes } = await make(scratch.path, parameters);
    const sound = openVolume(memoryDevice(bytes));
    assert.equal(sound.superblock.backup, undefined);
    const expected = contents(sound);
    // Superblock and descriptors.
    const beheaded = Buffer.from(bytes).fill(0, 0, 4096);
    const volume = openVolume(memoryDevice(beheaded));
    assert.equal(volume.superblock.backup?.blockNumber, 8193);
    assert.match(volume.superblock.backup.reason, /no superblock/);
    assert.deepEqual(contents(volume), expected);
    assert.equal(volume.superblock.uuid, sound.superblock.uuid);
    // Descriptors only.
    const noTable = Buffer.from(bytes).fill(0xff, 2048, 2500);
    const other = openVolume(memoryDevice(noTable));
    assert.equal(other.superblock.backup, undefined);
    assert.deepEqual(contents(other), expected);
    // Nothing is left.
    assert.throws(
      () => openVolume(memoryDevice(Buffer.from(bytes).fill(0, 0, 8200 * 1024))),
      damaged,
    );
  });
}

test('a sector that cannot be read costs what was in it, not what is near', async () => {
  await using scratch = await temporaryDirectory('damage');
  const { bytes } = await make(scratch.path, modern);
  const sound = memoryDevice(bytes);
  const lost = (from: number, to: number): BlockDevice => ({
    sizeBytes: sound.sizeBytes,
    read(offset, into) {
      if (offset < to && offset + into.length > from) throw ebbError('EIO', 'a bad sector');
      sound.read(offset, into);
    },
  });
  const expected = contents(openVolume(sound));
  const noSuperblock = openVolume(lost(1024, 1536));
  assert.equal(noSuperblock.superblock.backup?.blockNumber, 8193);
  assert.deepEqual(contents(noSuperblock), expected);
  assert.deepEqual(contents(openVolume(lost(2048, 2560))), expected, 'without descriptors');
  const [extent] = openVolume(sound).extents(resolvePath(openVolume(sound), '/a'));
  const at = extent!.physicalBlock * 1024;
  const partly = openVolume(lost(at, at + 512));
  const a = resolvePath(partly, '/a');
  assert.throws(() => [...partly.entries(a, 0)], { code: 'EIO' });
  assert.equal([...partly.entries(resolvePath(partly, '/flat'), 0)].length, flatCount);
});

test('a checksum that is wrong is EUCLEAN, of every structure that has one', async () => {
  await using scratch = await temporaryDirectory('damage');
  const { bytes, file } = await make(scratch.path, modern);
  const sound = openVolume(memoryDevice(bytes));
  const target = resolvePath(sound, '/a/file');
  const [flatExtent] = [...sound.extents(resolvePath(sound, '/flat'))];
  const attributeBlock = Number(
    /File ACL: (\d+)/.exec(await debugfs(file, [`stat <${target.number}>`]))?.[1],
  );
  const inodeAt = /located at block (\d+), offset (0x[0-9a-f]+)/.exec(
    await debugfs(file, [`imap <${target.number}>`]),
  );
  const damage = (offset: number): { volume: Volume; unverified: Volume } => {
    const copy = Buffer.from(bytes);
    copy[offset]! ^= 1;
    const device = memoryDevice(copy);
    return {
      volume: openVolume(device),
      unverified: openVolume(device, { verifyChecksums: false }),
    };
  };
  // The file's modification time: plausible, but not what was sealed.
  const inodeOffset = Number(inodeAt?.[1]) * 1024 + Number(inodeAt?.[2]);
  const wrongInode = damage(inodeOffset + 0x10);
  assert.throws(() => resolvePath(wrongInode.volume, '/a/file'), damaged);
  assert.equal(resolvePath(wrongInode.unverified, '/a/file').sizeBytes, 100_000);

  // A letter of a name in a leaf, a byte of the index.
  const leaf = damage((flatExtent!.physicalBlock + 1) * 1024 + 10);
  assert.throws(() => [...leaf.volume.entries(resolvePath(leaf.volume, '/flat'), 0)], damaged);
  assert.equal(
    [...leaf.unverified.entries(resolvePath(leaf.unverified, '/flat'), 0)].length,
    flatCount,
  );
  const root = damage(flatExtent!.physicalBlock * 1024 + 40);
  assert.throws(() => [...root.volume.entries(resolvePath(root.volume, '/flat'), 0)], damaged);

  const attribute = damage(attributeBlock * 1024 + 1000);
  assert.throws(() => attribute.volume.xattrs(resolvePath(attribute.volume, '/a/file')), damaged);
  assert.equal(attribute.unverified.xattrs(resolvePath(attribute.unverified, '/a/file')).length, 1);
});

test('an index that is wrong is left aside, and one that is right is used', async () => {
  await using scratch = await temporaryDirectory('damage');
  const { bytes } = await make(scratch.path, [...modern, '-O', '^metadata_csum']);
  const flatOf = (volume: Volume): Inode => resolvePath(volume, '/flat');
  const sound = openVolume(memoryDevice(bytes));
  const blocks = [...sound.extents(flatOf(sound))].flatMap(({ physicalBlock, blockCount }) =>
    Array.from({ length: blockCount }, (_, index) => physicalBlock + index),
  );
  assert.ok(blocks.length > 40 && (flatOf(sound).flags & 0x1000) !== 0);
  const names = [...sound.entries(flatOf(sound), 0)].map(({ name }) => name);
  for (const [offset, value] of [
    [24, 1], // reserved
    [28, 77], // hash
    [29, 9], // length of the header
    [30, 5], // levels
    [32, 0xff], // limit
    [34, 0], // count
    [36, 0xff], // first block
    [36, 0], // which is the index itself
  ] as const) {
    const copy = Buffer.from(bytes);
    copy.fill(value, blocks[0]! * 1024 + offset, blocks[0]! * 1024 + offset + 1);
    const volume = openVolume(memoryDevice(copy));
    for (const name of names) assert.ok(volume.lookup(flatOf(volume), name), `${offset}`);
    assert.equal(volume.lookup(flatOf(volume), Buffer.from('none')), undefined);
  }
  // With half of its leaves gone, the other half is still found: nobody looks into the others.
  const copy = Buffer.from(bytes);
  for (const block of blocks.slice(20)) copy.fill(0xff, block * 1024, (block + 1) * 1024);
  const volume = openVolume(memoryDevice(copy));
  const kept = names.filter((name) => {
    try {
      return volume.lookup(flatOf(volume), name) !== undefined;
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'EUCLEAN');
      return false;
    }
  });
  assert.ok(kept.length > names.length / 4 && kept.length < names.length * 0.75, `${kept.length}`);
});

test('names of one hash that go on in the next leaf are found there', async () => {
  await using scratch = await temporaryDirectory('damage');
  const { bytes } = await make(scratch.path, [...modern, '-O', '^metadata_csum']);
  const volume = openVolume(memoryDevice(bytes));
  const flat = resolvePath(volume, '/flat');
  const [first] = volume.extents(flat);
  const root = first!.physicalBlock * 1024;
  const seed = [0, 1, 2, 3].map((index) => bytes.readUInt32LE(1024 + 0xec + index * 4));
  const hashOf = (name: Uint8Array): number | undefined =>
    hashName(name, bytes[root + 28]!, seed as [number, number, number, number], false)?.major;
  const names = new Map([...volume.entries(flat, 0)].map(({ name }) => [hashOf(name), name]));
  let tried = 0;
  for (let index = 1; index < bytes.readUInt16LE(root + 34); index += 1) {
    // The least hash of a leaf is where its entry begins; marked as continued, it begins after it.
    const at = root + 32 + index * 8;
    const hash = bytes.readUInt32LE(at);
    const name = names.get(hash);
    if (name === undefined) continue;
    tried += 1;
    bytes.writeUInt32LE(hash + 1, at);
    const entry = openVolume(memoryDevice(bytes)).lookup(flat, name);
    assert.deepEqual(entry?.name, name);
    // Not marked so, nobody would look there.
    bytes.writeUInt32LE(hash + 2, at);
    assert.equal(openVolume(memoryDevice(bytes)).lookup(flat, name), undefined);
    bytes.writeUInt32LE(hash, at);
  }
  assert.ok(tried > 20, `${tried}`);
});

test('features without which an image cannot be read are refused by name, others are noted', async () => {
  await using scratch = await temporaryDirectory('damage');
  const { bytes } = await make(scratch.path, old);
  const withBits = (offset: number, bits: number): Buffer => {
    const copy = Buffer.from(bytes);
    copy.writeUInt32LE((copy.readUInt32LE(1024 + offset) | bits) >>> 0, 1024 + offset);
    return copy;
  };
  for (const [bits, name] of [
    [0x1, 'compression'],
    [0x8, 'journal_dev'],
    [0x1000, 'dirdata'],
    [0x8000_0000, 'FEATURE_I31'],
  ] as const) {
    assert.throws(
      () => openVolume(memoryDevice(withBits(0x60, bits))),
      (error: { code?: string; message?: string }) =>
        error.code === 'EOPNOTSUPP' && error.message?.includes(name) === true,
    );
  }
  const { superblock } = openVolume(memoryDevice(withBits(0x64, 0x4000_0000)));
  assert.deepEqual(superblock.unknownReadOnlyFeatures, ['FEATURE_R30']);
  assert.deepEqual([...superblock.features].includes('sparse_super'), true);
});

test('an image that ends too early, and geometry that cannot be, are refused', async () => {
  await using scratch = await temporaryDirectory('damage');
  const { bytes } = await make(scratch.path, old);
  assert.throws(() => openVolume(memoryDevice(bytes.subarray(0, 8 << 20))), damaged);
  for (const size of [0, 1024, 2047]) {
    assert.throws(() => openVolume(memoryDevice(bytes.subarray(0, size))), damaged);
  }
  // Offsets of superblock fields: log block size, blocks and inodes per group, inode size, counts.
  for (const [offset, values] of [
    [0x18, [7, 0xffffffff]],
    [0x20, [0, 1, 0x10000, 0xffffffff]],
    [0x28, [0, 1, 0x10000]],
    [0x58, [0, 64, 129, 0x1000]],
    [0x0, [0, 1, 0xffffffff]],
    [0x4, [0, 1, 0xffffffff]],
    [0x14, [0, 2, 0xffffffff]],
    [0x54, [0, 1, 0xffffffff]],
  ] as const) {
    for (const value of values) {
      const copy = Buffer.from(bytes.subarray(0, 8192 * 1024));
      copy.writeUInt32LE(value, 1024 + offset);
      assert.throws(() => openVolume(memoryDevice(copy)), damaged, `${offset} ${value}`);
    }
  }
});

test('a directory has one name, and no entry leads to what is none of its business', async () => {
  await using scratch = await temporaryDirectory('damage');
  const { bytes } = await make(scratch.path, modern, [
    'ln a/b a/b/loop',
    'ln <2> a/root',
    'ln <8> a/journal',
    'ln <1000> a/free',
    'ln a/file a/as-it-is',
  ]);
  const volume = openVolume(memoryDevice(bytes));
  const a = volume.child(volume.root(), entryOf(volume, volume.root(), 'a'));
  const b = volume.child(a, entryOf(volume, a, 'b'));
  assert.throws(() => volume.child(b, entryOf(volume, b, 'loop')), damaged);
  assert.equal(volume.child(a, entryOf(volume, a, 'b')), b, 'the first name stays right');
  for (const name of ['root', 'journal', 'free']) {
    assert.throws(() => volume.child(a, entryOf(volume, a, name)), damaged, name);
  }
  assert.equal(volume.child(a, entryOf(volume, a, 'as-it-is')).sizeBytes, 100_000);
  const lie: DirectoryEntry = { ...entryOf(volume, a, 'file'), type: 'directory' };
  assert.throws(() => volume.child(a, lie), damaged);
  assert.equal(volume.parent(b), a.number);
  assert.equal(volume.parent(volume.root()), 2);
});

test('names that Linux cannot have end a listing', async () => {
  await using scratch = await temporaryDirectory('damage');
  const { bytes } = await make(scratch.path, old);
  const at = bytes.indexOf('sl-ash');
  for (const [offset, value] of [
    [2, 0x2f],
    [2, 0],
    [-2, 0], // no name
    [-2, 255], // longer than its record
    [-4, 0], // a record of no length
    [-4, 6], // not a multiple of 4
    [-5, 0xff], // an inode that does not exist
  ] as const) {
    const copy = Buffer.from(bytes);
    copy[at + offset] = value;
    const volume = openVolume(memoryDevice(copy));
    const a = resolvePath(volume, '/a');
    assert.throws(() => [...volume.entries(a, 0)], damaged, `${offset}`);
    assert.equal(resolvePath(volume, '/flat/0').sizeBytes, 0, 'the rest is there');
  }
  const dots = Buffer.from(bytes);
  dots.write('..', at);
  dots[at - 2] = 2;
  const volume = openVolume(memoryDevice(dots));
  assert.throws(() => [...volume.entries(resolvePath(volume, '/a'), 0)], damaged);
});

test("files do not get at the file system's own blocks", async () => {
  await using scratch = await temporaryDirectory('damage');
  const { file } = await make(scratch.path, old);
  const table = Number(/Inode table at (\d+)-/.exec(await said('dumpe2fs', file))?.[1]);
  for (const block of [1, 2, table, table + 3, 1_000_000_000]) {
    await debugfs(file, [`sif a/sl-ash block[0] ${block}`]);
    const volume = openVolume(memoryDevice(readFileSync(file)));
    const inode = resolvePath(volume, '/a/sl-ash');
    assert.throws(() => volume.read(inode, 0, new Uint8Array(1)), damaged, `block ${block}`);
    assert.throws(() => [...volume.extents(inode)], damaged);
  }
});

test('pointers that lead in circles have an end', async () => {
  await using scratch = await temporaryDirectory('damage');
  const { bytes, file } = await make(scratch.path, old);
  const [first] = openVolume(memoryDevice(bytes)).extents(
    resolvePath(openVolume(memoryDevice(bytes)), '/a/file'),
  );
  const circle = first!.physicalBlock;
  await debugfs(file, [`sif a/sl-ash block[TIND] ${circle}`, 'sif a/sl-ash size 17000000000']);
  const circular = readFileSync(file);
  for (let at = 0; at < 1024; at += 4) circular.writeUInt32LE(circle, circle * 1024 + at);
  const volume = openVolume(memoryDevice(circular));
  const inode = resolvePath(volume, '/a/sl-ash');
  let count = 0;
  assert.throws(() => {
    for (const { blockCount } of volume.extents(inode)) count += blockCount;
  }, damaged);
  assert.ok(count <= volume.superblock.blockCount + 1, `${count}`);
  // What is read is what the pointers say.
  assert.equal(volume.read(inode, 16_000_000_000, new Uint8Array(3000)), 3000);
});

test('flags of encryption and verity are reported; what is encrypted is listed, not read', async () => {
  await using scratch = await temporaryDirectory('damage');
  const { bytes } = await make(
    scratch.path,
    [...modern, '-O', 'encrypt,verity,^metadata_csum'],
    ['sif a/file flags 0x80800', 'sif a/sl-ash flags 0x180000', 'sif flat flags 0x80800'],
  );
  const volume = openVolume(memoryDevice(bytes));
  const secret = resolvePath(volume, '/a/file');
  assert.equal(secret.encrypted, true);
  assert.equal(secret.sizeBytes, 100_000);
  assert.throws(() => volume.read(secret, 0, new Uint8Array(1)), { code: 'ENOKEY' });
  assert.throws(() => volume.extents(secret), { code: 'ENOKEY' });
  const sealed = resolvePath(volume, '/a/sl-ash');
  assert.equal(sealed.verity, true);
  assert.equal(contentOf(volume, sealed).toString(), 'x');
});

test('wrong requests have the errno of their system call', async () => {
  await using scratch = await temporaryDirectory('damage');
  const { bytes } = await make(scratch.path, modern);
  const volume = openVolume(memoryDevice(bytes));
  const file = resolvePath(volume, '/a/file');
  const into = new Uint8Array(10);
  assert.throws(() => volume.read(volume.root(), 0, into), { code: 'EISDIR' });
  assert.throws(() => volume.read(file, -1, into), { code: 'EINVAL' });
  assert.throws(() => volume.read(file, 0.5, into), { code: 'EINVAL' });
  assert.equal(volume.read(file, 100_000, into), 0);
  assert.equal(volume.read(file, 2 ** 52, into), 0);
  assert.throws(() => [...volume.entries(file, 0)], { code: 'ENOTDIR' });
  assert.throws(() => volume.lookup(file, into), { code: 'ENOTDIR' });
  assert.throws(() => [...volume.entries(volume.root(), -1)], { code: 'EINVAL' });
  assert.throws(() => volume.symlinkTarget(file), { code: 'EINVAL' });
  assert.throws(() => volume.inode(0), { code: 'EINVAL' });
  assert.throws(() => volume.inode(2 ** 31), { code: 'EINVAL' });
  assert.throws(() => volume.inode(1.5), { code: 'EINVAL' });
  assert.throws(() => volume.inode(1000), { code: 'ENOENT' });
  assert.equal(volume.lookup(volume.root(), Buffer.from('.')), undefined);
  assert.equal(volume.lookup(volume.root(), new Uint8Array(0)), undefined);
  const { journalInode, needsRecovery, state } = volume.superblock;
  assert.deepEqual(
    { journalInode, needsRecovery, state },
    { journalInode: 8, needsRecovery: false, state: 'clean' },
  );
  assert.ok([...volume.extents(volume.inode(journalInode))].length > 0);
});
