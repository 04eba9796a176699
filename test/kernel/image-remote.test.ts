/** `ebb image mount` of an image on a web server: its bytes, and what is transferred for them. Needs root. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readSync } from 'node:fs';
import {
  chmod,
  mkdir,
  readFile,
  rename,
  rm,
  statfs,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { ebbError } from '../../src/base/errors.ts';
import { RecalledImage } from '../../src/daemon/image/recalled-image.ts';
import { serveImage } from '../../src/image/broker/serve.ts';
import { serverScript } from '../../src/image/sandbox/code-cache.ts';
import { makeExt4Image } from '../support/ext4-image.ts';
import { openFuseToEverybody } from '../support/fuse-device.ts';
import { loopMount } from '../support/loop-mount.ts';
import { dropNames, dropPages } from '../support/kernel-caches.ts';
import { run, runOk } from '../support/run.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';
import { assertSame, filledImage, manifest, readAheadKib } from '../image/fixture.ts';
import { mountRemote, serveImages, transferred } from '../image/remote-fixture.ts';
import { startNginx } from '../support/servers.ts';
import type { RunningServer } from '../support/servers.ts';

let directory: TemporaryDirectory;
let served: string;
let image: string;
let sums: string;
let origin: RunningServer;

before(async () => {
  directory = await temporaryDirectory('image-remote');
  await chmod(directory.path, 0o755);
  served = path.join(directory.path, 'served');
  image = path.join(served, 'disk.img');
  const source = path.join(directory.path, 'source');
  await mkdir(source);
  await mkdir(served);
  const fill =
    'cd "$0" && mkdir -p deep/er && head -c 9000000 /dev/urandom > large && echo short > short && ' +
    'head -c 100000 /dev/urandom > deep/er/file && sha256sum deep/er/file large short';
  sums = (await runOk('sh', ['-c', fill, source])).stdout.toString();
  await makeExt4Image(image, 64, ['-d', source]);
  origin = await serveImages(served);
});

after(async () => {
  await origin.stop();
  await directory[Symbol.asyncDispose]();
});

let caches = 0;
function newCache(): string {
  caches += 1;
  return path.join(directory.path, `cache-${caches}`);
}

function url(name = 'disk.img'): string {
  return `${origin.url}${name}`;
}

async function sumsIn(mountPoint: string): Promise<string> {
  const script = 'cd "$0" && sha256sum deep/er/file large short';
  return (await runOk('sh', ['-c', script, mountPoint])).stdout.toString();
}

/** Bytes that a process has read by system calls (proc_pid_io(5)). */
function bytesRead(pid: number): number {
  return Number(/^rchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'latin1'))?.[1]);
}

test('a remote image shows what the kernel shows of the same file, cold, and mounted again', async () => {
  await using filled = await filledImage(['-b', '1024']);
  await chmod(filled.directory.path, 0o755);
  const kernel = await loopMount(filled.path, { mountOptions: 'ro' });
  const expected = await manifest(kernel.path);
  await kernel[Symbol.asyncDispose]();
  assert.ok(expected.length > 1500);
  await using far = await serveImages(path.dirname(filled.path));
  const cache = path.join(filled.directory.path, 'cache');
  const remote = { url: `${far.url}disk.img`, cache };
  {
    await using mounted = await mountRemote(remote);
    assertSame(await manifest(mounted.path), expected);
    const umount = await mounted.ebb('umount', mounted.path);
    assert.equal(umount.code, 0, umount.stderr.toString());
  }
  const before = await transferred(far);
  await using again = await mountRemote(remote);
  assertSame(await manifest(again.path), expected);
  const more = (await transferred(far)).bytes - before.bytes;
  assert.ok(more <= 1024 * 1024, `${more} bytes were fetched again`);
});

