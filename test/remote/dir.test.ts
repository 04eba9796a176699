/** The directory remote keeps the contract, and what is special about directories. */
import assert from 'node:assert/strict';
import {
  chmod,
  chown,
  mkdir,
  open,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { openDirectoryRemote } from '../../src/remote/dir/dir-remote.ts';
import { hasStableInodes, timestampOf } from '../../src/remote/dir/facts.ts';
import { isSameRoot } from '../../src/remote/dir/root.ts';
import { FilesystemMagic } from '../../src/sys/statfs.ts';
import {
  CollectingSink,
  listAll,
  noSignal,
  readAll,
  rejectsWith,
  sortedNames,
} from '../conformance/collect.ts';
import { remoteConformance } from '../conformance/remote.ts';
import { loopMount } from '../support/loop-mount.ts';
import { patternBytes } from '../support/pattern.ts';
import { directoryFixture } from '../support/remote-fixtures.ts';
import { run, runOk } from '../support/run.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

remoteConformance('dir', () => directoryFixture());

const asRoot = { skip: process.getuid?.() === 0 ? false : 'needs root' };
const signal = noSignal;

/** The directory streams of the listings are closed a moment after their last entry. */
async function unmountIdle(mountPoint: string): Promise<void> {
  const unmounted = async (): Promise<boolean> => {
    await runOk('umount', [mountPoint]);
    return true;
  };
  await waitFor(unmounted, { what: 'the filesystem to be idle' });
}

/** Somebody's copy of all mounts may keep the one before in use a moment after it was unmounted here. */
async function makeAnother(type: string, device: string): Promise<void> {
  const made = async (): Promise<boolean> => {
    await runOk(`mkfs.${type}`, ['-q', type === 'ext4' ? '-F' : '-f', device]);
    return true;
  };
  await waitFor(made, { what: `another ${type}` });
}

void test('times before 1970 have a positive fraction', () => {
  assert.deepEqual(timestampOf(-250_000_000n), { seconds: -1, nanoseconds: 750_000_000 });
  assert.deepEqual(timestampOf(0n), { seconds: 0, nanoseconds: 0 });
  assert.deepEqual(timestampOf(1_500_000_001n), { seconds: 1, nanoseconds: 500_000_001 });
});

void test('pipes and sockets are listed as other, and reading one does not wait', async () => {
  await using fixture = await directoryFixture();
  await runOk('mkfifo', [`${fixture.root}/pipe`]);
  assert.equal((await listAll(fixture.remote, '')).objects.get('pipe')?.kind, 'other');
  assert.equal((await fixture.remote.stat('pipe', { signal })).kind, 'other');
  await rejectsWith(readAll(fixture.remote, 'pipe'), 'EOPNOTSUPP');
});

void test('owners, modes, user xattrs', asRoot, async () => {
  await using fixture = await directoryFixture();
  await fixture.put('file', Buffer.from('x'));
  await fixture.putDirectory('folder');
  await chown(`${fixture.root}/file`, 1234, 56_789);
  await chmod(`${fixture.root}/file`, 0o4751);
  await chmod(`${fixture.root}/folder`, 0o1777);
  const { mode, uid, gid, xattrs } = await fixture.remote.stat('file', { signal });
  assert.deepEqual([mode, uid, gid, xattrs], [0o4751, 1234, 56_789, undefined]);
  assert.equal((await fixture.remote.stat('folder', { signal })).mode, 0o1777);
  const set = ['-n', 'user.note', '-v', '0x00ff41', `${fixture.root}/file`];
  await runOk('setfattr', set, { debianPackage: 'attr' });
  const listed = (await listAll(fixture.remote, '')).objects.get('file');
  assert.deepEqual([...(listed?.xattrs ?? [])], [['user.note', Uint8Array.of(0, 0xff, 0x41)]]);
});

void test('mtime set back does not hide a change', async () => {
  await using fixture = await directoryFixture();
  const file = `${fixture.root}/file`;
  await writeFile(file, 'before');
  await utimes(file, 1_600_000_000, 1_600_000_000);
  const { version } = await fixture.remote.stat('file', { signal });
  await writeFile(file, 'after!');
  await utimes(file, 1_600_000_000, 1_600_000_000);
  await rejectsWith(readAll(fixture.remote, 'file', { version }), 'ESTALE');
});

void test('a file written in place during a read: not one byte of the new content', async () => {
  await using fixture = await directoryFixture();
  const old = patternBytes(1, 1_000_000);
  await fixture.put('file', old);
  const { version } = await fixture.remote.stat('file', { signal });
  await using writer = await open(`${fixture.root}/file`, 'r+');
  const sink = new CollectingSink({
    onFilled: async (_count, total) => {
      if (total === 65_536 * 4) await writer.write(patternBytes(2, 1_000_000), 0, 1_000_000, 0);
    },
  });
  await rejectsWith(readAll(fixture.remote, 'file', { version }, sink), 'ESTALE');
  assert.ok(sink.bytes().equals(old.subarray(0, 65_536 * 4)));
});

void test('a directory swapped for a symlink does not lead out of the root', async () => {
  await using outside = await temporaryDirectory('outside');
  await writeFile(`${outside.path}/secret`, 'secret');
  await using fixture = await directoryFixture();
  await fixture.put('a/b/secret', Buffer.from('public'));
  const { version } = await fixture.remote.stat('a/b/secret', { signal });
  await rename(`${fixture.root}/a/b`, `${fixture.root}/a/was`);
  await symlink(outside.path, `${fixture.root}/a/b`);
  await rejectsWith(readAll(fixture.remote, 'a/b/secret', { version }), 'ENOENT');
  await rejectsWith(fixture.remote.stat('a/b/secret', { signal }), 'ENOENT');
  await rejectsWith(listAll(fixture.remote, 'a/b'), 'ENOTDIR');
});

void test('a root that is replaced or gone is EIO, never an empty listing', async () => {
  await using directory = await temporaryDirectory('root');
  const root = `${directory.path}/root`;
  await mkdir(root);
  await writeFile(`${root}/file`, 'x');
  const remote = await openDirectoryRemote(root);
  assert.deepEqual(sortedNames(await listAll(remote, '')), ['file']);
  await rename(root, `${root}.away`);
  assert.equal((await rejectsWith(listAll(remote, ''), 'EIO')).retryable, true);
  await rejectsWith(remote.stat('file', { signal }), 'EIO');
  await mkdir(root);
  await rejectsWith(listAll(remote, ''), 'EIO');
  await rejectsWith(readAll(remote, 'file'), 'EIO');
  await rm(root, { recursive: true });
  await rename(`${root}.away`, root);
  assert.deepEqual(sortedNames(await listAll(remote, '')), ['file']);
});

void test('an unmounted filesystem, as the root or below it, is EIO', asRoot, async () => {
  await using filesystem = await loopFilesystem({ type: 'ext4' });
  await writeFile(`${filesystem.path}/file`, 'x');
  const below = await openDirectoryRemote(`${filesystem.path}/..`);
  const remote = await openDirectoryRemote(filesystem.path);
  assert.equal((await listAll(remote, '')).objects.get('file')?.kind, 'file');
  assert.equal((await listAll(below, '')).objects.get('mount')?.kind, 'directory');
  assert.ok((await listAll(below, 'mount')).objects.has('file'));
  await unmountIdle(filesystem.path);
  await rejectsWith(listAll(remote, ''), 'EIO');
  await rejectsWith(remote.stat('file', { signal }), 'EIO');
  await rejectsWith(listAll(below, 'mount'), 'EIO');
  await rejectsWith(below.stat('mount/file', { signal }), 'EIO');
  await rejectsWith(readAll(below, 'mount/file'), 'EIO');
});

for (const type of ['ext4', 'xfs'] as const) {
  void test(
    `the root is known again when ${type} is mounted from another device`,
    asRoot,
    async () => {
      await using filesystem = await loopFilesystem({ type });
      let expectedRoot: string | undefined;
      await openDirectoryRemote(filesystem.path, { onRoot: (root) => (expectedRoot = root) });
      assert.ok(expectedRoot !== undefined);
      const { dev } = await stat(filesystem.path);
      await runOk('umount', [filesystem.path]);
      const failure = await rejectsWith(
        openDirectoryRemote(filesystem.path, { expectedRoot }),
        'EIO',
      );
      assert.match(failure.message, /is its filesystem not mounted/);
      const copy = `${filesystem.imagePath}.copy`;
      await runOk('cp', ['--sparse=always', filesystem.imagePath, copy]);
      await using mounted = await loopMount(copy, { at: filesystem.path });
      assert.notEqual((await stat(mounted.path)).dev, dev);
      await openDirectoryRemote(mounted.path, { expectedRoot });
    },
  );
}

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  void test(
    `${type} that is mounted again under another device number is the same root, and what was mounted in it is missed`,
    asRoot,
    async () => {
      await using filesystem = await loopFilesystem({ type });
      await using occupied = await temporaryDirectory('occupied');
      const { path: root, imagePath } = filesystem;
      const mountTmpfs = (at: string) => runOk('mount', ['-t', 'tmpfs', 'none', at]);
      await mkdir(`${root}/d/below`, { recursive: true });
      await writeFile(`${root}/d/file`, 'x');
      await mountTmpfs(`${root}/d/below`);
      await writeFile(`${root}/d/below/inner`, 'x');
      const remote = await openDirectoryRemote(root);
      const { version } = await remote.stat('d/file', { signal });
      assert.deepEqual(sortedNames(await listAll(remote, 'd')), ['below', 'file']);
      assert.deepEqual(sortedNames(await listAll(remote, 'd/below')), ['inner']);
      const { dev } = await stat(root);
      await unmountIdle(`${root}/d/below`);
      await unmountIdle(root);
      // The number of a btrfs, and that of the tmpfs, are somebody's now. The others have that of their loop device.
      for (const at of ['a', 'b']) {
        await mkdir(`${occupied.path}/${at}`);
        await mountTmpfs(`${occupied.path}/${at}`);
      }
      await using stack = new AsyncDisposableStack();
      if (type === 'btrfs') await runOk('mount', [filesystem.device, root]);
      else {
        const copy = `${imagePath}.copy`;
        await runOk('cp', ['--sparse=always', imagePath, copy]);
        stack.use(await loopMount(copy, { at: root }));
      }
      assert.notEqual((await stat(root)).dev, dev);
      assert.equal((await readAll(remote, 'd/file', { version })).bytes.toString(), 'x');
      assert.deepEqual(sortedNames(await listAll(remote, 'd')), ['below', 'file']);
      await rejectsWith(listAll(remote, 'd/below'), 'EIO');
      await rejectsWith(remote.stat('d/below/inner', { signal }), 'EIO');
    },
  );
}

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  void test(
    `another ${type} in the place of the root's is EIO; the same one, mounted again, is not`,
    asRoot,
    async () => {
      await using filesystem = await loopFilesystem({ type });
      const { device, path: root } = filesystem;
      const bytes = patternBytes(1, 5000);
      await mkdir(`${root}/d`);
      await writeFile(`${root}/d/file`, bytes);
      let expectedRoot = '';
      const remote = await openDirectoryRemote(root, { onRoot: (name) => (expectedRoot = name) });
      const isRight = async (): Promise<void> => {
        assert.ok((await readAll(remote, 'd/file')).bytes.equals(bytes));
        assert.deepEqual(sortedNames(await listAll(remote, 'd')), ['file']);
      };
      await isRight();
      const before = await stat(root, { bigint: true });
      await unmountIdle(root);
      await runOk('mount', [device, root]);
      await isRight();
      await unmountIdle(root);
      // The same device and inode number.
      await makeAnother(type, device);
      await runOk('mount', [device, root]);
      const { dev, ino } = await stat(root, { bigint: true });
      assert.equal(ino, before.ino);
      if (type !== 'btrfs') assert.equal(dev, before.dev);
      await mkdir(`${root}/d`);
      await writeFile(`${root}/d/file`, 'other');
      await rejectsWith(listAll(remote, ''), 'EIO');
      await rejectsWith(remote.stat('d/file', { signal }), 'EIO');
      await rejectsWith(remote.stat('d/none', { signal }), 'EIO');
      await rejectsWith(readAll(remote, 'd/file'), 'EIO');
      const otherRootHint = 'See there.';
      const failure = await rejectsWith(
        openDirectoryRemote(root, { expectedRoot, otherRootHint }),
        'EIO',
      );
      assert.match(failure.message, /another directory than before.* See there\./);
    },
  );
}

