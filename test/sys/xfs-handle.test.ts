/** Invisible I/O on a real xfs. Needs root. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { removeFile } from '../../src/sys/entries.ts';
import { OpenFlag, openFd } from '../../src/sys/fd.ts';
import { pwrite } from '../../src/sys/io.ts';
import { MountAttribute, changeMount, cloneMount } from '../../src/sys/mount-tree.ts';
import { fileStatus } from '../../src/sys/stat.ts';
import { syncFilesystemAsync } from '../../src/sys/writeback.ts';
import { openXfsHandle, xfsHandleOf } from '../../src/sys/xfs-handle.ts';
import { LoopFilesystem } from './support.ts';

const bytes = (value: string): Uint8Array => new Uint8Array(Buffer.from(value, 'latin1'));

test('xfs: what is written by handle moves neither mtime nor ctime', async () => {
  using loop = new LoopFilesystem('xfs');
  writeFileSync(loop.join('file'), 'x'.repeat(10_000));
  using root = openFd(loop.path, OpenFlag.rdonly | OpenFlag.directory);
  using plain = openFd(loop.join('file'), OpenFlag.rdwr);
  const handle = xfsHandleOf(plain.fd);
  assert.deepEqual(xfsHandleOf(plain.fd), handle);
  const before = fileStatus(plain.fd);
  {
    using invisible = openXfsHandle(root.fd, handle, OpenFlag.rdwr);
    assert.match(readFileSync(`/proc/self/fdinfo/${invisible.fd}`, 'utf8'), /flags:\s+03\d{6}/);
    assert.equal(pwrite(invisible.fd, bytes('hidden'), 5000), 6);
    // Growing, too.
    assert.equal(pwrite(invisible.fd, bytes('tail'), 20_000), 4);
    await syncFilesystemAsync(root.fd);
  }
  const after = fileStatus(plain.fd);
  assert.deepEqual([after.mtime, after.ctime], [before.mtime, before.ctime]);
  const text = readFileSync(loop.join('file'), 'latin1');
  assert.equal(text.slice(5000, 5006) + text.slice(20_000), 'hiddentail');
  // The measure sees what it looks for.
  assert.equal(pwrite(plain.fd, bytes('seen'), 0), 4);
  assert.notDeepEqual(fileStatus(plain.fd).ctime, before.ctime);

  // The mount of the directory descriptor counts.
  using clone = cloneMount(loop.path);
  changeMount(clone.fd, { set: MountAttribute.rdonly });
  using readOnly = openFd('.', OpenFlag.rdonly | OpenFlag.directory, 0, clone.fd);
  assert.throws(() => openXfsHandle(readOnly.fd, handle, OpenFlag.rdwr), { code: 'EROFS' });
  openXfsHandle(readOnly.fd, handle, OpenFlag.rdonly).close();
  assert.throws(() => openXfsHandle(plain.fd, handle, OpenFlag.rdwr), { code: 'ENOTDIR' });
});

test('xfs handles: deleted files, other file systems, garbage', () => {
  using loop = new LoopFilesystem('xfs');
  using root = openFd(loop.path, OpenFlag.rdonly | OpenFlag.directory);
  let handle: Uint8Array;
  {
    using file = openFd(loop.join('file'), OpenFlag.rdwr | OpenFlag.creat);
    handle = xfsHandleOf(file.fd);
  }
  removeFile(root.fd, 'file');
  assert.throws(
    () => openXfsHandle(root.fd, handle, OpenFlag.rdonly),
    (error: NodeJS.ErrnoException) => error.code === 'ESTALE' || error.code === 'ENOENT',
  );
  assert.throws(() => openXfsHandle(root.fd, new Uint8Array(24), OpenFlag.rdonly), {
    code: 'EINVAL',
  });
  assert.throws(() => openXfsHandle(root.fd, new Uint8Array(4), OpenFlag.rdonly), {
    code: 'EINVAL',
  });
  using elsewhere = openFd('/proc/self/status', OpenFlag.rdonly);
  assert.throws(() => xfsHandleOf(elsewhere.fd), { code: 'ENOTTY' });
});
