/** Detached mounts, entries relative to descriptors, syncfs: on real file systems. Needs root. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import {
  linkEntry,
  linkFile,
  makeDirectory,
  makeSymlink,
  readSymlink,
  removeDirectory,
  removeFile,
  renameEntry,
  setOwner,
} from '../../src/sys/entries.ts';
import { OpenFlag, openFd } from '../../src/sys/fd.ts';
import { pwrite } from '../../src/sys/io.ts';
import { UnmountFlag, unmount } from '../../src/sys/mount.ts';
import { MountAttribute, attachMount, changeMount, cloneMount } from '../../src/sys/mount-tree.ts';
import { fileStatus, fileStatusAt } from '../../src/sys/stat.ts';
import { syncFilesystemAsync } from '../../src/sys/writeback.ts';
import { LoopFilesystem, TemporaryDirectory } from './support.ts';

const S_IFREG = 0o100000;
const bytes = (value: string): Uint8Array => new Uint8Array(Buffer.from(value, 'latin1'));

test('a cloned mount lives apart, is attached, is made read-only, and is gone with its descriptor', () => {
  using loop = new LoopFilesystem('ext4');
  using directory = new TemporaryDirectory();
  mkdirSync(loop.join('data'));
  writeFileSync(loop.join('data/file'), 'content');
  const point = directory.join('point');
  mkdirSync(point);
  {
    using tree = cloneMount(loop.join('data'));
    changeMount(tree.fd, { propagation: 'private' });
    // Reachable by the descriptor alone.
    using file = openFd('file', OpenFlag.rdwr, 0, tree.fd);
    assert.equal(pwrite(file.fd, bytes('C'), 0), 1);
    assert.equal(readFileSync(loop.join('data/file'), 'latin1'), 'Content');
    assert.doesNotMatch(readFileSync('/proc/self/mountinfo', 'utf8'), / \/data /);
  }
  {
    using tree = cloneMount(loop.join('data'));
    attachMount(tree.fd, point);
    try {
      assert.deepEqual(readdirSync(point), ['file']);
      changeMount(point, { set: MountAttribute.rdonly | MountAttribute.noatime, recursive: true });
      assert.throws(() => writeFileSync(`${point}/file`, ''), { code: 'EROFS' });
      writeFileSync(loop.join('data/file'), 'still writable there');
      changeMount(point, { clear: MountAttribute.rdonly });
      writeFileSync(`${point}/file`, 'and here');
    } finally {
      unmount(point, UnmountFlag.detach);
    }
    assert.deepEqual(readdirSync(point), []);
  }
  assert.throws(() => cloneMount(directory.join('nothing')), { code: 'ENOENT' });
  assert.throws(() => changeMount(loop.join('data'), { set: MountAttribute.rdonly }), {
    code: 'EINVAL',
  });
  using file = openFd('/dev/null', OpenFlag.rdonly);
  assert.throws(() => attachMount(file.fd, point), { code: 'EINVAL' });
});

test('entries are made, named, moved and removed relative to a directory, whatever bytes their names have', () => {
  using directory = new TemporaryDirectory();
  using here = openFd(directory.path, OpenFlag.path | OpenFlag.directory);
  const odd = bytes('odd\xff\n name');
  makeDirectory(here.fd, odd, 0o755);
  using inner = openFd(odd, OpenFlag.rdonly | OpenFlag.directory, 0, here.fd);
  openFd('file', OpenFlag.wronly | OpenFlag.creat | OpenFlag.excl, 0o640, inner.fd).close();
  assert.equal(fileStatusAt(inner.fd, 'file').mode & 0o170000, S_IFREG);
  makeSymlink(inner.fd, 'link', bytes('to\xfe'));
  assert.deepEqual(readSymlink(inner.fd, 'link'), new Uint8Array(bytes('to\xfe')));
  if (process.getuid?.() === 0) {
    setOwner(inner.fd, 'link', 1234, 4321);
    const { uid, gid } = fileStatusAt(inner.fd, 'link');
    assert.deepEqual([uid, gid], [1234, 4321]);
  }

  linkEntry(inner.fd, 'file', here.fd, bytes('\xff'));
  assert.equal(fileStatusAt(here.fd, bytes('\xff')).nlink, 2);
  assert.throws(() => renameEntry(here.fd, bytes('\xff'), inner.fd, 'link', 'keep'), {
    code: 'EEXIST',
  });
  renameEntry(here.fd, bytes('\xff'), inner.fd, 'link', 'exchange');
  assert.deepEqual(readSymlink(here.fd, bytes('\xff')), new Uint8Array(bytes('to\xfe')));
  renameEntry(here.fd, bytes('\xff'), inner.fd, 'link', 'replace');
  assert.equal(fileStatusAt(inner.fd, 'file').nlink, 1);

  using nameless = openFd('.', OpenFlag.tmpfile | OpenFlag.rdwr, 0o600, inner.fd);
  linkFile(nameless.fd, inner.fd, 'named');
  assert.equal(fileStatusAt(inner.fd, 'named').ino, fileStatus(nameless.fd).ino);

  assert.throws(() => removeDirectory(here.fd, odd), { code: 'ENOTEMPTY' });
  for (const name of ['file', 'link', 'named']) removeFile(inner.fd, name);
  assert.throws(() => removeFile(here.fd, odd), { code: 'EISDIR' });
  removeDirectory(here.fd, odd);
  assert.throws(() => fileStatusAt(here.fd, odd), { code: 'ENOENT' });
});

test('what was written is durable after syncfs: the descriptor must be a real one', async () => {
  using loop = new LoopFilesystem('ext4');
  writeFileSync(loop.join('file'), 'content');
  using root = openFd(loop.path, OpenFlag.rdonly);
  await syncFilesystemAsync(root.fd);
  using pathOnly = openFd(loop.path, OpenFlag.path);
  await assert.rejects(syncFilesystemAsync(pathOnly.fd), { code: 'EBADF' });
});
