/** Images of ext4 with everything in them, and mounting them as users do. */
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { makeExt4Image } from '../support/ext4-image.ts';
import { loopMount } from '../support/loop-mount.ts';
import { run, runOk } from '../support/run.ts';
import type { RunResult } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';
import { readFileSync, statSync } from 'node:fs';
import { isRunning, processStartTicks } from '../../src/base/run-directory.ts';

const launcher = path.join(import.meta.dirname, '../../ebb');
/** A native mount of a million files takes minutes on a busy machine. */
const mountTimeoutMs = 1_200_000;
const manifestScript = path.join(import.meta.dirname, 'manifest.ts');

/** What the kernel's own driver wrote: names, links, holes, attributes, devices. */
const fill = `
set -e
cd "$1"
mkdir -p a/b/c many 'sp ace'
head -c 3000000 /dev/urandom > a/large
head -c 1 /dev/urandom > a/b/tiny
: > a/b/empty
printf 'inline?' > a/b/c/short
dd if=/dev/urandom of=a/sparse bs=4096 count=3 seek=100 conv=notrunc status=none
dd if=/dev/urandom of=a/sparse bs=4096 count=1 seek=7 conv=notrunc status=none
truncate -s 1000000 a/sparse
truncate -s 20000000 a/hole
fallocate -l 200000 a/unwritten || truncate -s 200000 a/unwritten # ext3 has none
printf x | dd of=a/unwritten bs=1 seek=5000 conv=notrunc status=none
ln a/large a/b/hardlink
ln -s short a/link
ln -s "$(printf 'x%.0s' $(seq 300))" a/long-link
mkfifo a/fifo
mknod a/device c 300 70000
mknod a/block b 8 1
printf s > a/setuid; chmod 4755 a/setuid
printf o > a/owned; chown 4000:5000 a/owned; chmod 640 a/owned
printf n > "$(printf 'a/not-utf8-\\377\\376')"
for i in $(seq 1500); do echo $i > many/file-$i; done
touch -d '1960-01-02 03:04:05.123456789' a/b/old
touch -d '2100-01-02 03:04:05.987654321' a/b/new
setfattr -n user.comment -v hello a/large
setfattr -n user.big -v "$(head -c 600 /dev/zero | tr '\\0' y)" a/b/tiny
setfacl -m u:1234:rw,g:77:r a/owned
setfacl -d -m u:1234:rwx a/b
touch a/frag-1 a/frag-2
for i in $(seq 12); do
  dd if=/dev/urandom of=a/frag-1 bs=4096 count=1 oflag=append conv=notrunc,fdatasync status=none
  dd if=/dev/urandom of=a/frag-2 bs=4096 count=3 oflag=append conv=notrunc,fdatasync status=none
done
`;

export interface TestImage extends AsyncDisposable {
  readonly path: string;
  readonly directory: TemporaryDirectory;
}

/** An image that the kernel filled, unmounted again. Needs root. */
export async function filledImage(mkfsArguments: readonly string[] = []): Promise<TestImage> {
  const directory = await temporaryDirectory('image');
  try {
    const image = path.join(directory.path, 'disk.img');
    await makeExt4Image(image, 96, mkfsArguments);
    const filling = { timeoutMs: 120_000, debianPackage: 'acl, attr' };
    {
      await using mounted = await loopMount(image);
      await runOk('sh', ['-c', fill, 'fill', mounted.path], filling);
    }
    return {
      path: image,
      directory,
      [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
    };
  } catch (error) {
    await directory[Symbol.asyncDispose]();
    throw error;
  }
}

export interface ManifestLine {
  readonly name: string;
  readonly [fact: string]: unknown;
}

export function withoutFacts(
  lines: readonly ManifestLine[],
  without: readonly string[],
): ManifestLine[] {
  return lines.map((line) => {
    const kept = Object.entries(line).filter(([fact]) => !without.includes(fact));
    return Object.fromEntries(kept) as ManifestLine;
  });
}

/** What a process sees below `directory`; `without`: facts that are not to be compared. */
export async function manifest(
  directory: string,
  without: readonly string[] = [],
  user?: { readonly uid: number; readonly gid: number },
  timeoutMs = 120_000,
): Promise<ManifestLine[]> {
  const { stdout } = await runOk(process.execPath, [manifestScript, directory], {
    timeoutMs,
    ...user,
  });
  const lines = stdout
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as ManifestLine);
  return withoutFacts(lines, without);
}

