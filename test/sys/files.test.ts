import assert from 'node:assert/strict';
import {
  closeSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { test } from 'node:test';
import { FallocateMode, fallocate, punchHole } from '../../src/sys/fallocate.ts';
import { OpenFlag, OwnedFd, openFd } from '../../src/sys/fd.ts';
import {
  decodeHandle,
  encodeHandle,
  encodedHandleAt,
  handleOf,
  openByHandle,
} from '../../src/sys/handle.ts';
import { cloneRange } from '../../src/sys/ioctl.ts';
import { openCachedPath } from '../../src/sys/open-cached.ts';
import { Seek, pwrite, seek } from '../../src/sys/io.ts';
import { fileStatus, fileStatusAt, setFileTimes } from '../../src/sys/stat.ts';
import { FilesystemMagic, filesystemStatus } from '../../src/sys/statfs.ts';
import {
  getXattr,
  listXattrs,
  removeXattr,
  setXattr,
  xattrSizeMaxBytes,
} from '../../src/sys/xattr.ts';
import { Errno } from '../../src/base/errno.ts';
import { LoopFilesystem, TemporaryDirectory } from './support.ts';

const MiB = 1024 * 1024;
const bytes = (value: string): Uint8Array => new Uint8Array(Buffer.from(value, 'latin1'));
const readWriteNew = OpenFlag.rdwr | OpenFlag.creat;

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`${type}: holes, reservation, room`, async () => {
    using loop = new LoopFilesystem(type);
    using file = openFd(loop.join('file'), readWriteNew);
    const before = filesystemStatus(file.fd);
    assert.equal(before.magic, FilesystemMagic[type]);
    assert.equal(before.readOnly, false);
    assert.equal(before.nameMaxBytes, 255);
    assert.ok(before.availableBytes <= before.freeBytes && before.freeBytes < before.totalBytes);
    assert.ok(before.totalBytes > 8 * MiB && before.totalBytes <= 320 * MiB);
    assert.deepEqual(filesystemStatus(loop.path).magic, before.magic);

    const content = new Uint8Array(4 * MiB).fill(0x5a);
    assert.equal(pwrite(file.fd, content, 0), content.length);
    punchHole(file.fd, MiB, MiB);
    punchHole(file.fd, 3 * MiB, MiB);
    assert.equal(seek(file.fd, 0, Seek.hole), MiB);
    assert.equal(seek(file.fd, MiB, Seek.data), 2 * MiB);
    assert.equal(seek(file.fd, 2 * MiB, Seek.hole), 3 * MiB);
    const status = fileStatus(file.fd);
    assert.equal(status.sizeBytes, 4 * MiB);
    const read = readFileSync(loop.join('file'));
    assert.equal(read.indexOf(0), MiB);
    assert.equal(read.indexOf(0x5a, MiB), 2 * MiB);

    fallocate(file.fd, FallocateMode.keepSize, 4 * MiB, MiB);
    assert.equal(fileStatus(file.fd).sizeBytes, 4 * MiB);
    fallocate(file.fd, 0, 4 * MiB, MiB);
    assert.equal(fileStatus(file.fd).sizeBytes, 5 * MiB);
    assert.throws(() => fallocate(file.fd, 0, 0, 2 ** 40), { code: 'ENOSPC' });
  });

  test(`${type}: handles survive renames, tell reused inodes, and open`, () => {
    using loop = new LoopFilesystem(type);
    using mountFd = openFd(loop.path, OpenFlag.rdonly | OpenFlag.directory);
    writeFileSync(loop.join('a'), 'first');
    const { handle, mountId } = handleOf(loop.join('a'));
    assert.equal(mountId, fileStatus(loop.path).mountId);
    renameSync(loop.join('a'), loop.join('b'));
    linkSync(loop.join('b'), loop.join('c'));
    {
      using opened = openFd(loop.join('c'), OpenFlag.rdonly);
      assert.deepEqual(handleOf(opened.fd).handle, handle);
    }
    const stored = decodeHandle(encodeHandle(handle));
    assert.deepEqual(stored, handle);
    {
      using opened = openByHandle(mountFd.fd, stored, OpenFlag.rdonly);
      assert.equal(fileStatus(opened.fd).ino, fileStatus(loop.join('b')).ino);
      assert.equal(readFileSync(`/proc/self/fd/${opened.fd}`, 'latin1'), 'first');
    }
    rmSync(loop.join('b'));
    rmSync(loop.join('c'));
    assert.throws(() => openByHandle(mountFd.fd, stored, OpenFlag.rdonly), { code: 'ESTALE' });
    writeFileSync(loop.join('a'), 'second');
    assert.notDeepEqual(handleOf(loop.join('a')).handle, handle);
    assert.throws(() => openByHandle(mountFd.fd, stored, OpenFlag.rdonly), { code: 'ESTALE' });
    symlinkSync('a', loop.join('link'));
    assert.notDeepEqual(handleOf(loop.join('link')).handle, handleOf(loop.join('a')).handle);
  });
}