test('each chunk is fetched once, and a file that is all here is read by the kernel alone', async () => {
  const before = await transferred(origin);
  await using mounted = await mountRemote({ url: url(), cache: newCache() });
  await waitFor(() => readAheadKib(mounted.path) === 1024, { what: 'read-ahead of 1 MiB' });
  assert.equal(await sumsIn(mounted.path), sums);
  const fetchedBytes = async (): Promise<number> =>
    (await transferred(origin)).bytes - before.bytes;
  const fetchedFirst = await fetchedBytes();
  assert.ok(fetchedFirst > 9_000_000, `${fetchedFirst} bytes`);
  // Once it is on stable storage, which takes a moment, an open maps it.
  const large = path.join(mounted.path, 'large');
  await waitFor(
    async () => {
      await dropPages(large);
      const readBefore = bytesRead(mounted.serverPid);
      await runOk('cat', [large]);
      return bytesRead(mounted.serverPid) - readBefore < 1_000_000;
    },
    { what: 'a mapped file', timeoutMs: 60_000, intervalMs: 200 },
  );
  assert.equal(await sumsIn(mounted.path), sums);
  const fetched = await fetchedBytes();
  assert.ok(fetched < 11_000_000, `${fetched} bytes of an image with 9,100,000 of content`);
});

test('of 64 GiB the first listing and the first byte of a file cost less than 1 MiB', async () => {
  const huge = path.join(served, 'huge.img');
  const source = path.join(directory.path, 'huge');
  const fill =
    'mkdir -p "$0/dir/sub" && cd "$0/dir" && for i in $(seq 300); do echo $i > name-$i; done && ' +
    'head -c 3000000 /dev/urandom > sub/large';
  await runOk('sh', ['-c', fill, source]);
  await makeExt4Image(huge, 64 * 1024, ['-J', 'size=4', '-d', source]);
  const before = await transferred(origin);
  await using mounted = await mountRemote({ url: url('huge.img'), cache: newCache() });
  await runOk('ls', ['-l', mounted.path]);
  const listed = await transferred(origin);
  const name = path.join(mounted.path, 'dir/sub/large');
  const { stdout } = await runOk('head', ['-c', '1000', name]);
  const expected = (await readFile(path.join(source, 'dir/sub/large'))).subarray(0, 1000);
  assert.deepEqual(stdout, expected);
  const read = await transferred(origin);
  const bytes = read.bytes - before.bytes;
  assert.ok(bytes <= 1024 * 1024, `${bytes} bytes`);
  // Round trips one behind the other, of which 20 ms may be 150 ms.
  const requests = read.requests - listed.requests;
  assert.ok(requests <= 7, `${requests} requests for the first byte`);
  const listing = await runOk('ls', [path.join(mounted.path, 'dir')]);
  assert.equal(listing.stdout.toString().trim().split('\n').length, 301);
});

test('a server that ignores ranges, or does not tell versions, is refused, and nothing is mounted', async () => {
  await using whole = await startNginx({
    root: served,
    locationConfig: 'max_ranges 0;',
    workers: 1,
  });
  const cache = newCache();
  await assert.rejects(
    mountRemote({ url: `${whole.url}disk.img`, cache, words: ['--retries', '0'] }),
    /cannot be mounted.*download the image/,
  );
  const { bytes: downloaded } = await transferred(whole);
  assert.ok(downloaded < 10_000_000, 'it was not downloaded instead');
  await using vague = await startNginx({
    root: served,
    locationConfig: 'etag off; add_header Last-Modified "";',
  });
  const remote = { url: `${vague.url}disk.img`, cache: newCache() };
  await assert.rejects(mountRemote(remote), /neither ETag nor Last-Modified.*download the image/);
  await assert.rejects(
    mountRemote({ url: `${whole.url}missing.img`, cache: newCache() }),
    /missing\.img/,
  );
});

test('who is not root mounts a remote image, too', async () => {
  await openFuseToEverybody();
  const cache = newCache();
  await mkdir(cache, { mode: 0o700 });
  await runOk('chown', ['65534:65534', cache]);
  const user = { uid: 65_534, gid: 65_534 };
  await using mounted = await mountRemote({ url: url(), cache, user });
  const script = 'cd "$0" && sha256sum deep/er/file large short';
  const seen = await runOk('sh', ['-c', script, mounted.path], user);
  assert.equal(seen.stdout.toString(), sums);
});

