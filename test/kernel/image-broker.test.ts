/** What a broker holds when its mount has ended, or was not made: nothing of it. Needs root. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { mkdir, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { RecalledImage } from '../../src/daemon/image/recalled-image.ts';
import { serveImage } from '../../src/image/broker/serve.ts';
import { serverScript } from '../../src/image/sandbox/code-cache.ts';
import { localSource } from '../../src/image/broker/source.ts';
import type { ImageSource } from '../../src/image/broker/source.ts';
import { makeImage } from '../ext4/support/images.ts';
import { serveImages } from '../image/remote-fixture.ts';
import { runOk } from '../support/run.ts';
import type { RunningServer } from '../support/servers.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

let directory: TemporaryDirectory;
let mountPoint: string;
let origin: RunningServer;
const place = { script: serverScript.source, args: [], output: 'ignore' as const };

before(async () => {
  directory = await temporaryDirectory('image-broker');
  mountPoint = path.join(directory.path, 'mount');
  const source = path.join(directory.path, 'source');
  await mkdir(mountPoint);
  await mkdir(source);
  await writeFile(path.join(source, 'large'), new Uint8Array(3_000_000).fill(7));
  await makeImage(
    directory.path,
    ['-t', 'ext4', '-O', '^has_journal', '-d', source],
    16 << 20,
    'disk.img',
  );
  const none = path.join(directory.path, 'none.img');
  await writeFile(none, '');
  await truncate(none, 16 << 20);
  origin = await serveImages(directory.path);
});

after(async () => {
  await origin.stop();
  await directory[Symbol.asyncDispose]();
});

/** What this process has open: names, and of what has none its kind. */
function open(): string[] {
  const names = readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`).replace(/:\[\d+\]$/, '')];
    } catch {
      // The directory itself.
      return [];
    }
  });
  return names.filter((name) => !name.startsWith('/proc/')).toSorted();
}

/** Whether no name is there more often than before. */
function isWithin(names: readonly string[], before: readonly string[]): boolean {
  const countIn = (list: readonly string[], name: string): number =>
    list.filter((other) => other === name).length;
  return names.every((name) => countIn(names, name) <= countIn(before, name));
}

/** Servers and keepers among the children of this process. */
function running(): string[] {
  const text = readFileSync(`/proc/self/task/${process.pid}/children`, 'latin1');
  return text.split(' ').flatMap((pid) => {
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'latin1');
      return /server\/main\.ts|ebb-image-keeper/.test(line) ? [line] : [];
    } catch {
      return [];
    }
  });
}

/** Mounts and unmounts, with a file that was mapped; or is refused. */
async function serveOnce(source: ImageSource, isImage: boolean): Promise<void> {
  const options = { imagePath: source.name, mountPoint, native: false, allowOther: false };
  if (!isImage) {
    await assert.rejects(serveImage(options, place, source), /cannot be mounted/);
    return;
  }
  const mounted = await serveImage(options, place, source);
  const { stdout } = await runOk('wc', ['-c', path.join(mountPoint, 'large')]);
  assert.match(stdout.toString(), /^3000000 /);
  mounted.stop();
  assert.equal(await mounted.ended, undefined);
}

const kinds: readonly (readonly [kind: string, act: (name: string) => Promise<void>])[] = [
  [
    'a local image',
    (name) => serveOnce(localSource(path.join(directory.path, name)), name === 'disk.img'),
  ],
  [
    'a remote image',
    async (name) => {
      const cacheDirectory = path.join(directory.path, `cache-${name}`);
      const url = `${origin.url}${name}`;
      const image = await RecalledImage.open({ url, access: {}, cacheDirectory, log: () => {} });
      try {
        await serveOnce(image.source, name === 'disk.img');
      } finally {
        await image[Symbol.asyncDispose]();
      }
    },
  ],
];

for (const [kind, act] of kinds) {
  for (const name of ['disk.img', 'none.img']) {
    const what = name === 'disk.img' ? 'was mounted' : 'is none';
    test(`${kind} that ${what} leaves no descriptor and no process in its broker`, async () => {
      // The first one starts what stays, as the threads of the pool.
      await act(name);
      const before = open();
      await act(name);
      // Of the first one some may have been closing still.
      await waitFor(() => isWithin(open(), before), { what: 'the end of all descriptors' });
      await waitFor(() => running().length === 0, { what: 'the end of all processes' });
    });
  }
}

test('what a script has open while it mounts, as a lock, is its own: no process of the mount keeps it', async () => {
  const lock = path.join(directory.path, 'lock');
  const words = 'exec 200>"$1"; flock 200; exec "$2" image mount "$3" "$4"';
  const launcher = path.join(import.meta.dirname, '../../ebb');
  const image = path.join(directory.path, 'disk.img');
  const env = { EBB_RUN_DIR: path.join(directory.path, 'run') };
  await runOk('bash', ['-c', words, 'script', lock, launcher, image, mountPoint], { env });
  try {
    await runOk('flock', ['--nonblock', lock, 'true']);
  } finally {
    await runOk(launcher, ['umount', mountPoint], { env });
  }
});