test('handles: malformed ones are refused', () => {
  using directory = new TemporaryDirectory();
  using fd = openFd(directory.path, OpenFlag.rdonly);
  assert.throws(() => decodeHandle(new Uint8Array(4)), { code: 'EINVAL' });
  assert.throws(() => decodeHandle(new Uint8Array(200)), { code: 'EINVAL' });
  const invalid = { type: 77, bytes: new Uint8Array(12) };
  assert.throws(() => openByHandle(fd.fd, invalid, OpenFlag.rdonly), { code: 'ESTALE' });
  assert.throws(() => handleOf(directory.join('none')), { code: 'ENOENT' });
  assert.throws(() => handleOf('/proc/self/status'), { code: 'EOPNOTSUPP' });
  assert.deepEqual(decodeHandle(encodeHandle({ type: -5, bytes: new Uint8Array([1]) })).type, -5);
});

test('fallocate refuses what cannot be passed exactly', () => {
  using directory = new TemporaryDirectory();
  using file = openFd(directory.join('file'), readWriteNew);
  assert.throws(() => punchHole(file.fd, 2 ** 53, 1), { code: 'EOVERFLOW' });
  assert.throws(() => punchHole(file.fd, 2 ** 53 - 2, 2), { code: 'EOVERFLOW' });
  assert.throws(() => punchHole(file.fd, -1, 1), { code: 'EINVAL' });
  assert.throws(() => punchHole(file.fd, 0, 0), { code: 'EINVAL' });
  assert.throws(() => punchHole(1_000_000, 0, 1), { code: 'EBADF' });
  truncateSync(directory.join('file'), 2 ** 33);
  assert.equal(pwrite(file.fd, new Uint8Array(8192).fill(1), 2 ** 32), 8192);
  punchHole(file.fd, 2 ** 32, 4096);
  assert.equal(seek(file.fd, 0, Seek.data), 2 ** 32 + 4096);
});

for (const type of ['xfs', 'btrfs'] as const) {
  test(`${type}: reflinks share blocks`, () => {
    using loop = new LoopFilesystem(type);
    using from = openFd(loop.join('from'), readWriteNew);
    using to = openFd(loop.join('to'), readWriteNew);
    assert.equal(pwrite(from.fd, new Uint8Array(MiB).fill(7), 0), MiB);
    cloneRange(from.fd, 0, MiB, to.fd, 2 ** 32);
    assert.equal(fileStatus(to.fd).sizeBytes, 2 ** 32 + MiB);
    assert.equal(seek(to.fd, 0, Seek.data), 2 ** 32);
    assert.throws(() => cloneRange(from.fd, 1, MiB, to.fd, 0), { code: 'EINVAL' });
    assert.throws(() => cloneRange(from.fd, 2 ** 53, 1, to.fd, 0), { code: 'EOVERFLOW' });
  });
}

test('ext4 has no reflinks, and says so', () => {
  using loop = new LoopFilesystem('ext4');
  using from = openFd(loop.join('from'), readWriteNew);
  using to = openFd(loop.join('to'), readWriteNew);
  assert.equal(pwrite(from.fd, new Uint8Array(4096), 0), 4096);
  assert.throws(() => cloneRange(from.fd, 0, 4096, to.fd, 0), { code: 'EOPNOTSUPP' });
});