/** Throws with the first difference: a whole manifest is nothing to look at. */
export function assertSame(seen: readonly ManifestLine[], expected: readonly ManifestLine[]): void {
  const wanted = new Map(expected.map((line) => [line.name, line]));
  for (const line of seen) assert.deepEqual(line, wanted.get(line.name));
  assert.deepEqual(
    seen.map((line) => line.name),
    [...wanted.keys()],
  );
}

export interface MountedImage extends AsyncDisposable {
  readonly path: string;
  readonly result: Readonly<Record<string, unknown>>;
  /** The process that holds the mount; 0: none. */
  readonly brokerPid: number;
  /** The sandboxed process that reads the image. */
  readonly serverPid: number;
  /** `ebb` in the environment of the mount. */
  ebb(...words: readonly string[]): Promise<RunResult>;
  isMounted(): boolean;
}

/** What the kernel reads ahead there. Needs root. */
export function readAheadKib(mountPoint: string): number {
  const { dev } = statSync(mountPoint);
  // Anonymous devices have major number 0 (makedev(3)).
  const minor = (dev & 0xff) | ((dev >>> 12) & ~0xff);
  return Number(readFileSync(`/sys/class/bdi/0:${minor}/read_ahead_kb`, 'latin1'));
}

function children(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim();
  return text === '' ? [] : text.split(' ').map(Number);
}

/** From its source, or from the code cache. */
const serverCommand = /server(\/main\.ts|\.mjs)/;

function commandLine(pid: number): string {
  return readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\\0', ' ');
}

/** The process below `pid` that runs the server's script. */
function serverBelow(pid: number): number {
  for (const child of children(pid)) {
    const below = serverBelow(child);
    if (below !== 0) return below;
    const isServer = serverCommand.test(commandLine(child));
    if (isServer && children(child).length === 0) return child;
  }
  return 0;
}

/** `ebb image mount`. Throws with its words when it fails. Disposing unmounts, whatever happened. */
export async function mountImage(
  image: Pick<TestImage, 'path'>,
  options = '',
  user?: { readonly uid: number; readonly gid: number },
  more: readonly string[] = [],
): Promise<MountedImage> {
  const base = await temporaryDirectory('image-mount');
  const mountPoint = path.join(base.path, 'mount');
  const env = { EBB_RUN_DIR: path.join(base.path, 'run') };
  await mkdir(mountPoint);
  // As after the first mount of a user since the machine was started.
  await mkdir(env.EBB_RUN_DIR, { mode: 0o700 });
  if (user !== undefined) await runOk('chown', ['-R', `${user.uid}:${user.gid}`, base.path]);
  const ebb = (...words: readonly string[]): Promise<RunResult> =>
    run(launcher, words, { env, timeoutMs: mountTimeoutMs, ...user });
  const isMounted = (): boolean =>
    readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${mountPoint} `);
  try {
    const words = options === '' ? [] : ['-o', options];
    const done = await ebb('image', 'mount', ...words, ...more, '--json', image.path, mountPoint);
    if (done.code !== 0) throw new Error(`${done.stdout.toString()}${done.stderr.toString()}`);
    const result = JSON.parse(done.stdout.toString()) as Record<string, unknown>;
    const brokerPid = Number(result['pid'] ?? 0);
    const startTicks = processStartTicks(brokerPid) ?? 0;
    return {
      path: mountPoint,
      result,
      brokerPid,
      serverPid: brokerPid === 0 ? 0 : serverBelow(brokerPid),
      ebb,
      isMounted,
      [Symbol.asyncDispose]: async () => {
        if (isMounted()) await run('umount', ['-l', mountPoint]);
        try {
          if (brokerPid !== 0) {
            await waitFor(() => !isRunning({ pid: brokerPid, startTicks }), {
              what: 'the end of the broker',
              timeoutMs: 60_000,
            });
          }
        } finally {
          await base[Symbol.asyncDispose]();
        }
      },
    };
  } catch (error) {
    await base[Symbol.asyncDispose]();
    throw error;
  }
}
