/** Listings of directories that change, fail in part, or lie on file systems that tell little. */
import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { mkdir, rm, rmdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { openDirectoryRemote } from '../../src/remote/dir/dir-remote.ts';
import { mount } from '../../src/sys/mount.ts';
import { listAll, noSignal, rejectsWith, sortedNames } from '../conformance/collect.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';

const asRoot = { skip: process.getuid?.() === 0 ? false : 'needs root' };
const signal = noSignal;

/** Fewer than the kernel gives at once, and more than a batch has. */
const names = Array.from({ length: 600 }, (_unused, index) => `file-${index}`);

async function fill(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  for (const name of names) await writeFile(path.join(directory, name), name);
}

/** Takes the first batch, then lets `change` do what it likes with the rest; gives the names of all batches. */
async function listWhile(
  root: string,
  change: (firstNames: readonly string[]) => Promise<void>,
): Promise<string[]> {
  const remote = await openDirectoryRemote(root);
  const listed: string[] = [];
  for await (const batch of remote.list('d', { signal })) {
    const isFirst = listed.length === 0;
    listed.push(...batch.objects.map(({ name }) => name));
    if (isFirst) await change([...listed]);
  }
  return listed;
}

for (const [what, mkfsArguments] of [
  ['tells kinds', []],
  ['tells no kinds', ['-O', '^filetype']],
] as const) {
  test(
    `what goes while a file system that ${what} is listed is left out, and nothing else`,
    asRoot,
    async () => {
      await using filesystem = await loopFilesystem({ type: 'ext4', mkfsArguments });
      const directory = path.join(filesystem.path, 'd');
      await fill(directory);
      const kept = await listWhile(filesystem.path, async (first) => {
        assert.ok(first.length < names.length, 'there is more to come');
        const gone = names.filter((name) => !first.includes(name));
        for (const name of gone.slice(1)) await rm(path.join(directory, name));
      });
      assert.ok(kept.length > 1 && new Set(kept).size === kept.length);
      const left = await openDirectoryRemote(filesystem.path);
      assert.deepEqual(kept.sort(), sortedNames(await listAll(left, 'd')));
    },
  );
}

test('a directory that is removed while it is listed does not exist, however much of it has come', async () => {
  await using temporary = await temporaryDirectory('listing');
  const directory = path.join(temporary.path, 'd');
  await fill(directory);
  const listing = listWhile(temporary.path, async () => {
    for (const name of names) await rm(path.join(directory, name));
    await rmdir(directory);
  });
  await assert.rejects(listing, { code: 'ENOENT' });
});

test(
  'what cannot be looked at has its name and its kind, and hides nothing beside it',
  asRoot,
  async () => {
    await using temporary = await temporaryDirectory('listing');
    const dead = path.join(temporary.path, 'dead');
    await mkdir(dead);
    await writeFile(path.join(temporary.path, 'file'), 'x');
    // Its connection ends with the last descriptor: as of a FUSE file system whose program has died.
    const fd = openSync('/dev/fuse', 'r+');
    try {
      const options = `fd=${fd},rootmode=40000,user_id=0,group_id=0`;
      mount({ source: 'dead', target: dead, type: 'fuse', data: options });
    } finally {
      closeSync(fd);
    }
    const remote = await openDirectoryRemote(temporary.path);
    const { objects } = await listAll(remote, '');
    assert.deepEqual([...objects.keys()].sort(), ['dead', 'file']);
    assert.deepEqual(objects.get('dead'), { name: 'dead', kind: 'directory' });
    assert.equal(objects.get('file')?.sizeBytes, 1);
    await rejectsWith(listAll(remote, 'dead'), 'ENOTCONN');
    await rejectsWith(remote.stat('dead', { signal }), 'ENOTCONN');
  },
);
