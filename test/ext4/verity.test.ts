/** Files that the kernel sealed with fs-verity: their content, however it is looked at, and not the tree behind it. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { openVolume } from '../../src/ext4/volume.ts';
import { mountImage } from '../image/fixture.ts';
import { run } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { loopMount } from '../support/loop-mount.ts';
import { debugfs, makeImage, mustBeClean, openImage } from './support/images.ts';
import { contentOf, resolvePath } from './support/walk.ts';

/**
 * FS_IOC_ENABLE_VERITY with SHA-256 and blocks of 4 KiB (linux/fsverity.h). Where the kernel was built without
 * CONFIG_FS_VERITY the files get what it would put behind their ends: a tree that begins at 64 KiB, a descriptor.
 */
const script = `
import errno, fcntl, os, struct, sys
os.chdir(sys.argv[1])
for name, size in (('large', 3000001), ('small', 70), ('empty', 0), ('open', 5000)):
    with open(name, 'wb') as file: file.write(os.urandom(size))
    if name == 'open': continue
    sealed = os.open(name, os.O_RDONLY)
    try:
        fcntl.ioctl(sealed, 0x40806685, struct.pack('<IIIIQIIQ88s', 1, 1, 4096, 0, 0, 0, 0, 0, b''))
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EOPNOTSUPP): raise
        print(name, size)
        writer = os.open(name, os.O_WRONLY)
        os.pwrite(writer, b'tree' * 8192, (size + 65535) // 65536 * 65536)
        os.close(writer)
    os.close(sealed)
`;

const names = ['large', 'small', 'empty', 'open'];

function sumOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

test('a sealed file has its bytes and its end, through the reader, a mount, and the kernel alone', async (t) => {
  await using scratch = await temporaryDirectory('verity');
  const parameters = ['-t', 'ext4', '-b', '4096', '-O', 'verity'];
  const image = await makeImage(scratch.path, parameters);
  const expected = new Map<string, string>();
  /** Names and sizes. */
  let unsealed: string[] = [];
  {
    await using mounted = await loopMount(image);
    const filled = await run('python3', ['-c', script, mounted.path], { debianPackage: 'python3' });
    assert.equal(filled.stderr.toString(), '');
    unsealed = filled.stdout
      .toString()
      .trim()
      .split('\n')
      .filter((line) => line !== '');
    if (unsealed.length > 0) t.diagnostic('laid out by debugfs: this kernel cannot seal files');
    for (const name of names) {
      const bytes = readFileSync(`${mounted.path}/${name}`);
      const size = unsealed.find((line) => line.startsWith(`${name} `))?.split(' ')[1];
      expected.set(name, sumOf(bytes.subarray(0, Number(size ?? bytes.length))));
    }
  }
  const commands = unsealed.flatMap((line) => {
    const [name, size] = line.split(' ');
    return [`sif ${name} size ${size}`, `sif ${name} flags 0x180000`];
  });
  if (commands.length > 0) await debugfs(image, commands);
  await mustBeClean(image);
  using device = openImage(image);
  const volume = openVolume(device);
  for (const name of names) {
    const inode = resolvePath(volume, `/${name}`);
    assert.equal(inode.verity, name !== 'open', name);
    assert.equal(sumOf(contentOf(volume, inode)), expected.get(name), name);
    const blocks = Math.ceil(inode.sizeBytes / 4096);
    const behind = [...volume.extents(inode)].filter(
      ({ logicalBlock, blockCount }) => logicalBlock + blockCount > blocks,
    );
    assert.deepEqual(behind, [], 'the tree is behind the end');
  }
  const large = resolvePath(volume, '/large');
  const all = [...volume.extents(large, { pastEnd: true })];
  assert.ok(all.some(({ logicalBlock }) => logicalBlock * 4096 >= large.sizeBytes));
  for (const options of ['', 'native']) {
    await using mounted = await mountImage({ path: image }, options);
    for (const name of names) {
      const file = path.join(mounted.path, name);
      assert.equal(sumOf(readFileSync(file)), expected.get(name), `${name} ${options}`);
      assert.equal(statSync(file).size, resolvePath(volume, `/${name}`).sizeBytes);
    }
  }
});
