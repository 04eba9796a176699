/**
 * Files of very many extents, in all the ways in which an image is looked at. EBB_IMAGE_EXTENTS: how many the first of
 * them has (1,000,000 take twenty minutes and 6 GB below TMPDIR). Needs root.
 */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { runsPerRequestMax } from '../../src/image/server/extent-list.ts';
import { fiemap } from '../ext4/support/fiemap.ts';
import { makeImage } from '../ext4/support/images.ts';
import { assertSame, manifest, mountImage, withoutFacts } from '../image/fixture.ts';
import { loopMount } from '../support/loop-mount.ts';
import type { ManifestLine, MountedImage } from '../image/fixture.ts';
import { mountRemote, serveImages } from '../image/remote-fixture.ts';
import { openFuseToEverybody } from '../support/fuse-device.ts';
import { peakMebibytes } from '../support/process-costs.ts';
import { run, runOk } from '../support/run.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';

const extents = Number(process.env['EBB_IMAGE_EXTENTS'] ?? 10_000);
const residentMaxMebibytes = 512;
const patient = { timeoutMs: 3_600_000 };
const blockBytes = 1024;
const launcher = path.join(import.meta.dirname, '../../ebb');
const nobody = { uid: 65_534, gid: 65_534 };

/** Every block names its place. The last block of the first file is a hole with an odd end. */
const fill = `
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
os.chdir(sys.argv[1])
extents, block = int(sys.argv[2]), int(sys.argv[3])

def file(name): return os.open(name, os.O_CREAT | os.O_RDWR, 0o644)
def write(fd, index): os.pwrite(fd, (b'%016d' % index) * (block // 16), index * block)
def allocate(fd, mode, index, count):
    if libc.fallocate(fd, mode, index * block, count * block) != 0:
        raise OSError(ctypes.get_errno(), 'fallocate')

scattered = file('scattered')
for index in range(extents): write(scattered, 2 * index)
os.ftruncate(scattered, (2 * extents + 1) * block - 333)
few = extents // 10
punched = file('punched')
for index in range(5 * few): write(punched, index)
os.fsync(punched)
for index in range(few): allocate(punched, 3, 5 * index + index % 3, 1 + index % 2)
unwritten = file('unwritten')
allocate(unwritten, 0, 0, 40 * few)
for index in range(few): write(unwritten, 40 * index + index % 7)
`;

let directory: TemporaryDirectory;
let image: string;
let expected: ManifestLine[];

before(async () => {
  directory = await temporaryDirectory('extents');
  await chmod(directory.path, 0o755);
  const parameters = ['-t', 'ext4', '-b', `${blockBytes}`, '-m', '0'];
  const sizeBytes = 64 * 1024 * 1024 + extents * 7 * blockBytes;
  image = await makeImage(directory.path, parameters, sizeBytes, 'disk.img');
  await chmod(image, 0o644);
  {
    await using filled = await loopMount(image);
    const words = ['-c', fill, filled.path, `${extents}`, `${blockBytes}`];
    await runOk('python3', words, patient);
  }
  await using kernel = await loopMount(image, { mountOptions: 'ro' });
  const descriptor = openSync(path.join(kernel.path, 'scattered'), 'r');
  try {
    assert.equal(fiemap(descriptor).length, extents);
  } finally {
    closeSync(descriptor);
  }
  expected = await manifest(kernel.path, [], undefined, patient.timeoutMs);
  assert.equal(expected.length, 4);
});

after(() => directory[Symbol.asyncDispose]());

/** Both processes, in words; throws when one of them took too much. */
function memoryOf({ brokerPid, serverPid }: MountedImage): string {
  const [broker, server] = [peakMebibytes(brokerPid), peakMebibytes(serverPid)];
  const said = `broker ${broker.toFixed(0)} MiB, server ${server.toFixed(0)} MiB`;
  assert.ok(broker <= residentMaxMebibytes && server <= residentMaxMebibytes, said);
  return said;
}

function seconds(sinceMs: number): string {
  return `${((performance.now() - sinceMs) / 1000).toFixed(2)} s`;
}

/** Bytes that a process has read by system calls (proc_pid_io(5)). */
function bytesRead(pid: number): number {
  return Number(/^rchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'latin1'))?.[1]);
}

test('a file of very many extents is mapped, up to a limit: bytes and holes are the kernel’s', async (t) => {
  await using mounted = await mountImage({ path: image });
  for (const what of ['first', 'second']) {
    const startedMs = performance.now();
    closeSync(openSync(path.join(mounted.path, 'scattered'), 'r'));
    t.diagnostic(`${what} open: ${seconds(startedMs)}`);
  }
  const before = bytesRead(mounted.serverPid);
  const startedMs = performance.now();
  assertSame(await manifest(mounted.path, [], undefined, patient.timeoutMs), expected);
  t.diagnostic(`all seams and bytes: ${seconds(startedMs)}; ${memoryOf(mounted)}`);
  // Requests for seams, and the maps; the content is larger.
  const content = Number(expected.find(({ name }) => name === '/scattered')?.['size']);
  const read = bytesRead(mounted.serverPid) - before;
  const isMapped = 2 * extents < runsPerRequestMax;
  assert.ok(isMapped === read < content, `the server read ${read} bytes itself`);
});

test('a native mount of a file of very many extents has its bytes and holes', async (t) => {
  const startedMs = performance.now();
  await using mounted = await mountImage({ path: image }, 'native');
  t.diagnostic(`mounted after ${seconds(startedMs)}`);
  const without = ['ino', 'ctime', 'blocks'];
  const seen = await manifest(mounted.path, without, undefined, patient.timeoutMs);
  assertSame(seen, withoutFacts(expected, without));
});

test('without root a file of very many extents is read through the server', async (t) => {
  await openFuseToEverybody();
  await using mounted = await mountImage({ path: image }, '', nobody);
  assertSame(await manifest(mounted.path, [], nobody, patient.timeoutMs), expected);
  t.diagnostic(memoryOf(mounted));
});

test('a remote image with a file of very many extents shows the same, cold and when it is here', async (t) => {
  await using origin = await serveImages(directory.path);
  const cache = path.join(directory.path, 'cache');
  await using mounted = await mountRemote({ url: `${origin.url}disk.img`, cache });
  for (const what of ['cold', 'here']) {
    const startedMs = performance.now();
    assertSame(await manifest(mounted.path, [], undefined, patient.timeoutMs), expected);
    t.diagnostic(`${what}: ${seconds(startedMs)}; ${memoryOf(mounted)}`);
  }
});

for (const where of ['a file', 'a web server'] as const) {
  test(`ebb image cp of a file of very many extents from ${where} keeps bytes and holes`, async (t) => {
    await using origin = await serveImages(directory.path);
    // With blocks of the same size: what is a hole in one can be one in the other.
    await using target = await loopFilesystem({
      type: 'ext4',
      sizeBytes: 64 * 1024 * 1024 + extents * 3 * blockBytes,
      mkfsArguments: ['-b', `${blockBytes}`, '-m', '0'],
    });
    const source = where === 'a file' ? image : `${origin.url}disk.img`;
    const startedMs = performance.now();
    const words = ['image', 'cp', source, '/scattered', '/punched', '/unwritten', target.path];
    const done = await run(launcher, words, patient);
    assert.equal(done.code, 0, done.stderr.toString());
    t.diagnostic(`copied in ${seconds(startedMs)}`);
    const without = ['ino', 'ctime', 'blocks'];
    const seen = await manifest(target.path, without, undefined, patient.timeoutMs);
    const [, ...files] = withoutFacts(expected, without);
    assertSame(seen.slice(1), files);
  });
}
