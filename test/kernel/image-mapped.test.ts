/** Large files of an image through EROFS maps and passthrough; what a hostile server can make of it. Needs root. */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { Errno } from '../../src/base/errno.ts';
import { readMountInfo } from '../../src/base/mount-info.ts';
import { serveImage } from '../../src/image/broker/serve.ts';
import { mountedAnswer } from '../../src/image/messages.ts';
import { makeExt4Image } from '../support/ext4-image.ts';
import { loopMount } from '../support/loop-mount.ts';
import { run, runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';
import { mountImage } from '../image/fixture.ts';

const largeBytes = 40 * 1024 * 1024;
let directory: TemporaryDirectory;
let image: string;
/** What the kernel's driver read. */
let expected: string;

const fill = `
set -e
cd "$1"
head -c ${largeBytes} /dev/urandom > large
head -c 5000000 /dev/urandom > middle
dd if=/dev/urandom of=middle bs=4096 count=30 seek=3000 conv=notrunc status=none
sha256sum large middle
`;

before(async () => {
  directory = await temporaryDirectory('mapped');
  image = path.join(directory.path, 'disk.img');
  await makeExt4Image(image, 128);
  await using mounted = await loopMount(image);
  expected = (await runOk('sh', ['-c', fill, 'fill', mounted.path])).stdout.toString();
});

after(() => directory[Symbol.asyncDispose]());

/** Bytes that a process has read by system calls (proc_pid_io(5)). */
function bytesRead(pid: number): number {
  return Number(/^rchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'latin1'))?.[1]);
}

const programs = `
import mmap, os, sys, hashlib
name = sys.argv[1] + '/large'
first = os.open(name, os.O_RDONLY)
second = os.open(name, os.O_RDONLY)
with mmap.mmap(first, 0, prot=mmap.PROT_READ) as mapped:
    print('mmap', hashlib.sha256(mapped).hexdigest())
print('pread', hashlib.sha256(os.pread(second, 1000000, 12345)).hexdigest())
try:
    os.close(os.open(name, os.O_RDONLY | os.O_DIRECT))
    print('direct beside mapped: opened')
except OSError as error:
    print('direct beside mapped:', error.errno)
os.close(first)
os.close(second)
direct = os.open(name, os.O_RDONLY | os.O_DIRECT)
third = os.open(name, os.O_RDONLY)
buffer = mmap.mmap(-1, 1 << 20)
digest = hashlib.sha256()
at = 0
while True:
    count = os.preadv(direct, [buffer], at)
    if count == 0:
        break
    digest.update(buffer[:count])
    at += count
print('direct', digest.hexdigest())
print('beside direct', hashlib.sha256(os.pread(third, 1000000, 12345)).hexdigest())
`;

test('a large file is read by the kernel alone; mappings and O_DIRECT see the same bytes', async () => {
  await using mounted = await mountImage({ path: image });
  const before = bytesRead(mounted.serverPid);
  const sums = await runOk('sh', ['-c', 'cd "$0" && sha256sum large middle', mounted.path]);
  assert.equal(sums.stdout.toString(), expected);
  const grown = bytesRead(mounted.serverPid) - before;
  assert.ok(grown < largeBytes / 10, `the server read ${grown} bytes itself`);
  const { stdout } = await runOk('python3', ['-c', programs, mounted.path]);
  const lines = stdout.toString().trim().split('\n');
  const [large] = expected.split(' ');
  assert.equal(lines[0], `mmap ${large}`);
  assert.equal(lines[2], `direct beside mapped: ${Errno.EINVAL}`);
  assert.equal(lines[3], `direct ${large}`);
  assert.equal(lines[1]?.split(' ')[1], lines[4]?.split(' ')[2]);
});