void test(
  'another subvolume of the same btrfs in the place of the root is EIO',
  asRoot,
  async () => {
    await using filesystem = await loopFilesystem({ type: 'btrfs' });
    const { device, path: root } = filesystem;
    for (const name of ['a', 'b']) await runOk('btrfs', ['subvolume', 'create', `${root}/${name}`]);
    await unmountIdle(root);
    const mountSubvolume = (name: string) => runOk('mount', ['-o', `subvol=${name}`, device, root]);
    await mountSubvolume('a');
    let expectedRoot = '';
    await openDirectoryRemote(root, { onRoot: (name) => (expectedRoot = name) });
    await unmountIdle(root);
    await mountSubvolume('b');
    await rejectsWith(openDirectoryRemote(root, { expectedRoot }), 'EIO');
    await unmountIdle(root);
    await mountSubvolume('a');
    await openDirectoryRemote(root, { expectedRoot });
  },
);

void test('versions keep inode numbers that only a remount changes', () => {
  const [vfat, exfat, fuse] = [0x4d44, 0x2011bab0, FilesystemMagic.fuse];
  assert.deepEqual([vfat, exfat, fuse].map(hasStableInodes), [true, true, false]);
});

void test('a name that told less is matched by one that tells more, not the other way', () => {
  assert.ok(isSameRoot('ef53:2', 'ef53:2:0a'));
  assert.ok(isSameRoot('6a:7:', '6a:7:'));
  assert.ok(isSameRoot('65735546::', '65735546::'));
  // Of an Ebb that did not know yet that these numbers change.
  assert.ok(isSameRoot('794c7630:123', '794c7630::'));
  assert.ok(isSameRoot('4d44:1', '4d44::'));
  assert.equal(isSameRoot('794c7630:123', '4d44::'), false);
  for (const found of ['ef53:2', 'ef53:2:', 'ef53:2:0b', 'ef53:3:0a', '9123:2:0a']) {
    assert.equal(isSameRoot('ef53:2:0a', found), false, found);
  }
});