test('-o native of a remote image is refused with the way out, until all of it is here', async () => {
  const small = path.join(served, 'small.img');
  const source = path.join(directory.path, 'small');
  await mkdir(source);
  await writeFile(path.join(source, 'word'), 'native\n');
  await makeExt4Image(small, 2, ['-O', '^has_journal', '-d', source]);
  const remote = { url: url('small.img'), cache: newCache() };
  const native = { ...remote, options: 'native' };
  await assert.rejects(mountRemote(native), /not wholly here.*without -o native, or download/);
  const { stdout } = await runOk('findmnt', ['-n', '-t', 'erofs']).catch(() => ({ stdout: '' }));
  assert.ok(!stdout.toString().includes('small.img'), 'nothing is mounted');
});

test('partitions, qcow2 and a dirty journal of a remote image are shown as they are', async () => {
  const disk = path.join(directory.path, 'partitioned.img');
  await writeFile(disk, '');
  await truncate(disk, 70 * 1024 * 1024);
  await runOk('sfdisk', ['-q', disk], { input: 'label: gpt\nstart=2048, type=linux\n' });
  const copy = [`if=${image}`, `of=${disk}`, 'bs=1M', 'seek=1', 'conv=notrunc', 'status=none'];
  await runOk('dd', copy);
  const qcow = path.join(served, 'disk.qcow2');
  await runOk('qemu-img', ['convert', '-c', '-O', 'qcow2', disk, qcow]);
  {
    const remote = { url: url('disk.qcow2'), cache: newCache(), options: 'partition=1' };
    await using mounted = await mountRemote(remote);
    assert.equal(await sumsIn(mounted.path), sums);
  }
  const dirty = path.join(served, 'dirty.img');
  await runOk('cp', ['--sparse=always', image, dirty]);
  // One logged block of zeros over the content of `short`.
  const blocks = await runOk('debugfs', ['-R', 'blocks /short', image]);
  const [block = ''] = blocks.stdout.toString().trim().split(' ');
  const zeros = path.join(directory.path, 'zeros');
  await writeFile(zeros, new Uint8Array(4096));
  const commands = path.join(directory.path, 'commands');
  await writeFile(commands, `jo\njw -b ${block} ${zeros}\njc\n`);
  await runOk('debugfs', ['-w', '-f', commands, dirty]);
  await using mounted = await mountRemote({ url: url('dirty.img'), cache: newCache() });
  const { stdout } = await runOk('cat', [path.join(mounted.path, 'short')]);
  assert.deepEqual(stdout, Buffer.alloc(6), 'what the journal says, not what is in the place');
  const large = await runOk('sha256sum', [path.join(mounted.path, 'large')]);
  assert.ok(sums.includes(large.stdout.toString().split(' ')[0] ?? 'none'));
});

test('while the remote hangs, what is here is served, and who waits can be killed', async () => {
  await using mounted = await mountRemote({ url: url(), cache: newCache() });
  await runOk('cat', [path.join(mounted.path, 'short')]);
  const [large, deep] = [path.join(mounted.path, 'large'), path.join(mounted.path, 'deep/er/file')];
  process.kill(-origin.pid, 'SIGSTOP');
  try {
    const patient = run('sha256sum', [large], { timeoutMs: 60_000 });
    const killed = run(
      'sh',
      ['-c', 'echo $$ > "$1"; exec cat "$0"', deep, `${directory.path}/pid`],
      {
        timeoutMs: 60_000,
      },
    );
    const pidFile = path.join(directory.path, 'pid');
    const pid = Number(
      await waitFor(() => existsSync(pidFile) && readFileSync(pidFile, 'latin1'), {
        what: 'a pid',
      }),
    );
    await waitFor(() => readFileSync(`/proc/${pid}/stat`, 'latin1').includes('(cat)'), {
      what: 'a reader',
      timeoutMs: 30_000,
    });
    dropNames();
    const warm = await runOk('sh', ['-c', 'ls "$0" > /dev/null && cat "$0/short"', mounted.path]);
    assert.equal(warm.stdout.toString(), 'short\n');
    process.kill(pid, 'SIGKILL');
    assert.notEqual((await killed).code, 0);
    assert.ok(!existsSync(`/proc/${pid}`));
    process.kill(-origin.pid, 'SIGCONT');
    const { stdout } = await patient;
    assert.ok(sums.includes(stdout.toString().split(' ')[0] ?? 'none'), stdout.toString());
  } finally {
    process.kill(-origin.pid, 'SIGCONT');
  }
  assert.equal(await sumsIn(mounted.path), sums);
});