test('what was asked about a file stays as it was when the next one is asked about', () => {
  using directory = new TemporaryDirectory();
  const [file, longer] = [directory.join('file'), directory.join('a-longer-name')];
  writeFileSync(file, 'four');
  writeFileSync(longer, 'longer');
  using root = openFd(directory.path, OpenFlag.rdonly | OpenFlag.directory);
  const status = fileStatusAt(root.fd, 'file');
  const before = structuredClone(status);
  const handle = encodedHandleAt(root.fd, 'file');
  const copy = handle.slice();
  assert.equal(fileStatusAt(root.fd, 'a-longer-name').sizeBytes, 6);
  assert.deepEqual(
    encodedHandleAt(root.fd, 'a-longer-name'),
    encodeHandle(handleOf(longer).handle),
  );
  assert.equal(fileStatusAt(root.fd, 'file').sizeBytes, 4);
  assert.deepEqual(status, before);
  assert.deepEqual(handle, copy);
  assert.deepEqual(handle, encodeHandle(handleOf(file).handle));
});

test('paths longer than the kernel takes, and names with a NUL, are refused and nothing else', () => {
  using directory = new TemporaryDirectory();
  const file = directory.join('file');
  writeFileSync(file, 'four');
  assert.throws(() => fileStatus(`/${'x/'.repeat(4096)}`), { code: 'ENAMETOOLONG' });
  assert.throws(() => fileStatus(`${file}\0x`), { code: 'EINVAL' });
  assert.equal(fileStatus(file).sizeBytes, 4);
});

test('statx agrees with stat, to the nanosecond', () => {
  using directory = new TemporaryDirectory();
  const name = directory.join('file');
  writeFileSync(name, 'x'.repeat(5000), { mode: 0o604 });
  symlinkSync(name, directory.join('link'));
  using file = openFd(name, OpenFlag.rdonly);
  using pathOnly = openFd(name, OpenFlag.path);
  setFileTimes(name, { seconds: 1_700_000_000, nanoseconds: 123_456_789 }, undefined);
  setFileTimes(file.fd, undefined, { seconds: -5, nanoseconds: 999_999_999 });
  const expected = statSync(name, { bigint: true });
  for (const status of [fileStatus(name), fileStatus(file.fd), fileStatus(pathOnly.fd)]) {
    assert.equal(status.mode, Number(expected.mode));
    assert.equal(status.sizeBytes, 5000);
    assert.equal(status.allocatedBytes, Number(expected.blocks) * 512);
    assert.equal(status.ino, expected.ino);
    assert.equal(status.nlink, 1);
    assert.equal(status.uid, process.getuid?.());
    assert.deepEqual(status.atime, { seconds: 1_700_000_000, nanoseconds: 123_456_789 });
    assert.deepEqual(status.mtime, { seconds: -5, nanoseconds: 999_999_999 });
    assert.equal(nanoseconds(status.ctime), expected.ctimeNs);
    assert.ok(status.btime !== undefined && nanoseconds(status.btime) <= expected.ctimeNs);
    assert.equal(
      BigInt(status.deviceMajor) * 256n + BigInt(status.deviceMinor),
      expected.dev,
      'small device numbers',
    );
  }
  assert.equal(fileStatus(directory.join('link')).mode & 0o170000, 0o120000);
  setFileTimes(name, 'now', undefined);
  assert.ok(Math.abs(fileStatus(name).atime.seconds - Date.now() / 1000) < 60);
  assert.equal(fileStatus(name).mtime.seconds, -5);
  for (const invalid of [1e9, -1, 0x3fffffff, 0x3ffffffe]) {
    assert.throws(() => setFileTimes(name, undefined, { seconds: 0, nanoseconds: invalid }), {
      code: 'EINVAL',
    });
  }
  assert.throws(() => fileStatus(directory.join('none')), { code: 'ENOENT' });
  assert.throws(() => fileStatus(1_000_000), { code: 'EBADF' });
  assert.throws(() => filesystemStatus(1_000_000), { code: 'EBADF' });
  assert.throws(() => filesystemStatus(directory.join('none')), { code: 'ENOENT' });
});