for (const type of ['xfs', 'btrfs'] as const) {
  void test(`holes, versions and names on ${type}`, asRoot, async () => {
    await using filesystem = await loopFilesystem({ type });
    const sparse = `${filesystem.path}/sparse`;
    await using file = await open(sparse, 'w');
    await file.truncate(3_000_000);
    await file.write(patternBytes(1, 5000), 0, 5000, 1_000_001);
    const remote = await openDirectoryRemote(filesystem.path);
    assert.ok((await readAll(remote, 'sparse')).bytes.equals(await readFile(sparse)));
    const { version } = await remote.stat('sparse', { signal });
    await file.write(Buffer.of(7), 0, 1, 0);
    await rejectsWith(readAll(remote, 'sparse', { version }), 'ESTALE');
    await filesystemUnmountable(filesystem.path);
  });
}

/**
 * No descriptor of the remote keeps the filesystem busy (the test's own file does not count: `lsof`
 * by /proc).
 */
async function filesystemUnmountable(mountPoint: string): Promise<void> {
  const found = await run('/bin/sh', [
    '-c',
    `ls -l /proc/${process.pid}/fd | grep -c "${mountPoint}"`,
  ]);
  assert.equal(Number(found.stdout.toString()), 1);
}

void test('without permission it is EACCES', asRoot, async () => {
  await using directory = await temporaryDirectory('closed');
  await chmod(directory.path, 0o755);
  await mkdir(`${directory.path}/shut`, { mode: 0o700 });
  await writeFile(`${directory.path}/shut/file`, 'x');
  const module = path.join(import.meta.dirname, '../../src/remote/dir/dir-remote.ts');
  const script = `
    const { openDirectoryRemote } = await import(${JSON.stringify(module)});
    process.setgroups([]); process.setgid(65534); process.setuid(65534);
    const remote = await openDirectoryRemote(${JSON.stringify(directory.path)});
    const signal = new AbortController().signal;
    await remote.stat('shut/file', { signal }).catch((error) => console.log(error.code));
    try { for await (const batch of remote.list('shut', { signal })) console.log(batch); }
    catch (error) { console.log(error.code); }`;
  const result = await runOk(process.execPath, ['--input-type=module', '-e', script]);
  assert.equal(result.stdout.toString(), 'EACCES\nEACCES\n');
});

void test('what is no directory cannot be opened', async () => {
  await rejectsWith(openDirectoryRemote('relative'), 'EINVAL');
  await rejectsWith(openDirectoryRemote('/no/such/directory'), 'ENOENT');
  await rejectsWith(openDirectoryRemote(import.meta.filename), 'ENOTDIR');
});