test('a remote that goes away is an errno within the deadline, and all is right when it is back', async () => {
  const own = await serveImages(served);
  let back: RunningServer | undefined;
  try {
    await using mounted = await mountRemote({
      url: `${own.url}disk.img`,
      cache: newCache(),
      // Refused at once; the deadline is for what a busy machine reads before and afterwards.
      words: ['--deadline', '20s', '--retries', '0'],
    });
    await runOk('cat', [path.join(mounted.path, 'short')]);
    await own.kill();
    const failed = await run('sh', ['-c', 'cat "$0/large" "$0/deep/er/file"', mounted.path]);
    assert.equal(failed.timedOut, false);
    assert.match(failed.stderr.toString(), /large: Input\/output error/);
    assert.match(failed.stderr.toString(), /file: Input\/output error/);
    const warm = await runOk('cat', [path.join(mounted.path, 'short')]);
    assert.equal(warm.stdout.toString(), 'short\n');
    const status = await mounted.ebb('status', mounted.path);
    assert.match(status.stdout.toString(), /image +http:.*disk\.img/);
    back = await serveImages(served, own.port);
    assert.equal(await sumsIn(mounted.path), sums);
    const umount = await mounted.ebb('umount', mounted.path);
    assert.equal(umount.code, 0, umount.stderr.toString());
    assert.equal(mounted.isMounted(), false);
  } finally {
    await back?.stop();
    await own.stop();
  }
});

test('an image that changes at the server is EIO where it is not here, and never a mix', async () => {
  const changing = path.join(served, 'changing.img');
  await runOk('cp', ['--sparse=always', image, changing]);
  const remote = { url: url('changing.img'), cache: newCache() };
  {
    await using mounted = await mountRemote(remote);
    await runOk('cat', [path.join(mounted.path, 'short')]);
    const other = path.join(served, 'other.img');
    await runOk('cp', ['--sparse=always', image, other]);
    await runOk('debugfs', ['-w', '-R', 'rm /short', other]);
    await utimes(other, 1_500_000_000, 1_500_000_000);
    await rename(other, changing);
    const cold = await run('cat', [path.join(mounted.path, 'large')]);
    assert.match(cold.stderr.toString(), /Input\/output error/);
    const warm = await runOk('cat', [path.join(mounted.path, 'short')]);
    assert.equal(warm.stdout.toString(), 'short\n', 'what is here is of the old image');
    await runOk('umount', [mounted.path]);
  }
  await using mounted = await mountRemote(remote);
  const gone = await run('cat', [path.join(mounted.path, 'short')]);
  assert.match(gone.stderr.toString(), /No such file/);
  const large = await runOk('sha256sum', [path.join(mounted.path, 'large')]);
  assert.ok(sums.includes(large.stdout.toString().split(' ')[0] ?? 'none'));
});

