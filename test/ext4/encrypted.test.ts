/** Directories that the kernel encrypted: their names are those that Linux shows without the key. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { memoryDevice } from '../../src/ext4/block-device.ts';
import { openVolume } from '../../src/ext4/volume.ts';
import { mountImage } from '../image/fixture.ts';
import { run } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { loopMount } from '../support/loop-mount.ts';
import { debugfs, makeImage, openImage } from './support/images.ts';
import { resolvePath } from './support/walk.ts';

/** Adds a key (fscrypt, version 2), encrypts a new directory with it, fills that, forgets the key. */
const script = `
import array, fcntl, os, struct, sys
root = sys.argv[1]
handle = os.open(root, os.O_RDONLY)
key = bytearray(struct.pack('<II32s', 2, 0, b'') + struct.pack('<II32s', 64, 0, b'') + bytes(range(64)))
fcntl.ioctl(handle, 0xc0506617, key)
identifier = bytes(key[8:24])
secret = os.path.join(root, 'secret')
os.mkdir(secret)
directory = os.open(secret, os.O_RDONLY)
fcntl.ioctl(directory, 0x800c6613, bytearray(struct.pack('<BBBBB3s16s', 2, 1, 4, 2, 0, b'', identifier)))
os.chdir(secret)
for length in [1, 15, 16, 17, 100, 148, 149, 150, 200, 255]:
    open('n' * length, 'w').write('content')
os.mkdir('many')
for number in range(400): open(f'many/entry {number}', 'w').close()
os.symlink('target', 'symlink')
os.close(directory); os.chdir('/'); os.sync()
`;

test('encrypted names and types are those that Linux shows without the key', async (t) => {
  await using scratch = await temporaryDirectory('encrypted');
  const image = await makeImage(scratch.path, ['-t', 'ext4', '-b', '1024', '-O', 'encrypt']);
  {
    await using mounted = await loopMount(image);
    const filled = await run('python3', ['-c', script, mounted.path], { debianPackage: 'python3' });
    const complaint = filled.stderr.toString();
    if (complaint.includes('[Errno 95]')) return t.skip('this kernel cannot encrypt files');
    assert.equal(complaint, '');
  }
  await using mounted = await loopMount(image, { mountOptions: 'ro' });
  using device = openImage(image);
  const volume = openVolume(device);
  const secret = resolvePath(volume, '/secret');
  assert.equal(secret.encrypted, true);
  const entries = [...volume.entries(secret, 0)];
  const names = entries.map(({ name }) => Buffer.from(name).toString());
  assert.deepEqual(names.toSorted(), readdirSync(`${mounted.path}/secret`).toSorted());
  assert.equal(names.length, 12);
  let found = 0;
  for (const entry of entries) {
    assert.deepEqual(volume.lookup(secret, entry.name), entry);
    const inode = volume.child(secret, entry);
    if (inode.type === 'file') {
      assert.throws(() => volume.read(inode, 0, new Uint8Array(1)), { code: 'ENOKEY' });
      assert.throws(() => volume.extents(inode), { code: 'ENOKEY' });
    } else if (inode.type === 'symlink') {
      assert.throws(() => volume.symlinkTarget(inode), { code: 'ENOKEY' });
    } else {
      const below = `${mounted.path}/secret/${Buffer.from(entry.name).toString()}`;
      const inner = [...volume.entries(inode, 0)].map(({ name }) => Buffer.from(name).toString());
      assert.deepEqual(inner.toSorted(), readdirSync(below).toSorted());
      for (const name of inner) found += volume.lookup(inode, Buffer.from(name)) ? 1 : 0;
    }
    assert.deepEqual(volume.xattrs(inode), [], 'the context of encryption is not listed');
  }
  assert.equal(found, 400);
  assert.equal(volume.lookup(secret, Buffer.from('n')), undefined);
  // In its sandbox, too: there node:crypto is loaded when nothing can be opened any more.
  await using sandboxed = await mountImage({ path: image });
  assert.deepEqual(
    readdirSync(`${sandboxed.path}/secret`).toSorted(),
    readdirSync(`${mounted.path}/secret`).toSorted(),
  );
});

test('encrypted names that fold case carry the hash that is stored behind them', async () => {
  await using scratch = await temporaryDirectory('encrypted');
  const source = path.join(scratch.path, 'source');
  mkdirSync(path.join(source, 'secret'), { recursive: true });
  const encrypted = 'sixteen letters!x';
  writeFileSync(path.join(source, 'secret', encrypted), '');
  const features = 'casefold,encrypt,^metadata_csum';
  const parameters = ['-t', 'ext4', '-O', features, '-E', 'encoding=utf8', '-d', source];
  const image = await makeImage(scratch.path, parameters, 16 << 20);
  await debugfs(image, ['sif secret flags 0x40080800']);
  const bytes = readFileSync(image);
  // The last record of its block: there is room behind the name.
  const hash = Buffer.from('0123456789abcdef', 'hex');
  bytes.set(hash, bytes.indexOf(encrypted) - 8 + Math.ceil((8 + encrypted.length) / 4) * 4);
  const volume = openVolume(memoryDevice(bytes));
  const secret = resolvePath(volume, '/secret');
  assert.ok(secret.encrypted && secret.casefold);
  const [entry] = volume.entries(secret, 0);
  const shown = Buffer.concat([hash, Buffer.from(encrypted)]).toString('base64url');
  assert.equal(Buffer.from(entry?.name ?? []).toString(), shown);
  assert.deepEqual(volume.lookup(secret, Buffer.from(shown)), entry);
});