test('who opens the image for writing waits for mapped files; what is cut off is EIO then', async () => {
  const copy = path.join(directory.path, 'copy.img');
  await runOk('cp', ['--sparse=always', image, copy]);
  await using mounted = await mountImage({ path: copy });
  const reader = openSync(path.join(mounted.path, 'large'), 'r');
  let isCut = false;
  // Not truncate(1): it does not wait.
  const cut = ['-c', 'import os, sys; os.truncate(sys.argv[1], 1 << 20)', copy];
  const cutting = run('python3', cut, { timeoutMs: 60_000 }).then((result) => {
    isCut = true;
    return result;
  });
  try {
    // The lease is asked for by then, and held. proc_locks(5): leases of others are being broken, too.
    const inode = statSync(copy).ino;
    const isAskedFor = (): boolean =>
      new RegExp(`LEASE +BREAKING .*:${inode} `).test(readFileSync('/proc/locks', 'latin1'));
    await waitFor(isAskedFor, { what: 'somebody who waits for the lease' });
    assert.equal(isCut, false);
  } finally {
    closeSync(reader);
  }
  assert.equal((await cutting).code, 0);
  const again = await run('cat', [path.join(mounted.path, 'middle')], { timeoutMs: 20_000 });
  assert.match(again.stderr.toString(), /Input\/output error/);
  const umount = await mounted.ebb('umount', mounted.path);
  assert.equal(umount.code, 0, umount.stderr.toString());
});

/** Mounts with a hostile server, which ends with this nonsense. Why the mount ended, and what the broker answered. */
async function serveHostile(mountPoint: string, nonsense: string): Promise<[string, string]> {
  const output = path.join(directory.path, 'answers');
  const log = openSync(output, 'w');
  try {
    const here = path.join(import.meta.dirname, '../image/sandbox');
    const mounted = await serveImage(
      { imagePath: image, mountPoint, native: false, allowOther: false },
      {
        script: path.join(here, 'hostile-server.ts'),
        scripts: here,
        args: [nonsense],
        output: log,
      },
    );
    assert.equal(mounted.opened.label, '');
    return [(await mounted.ended) ?? '', readFileSync(output, 'utf8')];
  } finally {
    closeSync(log);
  }
}

/** Types of what is mounted there, the lowest first. Other tests have mounts of their own. */
function mountsAt(mountPoint: string): string[] {
  return readMountInfo()
    .filter((mount) => mount.mountPoint === mountPoint)
    .map(({ fileSystemType }) => fileSystemType);
}

for (const nonsense of ['type', 'length', 'json', 'map', 'ended']) {
  test(`a hostile server maps nothing outside of the image; its nonsense (${nonsense}) ends the mount`, async () => {
    const mountPoint = path.join(directory.path, 'hostile');
    await mkdir(mountPoint, { recursive: true });
    const [why, output] = await serveHostile(mountPoint, nonsense);
    assert.match(why, nonsense === 'ended' ? /connection of the mount was cut/ : /nonsense/);
    // Node itself may say something there, too, before or behind.
    const lines = output.split('\n');
    const said = lines.find((line) => line.startsWith('{')) ?? lines.join('\n');
    const answers = JSON.parse(said) as Record<string, number>;
    const { opened, inside, ...others } = answers;
    assert.equal(opened, mountedAnswer.mapped);
    // It passed the checks; the kernel gives no backing to a connection that was never agreed on.
    assert.equal(inside, -Errno.EPERM);
    const { 'too large a table': table, 'a large table': large, ...rest } = others;
    assert.deepEqual([table, large], [-Errno.EFBIG, -Errno.EFBIG]);
    const { 'never mapped': never, ...outside } = rest;
    assert.equal(never, -Errno.ENOENT);
    for (const [what, answer] of Object.entries(outside))
      assert.equal(answer, -Errno.EUCLEAN, what);
    assert.equal(Object.keys(outside).length, 11);
    assert.deepEqual(mountsAt(mountPoint), []);
  });
}

for (const nonsense of ['type', 'ended']) {
  test(`a mount over another one is taken away alone (${nonsense})`, async () => {
    const mountPoint = path.join(directory.path, `over-${nonsense}`);
    await mkdir(mountPoint);
    await runOk('mount', ['-t', 'tmpfs', 'below', mountPoint]);
    await serveHostile(mountPoint, nonsense);
    assert.deepEqual(mountsAt(mountPoint), ['tmpfs']);
  });
}