test('a copy that cannot be synced ends the mount: what was called here may be zeros by then', async () => {
  const mountPoint = path.join(directory.path, 'unsynced');
  await mkdir(mountPoint);
  const opening = { url: url(), access: {}, cacheDirectory: newCache(), log: (): void => {} };
  const served = Promise.withResolvers<undefined>();
  const syncData = async (): Promise<void> => {
    await served.promise;
    throw ebbError('EIO', 'the disk is broken');
  };
  const failing = await RecalledImage.open({ ...opening, syncData });
  const options = { imagePath: url(), mountPoint, native: false, allowOther: false };
  const place = { script: serverScript.source, args: [], output: 'ignore' as const };
  const mounted = await serveImage(options, place, failing.source);
  served.resolve(undefined);
  assert.match((await mounted.ended) ?? '', /disk\.img/);
  await failing[Symbol.asyncDispose]();
  assert.ok(!readFileSync('/proc/self/mountinfo', 'utf8').includes(mountPoint));

  const image = await RecalledImage.open(opening);
  try {
    assert.equal(image.isHere(0, 100), false, 'nothing of it is believed any more');
    await image.bring(0, 100, 60_000);
    assert.equal(image.isHere(0, 100), true);
    await waitFor(() => image.durable().has(0, 100), { what: 'a record', timeoutMs: 60_000 });
    assert.equal(image.durable().has(0, image.source.imageBytes), false);
  } finally {
    image.source.image.close();
    await image[Symbol.asyncDispose]();
  }
});

test('a copy never takes the last of its file system: ENOSPC, and all is right with more room', async () => {
  await using small = await loopFilesystem({ type: 'ext4', sizeBytes: 64 * 1024 * 1024 });
  const free = async (): Promise<number> => {
    const { bavail, bsize } = await statfs(small.path);
    return bavail * bsize;
  };
  const filler = path.join(small.path, 'filler');
  await writeFile(filler, new Uint8Array((await free()) - 14 * 1024 * 1024));
  const before = await transferred(origin);
  const said: string[] = [];
  const recalled = await RecalledImage.open({
    url: url(),
    access: {},
    cacheDirectory: path.join(small.path, 'cache'),
    log: (message) => said.push(message),
  });
  try {
    const pieceBytes = 1024 * 1024;
    let broughtBytes = 0;
    const bringAll = async (): Promise<void> => {
      for (; broughtBytes < recalled.source.imageBytes; broughtBytes += pieceBytes) {
        await recalled.bring(broughtBytes, pieceBytes, 60_000);
      }
    };
    await assert.rejects(bringAll(), { code: 'ENOSPC' });
    const freeBytes = await free();
    assert.ok(freeBytes > 6 * 1024 * 1024, `${freeBytes} bytes are left`);
    assert.ok(broughtBytes > 0 && recalled.isHere(0, broughtBytes));
    assert.match(said.join('\n'), /a part cannot be had: The file system of the copy .* free/);
    // Nothing is fetched that has no room.
    const more = (await transferred(origin)).bytes - before.bytes;
    assert.ok(more < broughtBytes + pieceBytes, `${more} bytes for ${broughtBytes}`);
    await rm(filler);
    await recalled.bring(broughtBytes, pieceBytes, 60_000);
    const copied = Buffer.alloc(broughtBytes + pieceBytes);
    assert.equal(readSync(recalled.source.image.fd, copied, 0, copied.length, 0), copied.length);
    assert.ok(copied.equals((await readFile(image)).subarray(0, copied.length)));
  } finally {
    recalled.source.image.close();
    await recalled[Symbol.asyncDispose]();
  }
});

for (const killed of ['server', 'broker'] as const) {
  test(`the ${killed} of a remote image is killed: nothing stays mounted, and the next has what was here`, async () => {
    const remote = { url: url(), cache: newCache() };
    {
      await using mounted = await mountRemote(remote);
      assert.equal(await sumsIn(mounted.path), sums);
      const { brokerPid, serverPid } = mounted;
      process.kill(killed === 'server' ? serverPid : brokerPid, 'SIGKILL');
      await waitFor(() => !mounted.isMounted(), {
        what: 'the end of the mount',
        timeoutMs: 30_000,
      });
      await waitFor(() => !existsSync(`/proc/${brokerPid}`) && !existsSync(`/proc/${serverPid}`), {
        what: 'the end of both processes',
        timeoutMs: 30_000,
      });
    }
    // A broker that dies has written down what it had a moment before, or less.
    const { bytes } = await transferred(origin);
    await using again = await mountRemote(remote);
    assert.equal(await sumsIn(again.path), sums);
    const more = (await transferred(origin)).bytes - bytes;
    assert.ok(more < (killed === 'server' ? 5_000_000 : 11_000_000), `${more} bytes again`);
  });
}
