/** fdatasync(2) of many files at once: each file has its own result, in its place. */
import assert from 'node:assert/strict';
import { closeSync, openSync, writeSync } from 'node:fs';
import { test } from 'node:test';
import { ebbError } from '../../src/base/errors.ts';
import { ioctlBytes } from '../../src/sys/ioctl.ts';
import { ManySyncs, syncEach } from '../../src/sys/sync-many.ts';
import { pipe } from '../../src/sys/io.ts';
import { LoopFilesystem } from './support.ts';

/** More than the kernel is given at a time. */
const filesCount = 100;
/** linux/fs.h and fs/xfs/libxfs/xfs_fs.h: XFS_IOC_GOINGDOWN and EXT4_IOC_SHUTDOWN, without writing the log. */
const shutDown = 0x8004587d;
const withoutLog = Uint8Array.of(2, 0, 0, 0);

/** Open files with something to sync, closed when disposed. */
class DirtyFiles implements Disposable {
  readonly fds: readonly number[];

  constructor(filesystem: LoopFilesystem) {
    this.fds = Array.from({ length: filesCount }, (_, at) =>
      openSync(filesystem.join(`file-${at}`), 'w+'),
    );
    this.dirty();
  }

  dirty(): void {
    for (const fd of this.fds) writeSync(fd, Buffer.alloc(5_000, 1), 0, 5_000, 0);
  }

  [Symbol.dispose](): void {
    for (const fd of this.fds) closeSync(fd);
  }
}

/** Of each file: why it was not synced. */
async function outcomes(syncs: ManySyncs, fds: readonly number[]): Promise<(string | undefined)[]> {
  const codes: (string | undefined)[] = fds.map(() => undefined);
  await syncs.run(fds, (index, { code }) => (codes[index] = code));
  return codes;
}

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`${type}: many files are synced; what cannot be says so, in its place`, async () => {
    using filesystem = new LoopFilesystem(type);
    using files = new DirtyFiles(filesystem);
    const { readEnd, writeEnd } = pipe();
    using _writeEnd = writeEnd;
    using notToBeSynced = readEnd;
    using syncs = new ManySyncs();
    const none = files.fds.map(() => undefined);
    assert.deepEqual(await outcomes(syncs, files.fds), none);
    files.dirty();
    const fds = [...files.fds.slice(0, 40), notToBeSynced.fd, 1_000_000, ...files.fds.slice(40)];
    const expected = [...none.slice(0, 40), 'EINVAL', 'EBADF', ...none.slice(40)];
    assert.deepEqual(await outcomes(syncs, fds), expected);
    assert.deepEqual(await outcomes(syncs, []), []);
    assert.deepEqual(await outcomes(syncs, files.fds.slice(0, 1)), [undefined]);
  });
}

for (const type of ['ext4', 'xfs'] as const) {
  test(`${type}: what the disk does not take any more is told for each file`, async () => {
    using filesystem = new LoopFilesystem(type);
    using files = new DirtyFiles(filesystem);
    using syncs = new ManySyncs();
    assert.deepEqual(new Set(await outcomes(syncs, files.fds)), new Set([undefined]));
    files.dirty();
    assert.equal(ioctlBytes(files.fds[0] as number, shutDown, withoutLog), 0);
    assert.deepEqual(new Set(await outcomes(syncs, files.fds)), new Set(['EIO']));
  });
}

test('files are synced one by one where the kernel does not do it', async () => {
  const failing = new Set([3, 70]);
  const synced: number[] = [];
  const fds = Array.from({ length: filesCount }, (_, at) => at);
  const sync = async (fd: number): Promise<void> => {
    await Promise.resolve();
    if (failing.has(fd)) throw ebbError('EIO', 'disk');
    synced.push(fd);
  };
  const failed: number[] = [];
  await syncEach(fds, sync, (index) => failed.push(index));
  assert.deepEqual(new Set(failed), failing);
  assert.equal(synced.length, filesCount - failing.size);
});
