/**
 * An image that libfuse's mount program mounts: the service has no rights, opens nothing by name and mounts nothing.
 * No Debian has that program: test/support/mount-program.py speaks its protocol, and mounts. Needs root.
 */
import assert from 'node:assert/strict';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { makeImage } from '../ext4/support/images.ts';
import { processLives } from '../support/processes.ts';
import { patternBytes } from '../support/pattern.ts';
import { run, runOk } from '../support/run.ts';
import { mountsBelow, temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const program = path.join(import.meta.dirname, '../support/mount-program.py');
const service = path.join(import.meta.dirname, '../../src/image/service/main.ts');
/** As the unit starts it. */
const withoutRights =
  'setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all --'.split(
    ' ',
  );
const content = patternBytes(7, 3_000_000);

let directory: TemporaryDirectory;
let image: string;
let mountPoint: string;

before(async () => {
  directory = await temporaryDirectory('service');
  const source = path.join(directory.path, 'source');
  await mkdir(source);
  await writeFile(path.join(source, 'large'), content);
  image = await makeImage(directory.path, ['-t', 'ext4', '-d', source], 16 << 20);
  // Only who mounts can read it.
  await chmod(image, 0o600);
  mountPoint = path.join(directory.path, 'mount');
  await mkdir(mountPoint);
});

after(() => directory[Symbol.asyncDispose]());

interface Said {
  readonly pid: number;
  readonly code: number | null;
  readonly asked: readonly string[];
}

/** Mounts, with these words behind the type. */
async function mountBy(words: readonly string[]): Promise<Said> {
  const typed = JSON.stringify(['ebb-image', ...words]);
  const command = [...withoutRights, process.execPath, service];
  const { stdout } = await runOk('python3', [program, typed, ...command], { timeoutMs: 120_000 });
  return JSON.parse(stdout.toString()) as Said;
}

test('a service without rights serves what the mount program has opened and mounts', async () => {
  const { pid, code, asked } = await mountBy([image, mountPoint, '-o', 'ro,nofail']);
  try {
    assert.deepEqual(
      { code, asked },
      { code: 0, asked: ['OPEN', 'TYPE', 'NAME', 'MNTP', 'OPTS', 'DOIT', 'BYEE'] },
    );
    const read = await runOk('cat', [path.join(mountPoint, 'large')]);
    assert.ok(read.stdout.equals(content));
    const { stdout } = await runOk('findmnt', ['-no', 'FSTYPE,SOURCE,OPTIONS', mountPoint]);
    assert.match(stdout.toString(), /^fuse\.ebb-image +\S+image +ro,nosuid,nodev,/);
  } finally {
    const umount = await run('umount', [mountPoint]);
    assert.equal(umount.code, 0, umount.stderr.toString());
    await waitFor(() => !processLives(pid), { what: 'the end of the service' });
  }
});

test('a service that dies is told to its users at once', async () => {
  const { pid, code } = await mountBy([image, mountPoint]);
  try {
    assert.equal(code, 0);
    process.kill(pid, 'SIGKILL');
    await waitFor(() => !processLives(pid), { what: 'the end of the service' });
    const isTold = async (): Promise<boolean> =>
      /not connected|connection abort/.test((await run('ls', [mountPoint])).stderr.toString());
    await waitFor(isTold, { what: 'an error' });
  } finally {
    await run('umount', ['-l', mountPoint]);
  }
});

for (const [what, words] of [
  ['is no image', (): string[] => [path.join(directory.path, 'none'), mountPoint]],
  ['is missing', (): string[] => [path.join(directory.path, 'missing'), mountPoint]],
  ['has options that nobody knows', (): string[] => [image, mountPoint, '-o', 'rw']],
] as const) {
  test(`what ${what} is not mounted, and the mount program hears of it`, async () => {
    await writeFile(path.join(directory.path, 'none'), new Uint8Array(1 << 20));
    const { pid, code, asked } = await mountBy(words());
    assert.equal(code, 1);
    assert.ok(!asked.includes('DOIT'), asked.join());
    assert.deepEqual(await mountsBelow(mountPoint), []);
    await waitFor(() => !processLives(pid), { what: 'the end of the service' });
  });
}