test('extended attributes of files, symlinks and odd names', () => {
  using directory = new TemporaryDirectory();
  const name = directory.join('file');
  writeFileSync(name, '');
  symlinkSync('nowhere', directory.join('link'));
  using file = openFd(name, OpenFlag.rdonly);
  assert.deepEqual(listXattrs(file.fd), []);
  assert.equal(getXattr(file.fd, 'user.none'), undefined);
  assert.equal(getXattr(name, 'user.none'), undefined);
  setXattr(file.fd, 'user.a', bytes('value\0\xff'));
  setXattr(name, 'user.empty', new Uint8Array(0));
  setXattr(name, 'user.\udcff', bytes('1'));
  assert.deepEqual(getXattr(name, 'user.a'), bytes('value\0\xff'));
  assert.deepEqual(getXattr(file.fd, 'user.empty'), new Uint8Array(0));
  assert.deepEqual(listXattrs(name).sort(), ['user.a', 'user.empty', 'user.\udcff']);
  assert.deepEqual(listXattrs(file.fd).sort(), listXattrs(name).sort());
  assert.equal(removeXattr(file.fd, 'user.empty'), true);
  assert.equal(removeXattr(name, 'user.empty'), false);
  setXattr(directory.join('link'), 'trusted.ebb', bytes('on the link'));
  assert.deepEqual(getXattr(directory.join('link'), 'trusted.ebb'), bytes('on the link'));
  assert.equal(getXattr(name, 'trusted.ebb'), undefined);
  assert.throws(() => setXattr(name, 'unknown.x', bytes('x')), { code: 'EOPNOTSUPP' });
  assert.throws(() => setXattr(name, 'user.x', new Uint8Array(xattrSizeMaxBytes + 1)), {
    code: 'E2BIG',
  });
  assert.throws(() => listXattrs(1_000_000), { code: 'EBADF' });
});

test('the largest attribute value comes back whole', () => {
  using loop = new LoopFilesystem('xfs');
  const name = loop.join('file');
  closeSync(openSync(name, 'w'));
  const value = new Uint8Array(xattrSizeMaxBytes).map((_, index) => index % 251);
  setXattr(name, 'user.large', value);
  assert.deepEqual(getXattr(name, 'user.large'), value);
});

function nanoseconds(time: { seconds: number; nanoseconds: number }): bigint {
  return BigInt(time.seconds) * 1_000_000_000n + BigInt(time.nanoseconds);
}

test('a path that is known to the kernel is opened at once, and leads out of nothing', () => {
  using directory = new TemporaryDirectory();
  const inside = `${directory.path}/inside`;
  mkdirSync(inside);
  writeFileSync(`${inside}/file`, 'x');
  writeFileSync(`${directory.path}/outside`, 'x');
  symlinkSync('file', `${inside}/link`);
  symlinkSync('inside', `${directory.path}/around`);
  using top = openFd(inside, OpenFlag.rdonly | OpenFlag.directory);
  /** A rename anywhere in the system, or one who drops caches, may make the kernel say EAGAIN once. */
  const open = (path: string, from?: number, triesLeft = 100): number => {
    const result = openCachedPath(path, OpenFlag.nofollow, from);
    if (result === -Errno.EAGAIN && triesLeft > 0) {
      for (const name of ['file', 'link']) lstatSync(`${inside}/${name}`);
      return open(path, from, triesLeft - 1);
    }
    if (result >= 0) new OwnedFd(result).close();
    return Math.min(result, 0);
  };
  assert.equal(open('file', top.fd), 0);
  assert.equal(open('link', top.fd), 0, 'a symlink is opened as itself');
  assert.equal(open(`${inside}/file`), 0);
  assert.ok(open('../outside', top.fd) < 0);
  using around = openFd(directory.path, OpenFlag.rdonly | OpenFlag.directory);
  assert.ok(open('around/file', around.fd) < 0);
  using root = openFd('/', OpenFlag.rdonly | OpenFlag.directory);
  assert.ok(open('proc/self', root.fd) < 0, 'nor to another mount');
  // Nobody has ever asked for it: that it is not there would have to be read.
  assert.ok([-Errno.EAGAIN, -Errno.ENOENT].includes(open('never asked for', top.fd)));
});
