/** The copy of a remote image: how much of it there may be, and what the kernel may do with all of it. Needs root. */
import assert from 'node:assert/strict';
import { readFileSync, readSync } from 'node:fs';
import { chmod, mkdir, rename, stat, statfs, utimes } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { toEbbError } from '../../src/base/errors.ts';
import { RecalledImage } from '../../src/daemon/image/recalled-image.ts';
import { Contents } from '../../src/daemon/mount/contents.ts';
import { remoteIdentity } from '../../src/daemon/options.ts';
import type { SpaceLimits } from '../../src/policy/release-policy.ts';
import { makeImage } from '../ext4/support/images.ts';
import { mountRemote, serveImages } from '../image/remote-fixture.ts';
import { run, runOk } from '../support/run.ts';
import type { RunningServer } from '../support/servers.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const mebibyte = 1024 * 1024;
const imageBytes = 24 * mebibyte;
let directory: TemporaryDirectory;
let image: string;
let sums: string;
let origin: RunningServer;

before(async () => {
  directory = await temporaryDirectory('image-copy');
  await chmod(directory.path, 0o755);
  const source = path.join(directory.path, 'source');
  const served = path.join(directory.path, 'served');
  await mkdir(source);
  await mkdir(served);
  const fill =
    'cd "$0" && head -c 9000000 /dev/urandom > large && head -c 3000000 /dev/urandom > middle && ' +
    'echo short > short && sha256sum *';
  sums = (await runOk('sh', ['-c', fill, source])).stdout.toString();
  const parameters = ['-t', 'ext4', '-O', '^has_journal', '-d', source];
  image = await makeImage(served, parameters, imageBytes, 'disk.img');
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

/** What the copies in a cache take. */
async function allocatedIn(cache: string): Promise<number> {
  const { stdout } = await runOk('du', ['-s', '--block-size=1', path.join(cache, 'tree')]);
  return Number(/^\d+/.exec(stdout.toString())?.[0]);
}

interface Opened extends AsyncDisposable {
  readonly image: RecalledImage;
  readonly said: readonly string[];
  /** Brings the image from an offset on, piece by piece; how far that went. Rejects as `bring`. */
  bringFrom(offsetBytes: number): Promise<void>;
  broughtBytes(): number;
}

async function open(cache: string, limits: SpaceLimits, native = false): Promise<Opened> {
  const said: string[] = [];
  const opened = await RecalledImage.open({
    url: `${origin.url}disk.img`,
    access: {},
    cacheDirectory: cache,
    limits,
    native,
    log: (message) => said.push(message),
  });
  let brought = 0;
  return {
    image: opened,
    said,
    broughtBytes: () => brought,
    bringFrom: async (offsetBytes) => {
      for (brought = offsetBytes; brought < imageBytes; brought += mebibyte) {
        await opened.bring(brought, mebibyte, 60_000);
      }
    },
    [Symbol.asyncDispose]: async () => {
      opened.source.image.close();
      await opened[Symbol.asyncDispose]();
    },
  };
}

/** Another version of the image, with the same bytes. */
async function touched(seconds: number): Promise<void> {
  const other = path.join(directory.path, 'served', 'other.img');
  await runOk('cp', ['--sparse=always', image, other]);
  await utimes(other, seconds, seconds);
  await rename(other, image);
}

function assertBytes({ image: { source } }: Opened, lengthBytes: number): void {
  const copied = Buffer.alloc(lengthBytes);
  assert.equal(readSync(source.image.fd, copied, 0, lengthBytes, 0), lengthBytes);
  assert.ok(copied.equals(readFileSync(image).subarray(0, lengthBytes)));
}

test('a copy grows to --cache-size and no further: ENOSPC with the way out, what is here stays readable', async () => {
  const cache = newCache();
  const limit = 10 * mebibyte;
  {
    await using opened = await open(cache, { cacheSizeBytes: limit });
    await assert.rejects(opened.bringFrom(0), { code: 'ENOSPC' });
    const brought = opened.broughtBytes();
    assert.ok(brought >= limit - 2 * mebibyte && brought <= limit, `${brought} bytes`);
    assert.match(
      opened.said.join('\n'),
      /--cache-size allows 10\.0 MiB: unmount it and mount it again/,
    );
    assertBytes(opened, brought);
    assert.ok(opened.image.isHere(0, brought));
  }
  assert.ok((await allocatedIn(cache)) <= limit + mebibyte);
  // Mounted again it begins anew, since there was no room for anything else.
  await using again = await open(cache, { cacheSizeBytes: limit });
  assert.equal(again.image.isHere(mebibyte, mebibyte), false);
  await again.image.bring(20 * mebibyte, mebibyte, 60_000);
  assert.equal(again.image.isHere(20 * mebibyte, mebibyte), true);
});

test('a copy that leaves room is kept by the next mount, with limits as without', async () => {
  const cache = newCache();
  for (const [limits, wasHere] of [
    [{ cacheSizeBytes: 20 * mebibyte }, false],
    [{}, true],
    [{ cacheSizeBytes: 6 * mebibyte }, true],
  ] as const) {
    await using opened = await open(cache, limits);
    assert.equal(opened.image.isHere(2 * mebibyte, mebibyte), wasHere);
    await opened.image.bring(0, 4 * mebibyte, 60_000);
    assertBytes(opened, 4 * mebibyte);
  }
  // Above the limit: it goes before anything of it is used.
  await using smaller = await open(cache, { cacheSizeBytes: 3 * mebibyte });
  assert.equal(smaller.image.isHere(2 * mebibyte, mebibyte), false);
});

test('--min-free keeps so much of the file system of the copy free', async () => {
  const { bavail, bsize } = await statfs(directory.path);
  await using opened = await open(newCache(), { minFreeBytes: bavail * bsize + 1024 * mebibyte });
  await assert.rejects(opened.image.bring(0, mebibyte, 60_000), { code: 'ENOSPC' });
  assert.match(opened.said.join('\n'), /The file system of the copy of the image has .* free/);
});

test('requests that are under way together keep out of --min-free as well', async () => {
  await using ext4 = await loopFilesystem({ type: 'ext4', sizeBytes: 96 * mebibyte });
  const free = async (): Promise<number> => {
    const { bavail, bsize } = await statfs(ext4.path);
    return bavail * bsize;
  };
  const minFreeBytes = (await free()) - 8 * mebibyte;
  await using opened = await open(path.join(ext4.path, 'cache'), { minFreeBytes });
  const pieces = Array.from({ length: imageBytes / mebibyte }, (_, index) =>
    opened.image.bring(index * mebibyte, mebibyte, 60_000),
  );
  const outcomes = await Promise.allSettled(pieces);
  const here = outcomes.filter(({ status }) => status === 'fulfilled').length;
  assert.ok(here >= 1 && here <= 8, `${here} MiB are here`);
  for (const outcome of outcomes) {
    if (outcome.status === 'rejected') assert.equal(toEbbError(outcome.reason).code, 'ENOSPC');
  }
  // The catalog of the cache takes a little as well.
  assert.ok((await free()) >= minFreeBytes - 2 * mebibyte);
});

test('one whole copy goes for --min-free where one is enough, and none where all are not', async () => {
  // What is deleted there is free a moment later.
  await using xfs = await loopFilesystem({ type: 'xfs' });
  const cache = path.join(xfs.path, 'cache');
  const { mtimeMs } = await stat(image);
  const free = async (): Promise<number> => {
    const { bavail, bsize } = await statfs(xfs.path);
    return bavail * bsize;
  };
  for (const seconds of [1_400_000_000, 1_500_000_000]) {
    await touched(seconds);
    await using whole = await open(cache, {});
    await whole.image.bring(0, imageBytes, 60_000);
  }
  await touched(1_600_000_000);
  {
    await using unreachable = await open(cache, { minFreeBytes: 1024 * mebibyte });
    assert.match(unreachable.said.join('\n'), /no whole one goes for it, and nothing is fetched/);
    await assert.rejects(unreachable.image.bring(0, mebibyte, 60_000), { code: 'ENOSPC' });
    assert.ok((await allocatedIn(cache)) >= 2 * imageBytes);
  }
  await using reachable = await open(cache, { minFreeBytes: (await free()) + 8 * mebibyte });
  await reachable.image.bring(0, mebibyte, 60_000);
  const allocated = await allocatedIn(cache);
  assert.ok(allocated >= imageBytes && allocated < 2 * imageBytes, `${allocated} bytes`);
  await utimes(image, mtimeMs / 1000, mtimeMs / 1000);
});

test('a copy that is all here stays, though a quarter of --cache-size is not free', async () => {
  const cache = newCache();
  const whole = async (native: boolean): Promise<boolean> => {
    await using opened = await open(cache, { cacheSizeBytes: 28 * mebibyte }, native);
    return opened.image.durable().has(0, imageBytes);
  };
  {
    await using filled = await open(cache, {});
    await filled.image.bring(0, imageBytes, 60_000);
  }
  assert.equal(await whole(false), true);
  assert.equal(await whole(true), true);
  // Above the limit a native mount still takes what is here: it fetches nothing.
  await using smaller = await open(cache, { cacheSizeBytes: 20 * mebibyte }, true);
  assert.equal(smaller.image.durable().has(0, imageBytes), true);
});

test('of the copy of another version parts go first, and this one before a whole one', async () => {
  const cache = newCache();
  const { mtimeMs } = await stat(image);
  await touched(1_400_000_000);
  {
    await using part = await open(cache, {});
    await part.image.bring(0, 4 * mebibyte, 60_000);
  }
  await touched(1_500_000_000);
  {
    await using current = await open(cache, {});
    await current.image.bring(0, 2 * mebibyte, 60_000);
  }
  // 6 MiB and a quarter of the limit do not fit; 2 do.
  await using again = await open(cache, { cacheSizeBytes: 6 * mebibyte });
  assert.equal(again.image.isHere(0, 2 * mebibyte), true);
  assert.ok((await allocatedIn(cache)) < 3 * mebibyte);
  await utimes(image, mtimeMs / 1000, mtimeMs / 1000);
});

/** What a broker leaves that is killed between the two steps of a deletion: files without a row. */
async function forgetRows(cache: string): Promise<void> {
  const remote = remoteIdentity(`${origin.url}disk.img`);
  const contents = await Contents.open(cache, remote, ({ message }) => assert.fail(message));
  for (const { id } of contents.leastRecentlyUsed()) contents.catalog.deleteContent(id);
  contents.abandon();
}

test('a copy whose deletion was broken off counts again: it is read, or goes', async () => {
  const cache = newCache();
  const { mtimeMs } = await stat(image);
  {
    await using filled = await open(cache, {});
    await filled.image.bring(0, imageBytes, 60_000);
  }
  await forgetRows(cache);
  {
    await using again = await open(cache, {});
    assert.equal(again.image.durable().has(0, imageBytes), true);
    assertBytes(again, imageBytes);
  }
  await forgetRows(cache);
  await touched(1_400_000_000);
  await using next = await open(cache, { cacheSizeBytes: 20 * mebibyte });
  assert.equal(next.image.isHere(mebibyte, mebibyte), false);
  assert.ok((await allocatedIn(cache)) < 3 * mebibyte);
  await utimes(image, mtimeMs / 1000, mtimeMs / 1000);
});

test('a mount with --cache-size reads what fits, and gives ENOSPC for what does not, never zeros', async () => {
  const cache = newCache();
  const remote = { url: `${origin.url}disk.img`, cache, words: ['--cache-size', '8M'] };
  {
    await using mounted = await mountRemote(remote);
    const middle = await runOk('sha256sum', [path.join(mounted.path, 'middle')]);
    assert.ok(sums.includes(middle.stdout.toString().slice(0, 64)));
    const large = await run('cat', [path.join(mounted.path, 'large')]);
    assert.match(large.stderr.toString(), /No space left on device/);
    const original = readFileSync(path.join(directory.path, 'source/large'));
    assert.ok(large.stdout.equals(original.subarray(0, large.stdout.length)));
    const again = await runOk('sha256sum', [path.join(mounted.path, 'middle')]);
    assert.deepEqual(again.stdout, middle.stdout);
  }
  assert.ok((await allocatedIn(cache)) <= 9 * mebibyte);
  await using larger = await mountRemote({ ...remote, words: ['--cache-size', '20M'] });
  const all = await runOk('sh', ['-c', 'cd "$0" && sha256sum large middle short', larger.path]);
  assert.equal(all.stdout.toString(), sums);
});

test('the limits of a copy are for images on web servers', async () => {
  for (const words of [
    ['--cache-size', '1G'],
    ['--min-free', '5%'],
    ['--cache-dir', newCache()],
  ]) {
    const refused = await run(path.join(import.meta.dirname, '../../ebb'), [
      'image',
      'mount',
      ...words,
      image,
      directory.path,
    ]);
    assert.equal(refused.code, 2);
    assert.match(
      refused.stderr.toString(),
      new RegExp(`${words[0]} is for images on a web server`),
    );
  }
});

test('-o native of a remote image that is wholly here: the kernel serves it, and nobody else', async () => {
  const cache = newCache();
  const remote = { url: `${origin.url}disk.img`, cache, options: 'native' };
  {
    await using parts = await open(cache, {});
    await parts.image.bring(0, imageBytes - mebibyte, 60_000);
  }
  await assert.rejects(mountRemote(remote), /not wholly here.*without -o native, or download/);
  {
    await using rest = await open(cache, {});
    await rest.image.bring(imageBytes - mebibyte, mebibyte, 60_000);
    await waitFor(() => rest.image.durable().has(0, imageBytes), {
      what: 'a record of all',
      timeoutMs: 60_000,
    });
  }
  await using native = await mountRemote(remote);
  assert.equal(native.brokerPid, 0);
  const { stdout: type } = await runOk('findmnt', ['-no', 'FSTYPE', native.path]);
  assert.equal(type.toString(), 'erofs\n');
  const all = await runOk('sh', ['-c', 'cd "$0" && sha256sum large middle short', native.path]);
  assert.equal(all.stdout.toString(), sums);
  // The cache is free again, and its copy is not touched by that.
  await using beside = await mountRemote({ ...remote, options: '' });
  const same = await runOk('sh', ['-c', 'cd "$0" && sha256sum large middle short', beside.path]);
  assert.equal(same.stdout.toString(), sums);
});
