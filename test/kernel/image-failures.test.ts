/** What a mount of an image does when a process of it is killed, or its image changes. Needs root. */
import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync } from 'node:fs';
import { chmod, mkdir, rename, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { mountAt, readMountInfo } from '../../src/base/mount-info.ts';
import { makeExt4Image } from '../support/ext4-image.ts';
import { openFuseToEverybody } from '../support/fuse-device.ts';
import { run, runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';
import { mountImage } from '../image/fixture.ts';
import type { MountedImage } from '../image/fixture.ts';

let directory: TemporaryDirectory;
let image: string;
let sums: string;
/** `nobody`: fusermount3 insists on an account with a name. */
const nobody = { uid: 65_534, gid: 65_534 };

before(async () => {
  directory = await temporaryDirectory('image-failures');
  await chmod(directory.path, 0o755);
  image = path.join(directory.path, 'disk.img');
  const source = path.join(directory.path, 'source');
  await mkdir(source);
  const fill =
    'cd "$0" && head -c 3000000 /dev/urandom > large && echo short > short && sha256sum *';
  sums = (await runOk('sh', ['-c', fill, source])).stdout.toString();
  await makeExt4Image(image, 64, ['-d', source]);
});

after(() => directory[Symbol.asyncDispose]());

/** A reader that opens both files, says so, waits for a line, and says how reading on went. */
const reader = `
import os, sys, time
files = [os.open(os.path.join(sys.argv[1], name), os.O_RDONLY) for name in ('short', 'large')]
open(sys.argv[2] + '.ready', 'w').close()
parent = os.getppid()
while not os.path.exists(sys.argv[2] + '.go') and os.getppid() == parent:
    time.sleep(0.01)
for name in ('short', 'missing'):
    try:
        os.stat(os.path.join(sys.argv[1], name + '-new'))
        print('found')
    except OSError as error:
        print(error.errno)
try:
    os.read(files[0], 10)
    print('read')
except OSError as error:
    print(error.errno)
`;

/** Who has files open while `act` happens: what his next calls say. */
async function whileOpen(
  mounted: MountedImage,
  act: () => Promise<void>,
  user?: typeof nobody,
): Promise<string[]> {
  // Beside the mount point, in a directory of who mounts.
  const signal = path.join(path.dirname(mounted.path), 'signal');
  const reading = run('python3', ['-c', reader, mounted.path, signal], {
    timeoutMs: 60_000,
    ...user,
  });
  await waitFor(() => existsSync(`${signal}.ready`), { what: 'a reader with open files' });
  await act();
  await writeFile(`${signal}.go`, '');
  const result = await reading;
  assert.equal(result.timedOut, false, 'nobody hangs');
  return result.stdout.toString().trim().split('\n');
}

async function hasNoKeeper({ path }: MountedImage): Promise<boolean> {
  return (await run('pgrep', ['-f', `ebb-image-keeper.*${path}`])).stdout.length === 0;
}

function gone(pid: number): boolean {
  return !existsSync(`/proc/${pid}`);
}

/** Kills a process of a mount of `user` (default: root) while he has files open. */
async function killUnderUsers(killed: 'server' | 'broker', user?: typeof nobody): Promise<void> {
  await using mounted = await mountImage({ path: image }, '', user);
  const { brokerPid, serverPid } = mounted;
  assert.ok(brokerPid > 1 && serverPid > 1);
  const kill = async (): Promise<void> => {
    process.kill(killed === 'server' ? serverPid : brokerPid, 'SIGKILL');
    await waitFor(() => !mounted.isMounted(), { what: 'the end of the mount' });
    await waitFor(() => gone(brokerPid) && gone(serverPid), {
      what: 'the end of both processes',
    });
  };
  const said = await whileOpen(mounted, kill, user);
  // The directory under the mount is empty; the file that was open is of a dead connection.
  assert.match(said[2] ?? '', /^\d+$/, said.join());
  assert.notEqual(said[2], '0');
  await waitFor(() => hasNoKeeper(mounted), { what: 'the end of the keeper' });
}

for (const killed of ['server', 'broker'] as const) {
  test(`the ${killed} is killed: its users get an errno, and nothing stays mounted or running`, () =>
    killUnderUsers(killed));

  test(`the ${killed} of who is not root is killed: the same, through fusermount3`, async () => {
    await openFuseToEverybody();
    await killUnderUsers(killed, nobody);
  });
}

test('a mount whose connection is cut goes as a whole', async () => {
  await using mounted = await mountImage({ path: image });
  await whileOpen(mounted, async () => {
    // Cuts the connection, and takes away only what nobody uses (umount(2), MNT_FORCE).
    await run('umount', ['-f', mounted.path]);
    await waitFor(() => !mounted.isMounted(), { what: 'the end of the mount' });
    await waitFor(() => gone(mounted.brokerPid) && gone(mounted.serverPid), {
      what: 'the end of both processes',
    });
  });
});

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  test(`what was mounted over an image mount stays when that ends (${signal})`, async () => {
    await using mounted = await mountImage({ path: image });
    await runOk('mount', ['-t', 'tmpfs', 'above', mounted.path]);
    try {
      process.kill(mounted.brokerPid, signal);
      await waitFor(() => gone(mounted.brokerPid), { what: 'the end of the broker' });
      await waitFor(() => hasNoKeeper(mounted), { what: 'the end of the keeper' });
      assert.equal(mountAt(readMountInfo(), mounted.path)?.source, 'above');
    } finally {
      await run('umount', [mounted.path]);
    }
  });
}

test('who mounts an image that somebody has open for writing is told so', async () => {
  const notes = async (): Promise<string> => {
    await using mounted = await mountImage({ path: image });
    return (mounted.result['notes'] as readonly string[]).join();
  };
  const writer = openSync(image, 'r+');
  try {
    assert.match(await notes(), /^The image is open for writing/);
  } finally {
    closeSync(writer);
  }
  assert.equal(await notes(), '');
});

test('an image that is replaced by another file stays the old one for its mount', async () => {
  const copy = path.join(directory.path, 'copy.img');
  await runOk('cp', ['--sparse=always', image, copy]);
  await using mounted = await mountImage({ path: copy });
  const other = path.join(directory.path, 'other.img');
  await writeFile(other, new Uint8Array(1024 * 1024));
  await rename(other, copy);
  const { stdout } = await runOk('sh', ['-c', 'cd "$0" && sha256sum large short', mounted.path]);
  assert.equal(stdout.toString(), sums);
});

test('an image that is cut off under its mount gives EIO, and can be unmounted', async () => {
  const copy = path.join(directory.path, 'cut.img');
  await runOk('cp', ['--sparse=always', image, copy]);
  await using mounted = await mountImage({ path: copy });
  await runOk('python3', ['-c', 'import os, sys; os.truncate(sys.argv[1], 8192)', copy], {
    timeoutMs: 90_000,
  });
  const read = await run('cat', [path.join(mounted.path, 'short')]);
  assert.match(read.stderr.toString(), /Input\/output error|Structure needs cleaning/);
  const umount = await mounted.ebb('umount', mounted.path);
  assert.equal(umount.code, 0, umount.stderr.toString());
  assert.equal(mounted.isMounted(), false);
});

/** Reads `large` through an open file while the image is cut off in the middle of it. What came of which pieces. */
const cutWhileOpen = `
import os, sys
name, image, cut, inside = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
fd = os.open(name, os.O_RDONLY)
size = os.fstat(fd).st_size
before = os.pread(fd, size, 0)
os.truncate(image, cut)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
found = set()
for at in range(0, size, 4096):
    length = min(4096, size - at)
    place = 'before' if at + length <= inside else 'behind'
    try:
        isRight = os.pread(fd, length, at) == before[at:at + length]
        found.add(place + (' right' if isRight else ' wrong'))
    except OSError as error: found.add(place + ' ' + os.strerror(error.errno))
print(', '.join(sorted(found)))
`;

// The kernel lets a lease be held for 45 s by default; without a server there is none.
const isPatient = process.env['EBB_LEASE_BREAK'] !== undefined;

for (const mode of ['native', ''] as const) {
  const name = mode === '' ? 'mapped' : mode;
  test(
    `who keeps a file open while its image is cut off reads EIO there, no zeros: ${name}`,
    { skip: mode === 'native' || isPatient ? false : 'set EBB_LEASE_BREAK' },
    async () => {
      const copy = path.join(directory.path, `cut-while-open-${name}.img`);
      await runOk('cp', ['--sparse=always', image, copy]);
      const { stdout: block } = await runOk('debugfs', ['-R', 'bmap /large 500', image]);
      const { stdout: facts } = await runOk('dumpe2fs', ['-h', image]);
      const blockSize = Number(/Block size: +([0-9]+)/.exec(facts.toString())?.[1]);
      await using mounted = await mountImage({ path: copy }, mode);
      // In the middle of a block.
      const cut = Number(block.toString()) * blockSize + 100;
      const words = [path.join(mounted.path, 'large'), copy, cut, 500 * blockSize + 100].map(
        String,
      );
      const { stdout } = await runOk('python3', ['-c', cutWhileOpen, ...words], {
        timeoutMs: 200_000,
      });
      const found = stdout.toString();
      assert.doesNotMatch(found, /wrong/, 'no zeros, whatever is cached');
      assert.match(found, /before right/);
      // The request that goes over the end fails as a whole. What was cached may still be there.
      if (mode === 'native') assert.match(found, /behind Input\/output error\n$/);
    },
  );
}

test('a mount that somebody uses is not taken away, and says who uses it', async () => {
  await using mounted = await mountImage({ path: image });
  await whileOpen(mounted, async () => {
    const umount = await mounted.ebb('umount', mounted.path);
    assert.notEqual(umount.code, 0);
    assert.match(umount.stderr.toString(), /python3/);
    assert.equal(mounted.isMounted(), true);
  });
  const umount = await mounted.ebb('umount', mounted.path);
  assert.equal(umount.code, 0, umount.stderr.toString());
});

test('file systems in partitions, in qcow2 images and under a dirty journal are shown as they are', async () => {
  const disk = path.join(directory.path, 'partitioned.img');
  await writeFile(disk, '');
  await truncate(disk, 70 * 1024 * 1024);
  await runOk('sfdisk', ['-q', disk], { input: 'label: gpt\nstart=2048, type=linux\n' });
  await runOk('dd', [
    `if=${image}`,
    `of=${disk}`,
    'bs=1M',
    'seek=1',
    'conv=notrunc',
    'status=none',
  ]);
  const qcow = path.join(directory.path, 'disk.qcow2');
  await runOk('qemu-img', ['convert', '-O', 'qcow2', image, qcow]);
  // As partitions began once: between pages.
  const odd = path.join(directory.path, 'odd.img');
  await runOk('dd', [
    `if=${image}`,
    `of=${odd}`,
    'bs=512',
    'seek=63',
    'conv=sparse',
    'status=none',
  ]);
  for (const [each, options] of [
    [disk, 'partition=1'],
    [disk, 'native'],
    [odd, 'offset=32256'],
    [odd, 'offset=32256,native'],
    [qcow, ''],
  ] as const) {
    await using mounted = await mountImage({ path: each }, options);
    const { stdout } = await runOk('sh', ['-c', 'cd "$0" && sha256sum large short', mounted.path]);
    assert.equal(stdout.toString(), sums, `${each} ${options}`);
  }
  await assert.rejects(mountImage({ path: qcow }, 'native'), /without -o native/);
  const dirty = path.join(directory.path, 'dirty.img');
  await runOk('cp', ['--sparse=always', image, dirty]);
  // One logged block of zeros over the content of `short`.
  const [block = ''] = (await runOk('debugfs', ['-R', 'blocks /short', image])).stdout
    .toString()
    .trim()
    .split(' ');
  const zeros = path.join(directory.path, 'zeros');
  await writeFile(zeros, new Uint8Array(1024));
  const commands = path.join(directory.path, 'commands');
  await writeFile(commands, `jo\njw -b ${block} ${zeros}\njc\n`);
  await runOk('debugfs', ['-w', '-f', commands, dirty]);
  await using mounted = await mountImage({ path: dirty });
  const { stdout } = await runOk('cat', [path.join(mounted.path, 'short')]);
  assert.deepEqual(stdout, Buffer.alloc(6), 'what the journal says, not what is in the place');
  await assert.rejects(mountImage({ path: dirty }, 'native'), /without -o native/);
  // As ext4's option: nothing is replayed, so it is what is in the place, and the kernel can have that, too.
  for (const options of ['noload', 'noload,native']) {
    await using unreplayed = await mountImage({ path: dirty }, options);
    const { stdout: found } = await runOk('cat', [path.join(unreplayed.path, 'short')]);
    assert.notDeepEqual(found, Buffer.alloc(6), options);
    const { stdout: sum } = await runOk('sh', [
      '-c',
      'cd "$0" && sha256sum large short',
      unreplayed.path,
    ]);
    assert.equal(sum.toString(), sums, options);
  }
});
