/** What the kernel does not have to ask the server of an image. Needs root. */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { chmod, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { toEbbError } from '../../src/base/errors.ts';
import { getXattr, listXattrs } from '../../src/sys/xattr.ts';
import { mountImage, readAheadKib } from '../image/fixture.ts';
import type { MountedImage } from '../image/fixture.ts';
import { makeExt4Image } from '../support/ext4-image.ts';
import { openFuseToEverybody } from '../support/fuse-device.ts';
import { loopMount } from '../support/loop-mount.ts';
import { patternBytes } from '../support/pattern.ts';
import { undisturbed } from '../support/kernel-caches.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const fileCount = 200;
let directory: TemporaryDirectory;
let plain: string;
let attributed: string;
/** With one large file besides: of 3 MB, and of 60 MiB. */
let few: string;
let many: string;
const large = patternBytes(3, 3_000_000);

/** An image of 200 small files in a directory; `fill` is done in it, too. */
async function filledWith(name: string, fill: string): Promise<string> {
  const image = path.join(directory.path, name);
  await makeExt4Image(image, 32);
  await using mounted = await loopMount(image);
  const files = `mkdir many; for i in $(seq ${fileCount}); do seq $i 500 > many/$i; done; ln -s 7 many/link`;
  const script = `set -e; cd "$0"; ${files}; ${fill}`;
  await runOk('sh', ['-c', script, mounted.path], { debianPackage: 'attr' });
  return image;
}

before(async () => {
  directory = await temporaryDirectory('requests');
  await chmod(directory.path, 0o755);
  plain = await filledWith('plain.img', ':');
  attributed = await filledWith('attributed.img', 'setfattr -n user.one -v 1 many/200');
  const content = path.join(directory.path, 'content');
  await writeFile(content, large);
  few = await filledWith('few.img', `cp ${content} large`);
  many = await filledWith('many.img', 'truncate -s 60M large');
});

after(() => directory[Symbol.asyncDispose]());

/** The attribute, or why there is none. */
function attributeOf(file: string, name: string): string {
  try {
    const value = getXattr(file, name);
    return value === undefined ? 'ENODATA' : Buffer.from(value).toString();
  } catch (error) {
    return toEbbError(error).code;
  }
}

/** Bytes that a process has read by system calls (proc_pid_io(5)). */
function bytesRead(pid: number): number {
  return Number(/^rchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'latin1'))?.[1]);
}

/** System calls of a process that read something (proc_pid_io(5)): a request to the server is at least one. */
function readCalls(pid: number): number {
  return Number(/^syscr: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'latin1'))?.[1]);
}

test('where no file has attributes, the kernel stops asking for them after some questions', async () => {
  await using mounted = await mountImage({ path: plain });
  const file = (index: number): string => path.join(mounted.path, `many/${index}`);
  assert.equal(attributeOf(file(1), 'user.none'), 'ENODATA');
  for (let index = 1; index <= fileCount; index += 1) {
    assert.equal(attributeOf(file(index), 'system.posix_acl_access'), 'ENODATA');
  }
  assert.deepEqual(listXattrs(file(1)), []);
  assert.equal(attributeOf(file(1), 'user.none'), 'EOPNOTSUPP');
  const askAll = (): void => {
    for (let index = 1; index <= fileCount; index += 1) attributeOf(file(index), 'user.none');
  };
  const calls = await undisturbed(() => {
    // The names may have been dropped before: these are looked up.
    askAll();
    const before = readCalls(mounted.serverPid);
    askAll();
    return readCalls(mounted.serverPid) - before;
  });
  // What the kernel forgets for want of memory is said to the server, too.
  assert.ok(calls < fileCount / 2, `${calls} calls`);
});

test('one file with an attribute is enough for every question to be answered', async () => {
  await using mounted = await mountImage({ path: attributed });
  const file = (index: number): string => path.join(mounted.path, `many/${index}`);
  for (let index = 1; index < fileCount; index += 1) {
    assert.equal(attributeOf(file(index), 'user.one'), 'ENODATA');
  }
  assert.equal(attributeOf(file(fileCount), 'user.one'), '1');
  assert.equal(attributeOf(file(1), 'user.one'), 'ENODATA');
});

test('the kernel of root reads in large pieces what the server answers', async () => {
  await using mounted = await mountImage({ path: plain });
  await waitFor(() => readAheadKib(mounted.path) === 1024, { what: 'read-ahead of 1 MiB' });
});

/** Opens and closes small files; how often the server was asked something for it, at least. */
function openSmallFiles({ path: root, serverPid }: MountedImage, times: number): number {
  const before = readCalls(serverPid);
  for (let index = 0; index < times; index += 1) {
    closeSync(openSync(path.join(root, `many/${1 + (index % fileCount)}`), 'r'));
  }
  return readCalls(serverPid) - before;
}

/** After so many OPENs the server looks whether it needs them (open-survey.ts). */
const opensMin = 1024;

test('where large files are few, nobody is asked at open any more after many opens', async () => {
  await using mounted = await mountImage({ path: few });
  const file = path.join(mounted.path, 'large');
  const reader = openSync(file, 'r');
  try {
    openSmallFiles(mounted, opensMin);
    // As long as a file is mapped, the kernel has to say when it is closed.
    assert.ok(openSmallFiles(mounted, fileCount) >= fileCount);
    assert.ok(readFileSync(reader).equals(large));
  } finally {
    closeSync(reader);
  }
  await waitFor(() => openSmallFiles(mounted, fileCount) < fileCount / 2, {
    what: 'opens that the server does not hear of',
  });
  for (const again of [1, 2]) assert.ok(readFileSync(file).equals(large), `${again}`);
  assert.match(readFileSync(path.join(mounted.path, 'many/9'), 'latin1'), /^9\n10\n/);
});

test('where large files are a large part, opens are answered: the kernel reads those alone', async () => {
  await using mounted = await mountImage({ path: many });
  openSmallFiles(mounted, opensMin);
  assert.ok(openSmallFiles(mounted, fileCount) >= fileCount);
  const before = bytesRead(mounted.serverPid);
  assert.equal(readFileSync(path.join(mounted.path, 'large')).length, 60 * 1024 * 1024);
  assert.ok(bytesRead(mounted.serverPid) - before < 1024 * 1024);
});

/** `nobody`: fusermount3 insists on an account with a name. */
const user = { uid: 65_534, gid: 65_534 };

test('what a user has read once is read and listed again without the server', async () => {
  await openFuseToEverybody();
  await using mounted = await mountImage({ path: plain }, '', user);
  const readAll =
    'cd "$0" && ls -lR | sha256sum && cat many/[0-9]* | sha256sum && tail -c 5 many/9';
  const { first, again, calls } = await undisturbed(async () => {
    const first = await runOk('sh', ['-c', readAll, mounted.path], user);
    const before = readCalls(mounted.serverPid);
    const again = await runOk('sh', ['-c', readAll, mounted.path], user);
    return { first, again, calls: readCalls(mounted.serverPid) - before };
  });
  assert.equal(again.stdout.toString(), first.stdout.toString());
  // Pages may go for want of memory, names do not: with a request for each open there would be 200 more.
  assert.ok(calls < fileCount / 2, `${calls} calls`);
  const expected = 'for i in $(ls -1 "$0/many" | grep -v link); do seq $i 500; done | sha256sum';
  const whole = await runOk('sh', ['-c', expected, mounted.path], user);
  assert.equal(first.stdout.toString().split('\n')[1], whole.stdout.toString().trim());
});
