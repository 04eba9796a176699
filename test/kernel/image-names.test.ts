/** Walks through an image by names, and who asks for attributes after or beside them. Needs root. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { mountImage } from '../image/fixture.ts';
import type { MountedImage } from '../image/fixture.ts';
import { makeExt4Image } from '../support/ext4-image.ts';
import { undisturbed } from '../support/kernel-caches.ts';
import { loopMount } from '../support/loop-mount.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';

const directoryCount = 40;
const fileCount = 2000;
let directory: TemporaryDirectory;
let image: string;
let expected: string;

const fill = `
set -e
cd "$0"
for d in $(seq ${directoryCount}); do
  mkdir d$d d$d/below
  for f in $(seq ${fileCount / directoryCount}); do echo $d > d$d/f$f; done
  chmod 6$((d % 8))5$((d % 4)) d$d/f1
  ln -s f1 d$d/link
  ln d$d/f2 d$d/below/hard
  mkfifo d$d/below/pipe
done`;

/** All that stat(2) says of each file. */
async function attributes(root: string): Promise<string> {
  const print = String.raw`find . -printf '%p %y %m %n %U %s %b %i %T@ %C@ %l\n' | LC_ALL=C sort`;
  return (await runOk('sh', ['-c', `cd "$0" && ${print}`, root])).stdout.toString();
}

function walkByNames(root: string): Promise<unknown> {
  return runOk('find', [root, '-name', 'no such name']);
}

/** System calls of the server that read something: a request is at least one (proc_pid_io(5)). */
function readCalls({ serverPid }: MountedImage): number {
  return Number(/^syscr: (\d+)$/m.exec(readFileSync(`/proc/${serverPid}/io`, 'latin1'))?.[1]);
}

before(async () => {
  directory = await temporaryDirectory('names');
  image = path.join(directory.path, 'image');
  await makeExt4Image(image, 32);
  {
    await using mounted = await loopMount(image);
    await runOk('sh', ['-c', fill, mounted.path]);
  }
  await using kernel = await loopMount(image, { mountOptions: 'ro' });
  expected = await attributes(kernel.path);
});

after(() => directory[Symbol.asyncDispose]());

test('whoever asks for attributes after a walk by names gets them, and not file by file', async () => {
  const calls = await undisturbed(async () => {
    await using mounted = await mountImage({ path: image });
    await walkByNames(mounted.path);
    const before = readCalls(mounted);
    await walkByNames(mounted.path);
    const again = readCalls(mounted) - before;
    assert.equal(await attributes(mounted.path), expected);
    const first = readCalls(mounted) - before - again;
    assert.equal(await attributes(mounted.path), expected);
    return { again, first, second: readCalls(mounted) - before - again - first };
  });
  assert.ok(calls.again < directoryCount, `names again: ${calls.again} calls`);
  // Nobody has told the kernel of the files before; each directory is listed once more.
  assert.ok(calls.first >= directoryCount && calls.first < fileCount / 2, `${calls.first} calls`);
  assert.ok(calls.second < directoryCount, `attributes again: ${calls.second} calls`);
});

test('what is in use keeps its place when the kernel forgets what it listed by names', async () => {
  await using mounted = await mountImage({ path: image });
  await walkByNames(mounted.path);
  const script = `
    set -e
    mount -t tmpfs -o size=64k ebb "$0/d7/below"
    trap 'umount "$0/d7/below"' EXIT
    echo here > "$0/d7/below/mine"
    cd "$0/d9/below"
    find "$0" -xdev -type f -size +1000 -o -name pipe > /dev/null
    stat -c %n "$0"/d[1-5]/f* > /dev/null
    cat "$0/d7/below/mine"
    stat -c %h hard ../f2`;
  const { stdout } = await runOk('sh', ['-c', script, mounted.path]);
  assert.equal(stdout.toString(), 'here\n2\n2\n');
  assert.equal(await attributes(mounted.path), expected);
});

test('walks by names and by attributes beside each other see the same', async () => {
  await using mounted = await mountImage({ path: image });
  const walks = Array.from({ length: 6 }, (_, index) =>
    index % 2 === 0 ? walkByNames(mounted.path) : attributes(mounted.path),
  );
  for (const seen of await Promise.all(walks)) {
    if (typeof seen === 'string') assert.equal(seen, expected);
  }
  assert.equal(await attributes(mounted.path), expected);
});
