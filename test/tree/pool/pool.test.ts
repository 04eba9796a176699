/** Pools on the real kernel, as root. */
import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import type { EbbError } from '../../../src/base/errors.ts';
import { readMountInfo } from '../../../src/base/mount-info.ts';
import { filesystemStatus } from '../../../src/sys/statfs.ts';
import {
  createPool,
  destroyPool,
  growPool,
  mountPool,
  poolBytesMin,
  poolStatus,
  unmountPool,
} from '../../../src/tree/pool/pool.ts';
import { run } from '../../support/run.ts';
import { temporaryDirectory } from '../../support/temporary.ts';
import { waitFor } from '../../support/wait-for.ts';

interface Places extends AsyncDisposable {
  readonly image: string;
  readonly mount: string;
}

async function places(): Promise<Places> {
  const directory = await temporaryDirectory('pool');
  const image = path.join(directory.path, 'pool.xfs');
  const mount = path.join(directory.path, 'mount');
  mkdirSync(mount);
  return {
    image,
    mount,
    [Symbol.asyncDispose]: async () => {
      await run('umount', ['--lazy', mount]);
      const { device } = await poolStatus(image).catch(() => ({ device: undefined }));
      if (device !== undefined) await run('losetup', ['--detach', device]);
      await directory[Symbol.asyncDispose]();
    },
  };
}

/** Not at once where some process has a copy of all mounts: the kernel keeps the device until that is gone. */
async function isDetached(image: string): Promise<void> {
  const free = async (): Promise<boolean> => (await poolStatus(image)).device === undefined;
  await waitFor(free, { what: "the pool to be nobody's loop device", timeoutMs: 20_000 });
}

const busy = { name: 'EbbError', code: 'EBUSY' };

test('a pool is made, mounted, grown while it is used, unmounted, mounted again, destroyed', async () => {
  await using at = await places();
  await createPool(at.image, poolBytesMin);
  assert.ok((await poolStatus(at.image)).allocatedBytes < poolBytesMin / 2, 'it is sparse');
  assert.equal(statSync(at.image).mode & 0o777, 0o600);
  const device = await mountPool(at.image, at.mount);
  assert.equal(await mountPool(at.image, at.mount), device, 'again changes nothing');
  assert.equal((await poolStatus(at.image)).mountPoint, at.mount);
  const mounted = readMountInfo().find(({ mountPoint }) => mountPoint === at.mount);
  assert.equal(mounted?.fileSystemType, 'xfs');
  writeFileSync(path.join(at.mount, 'file'), 'content');
  const clone = await run('cp', ['--reflink=always', `${at.mount}/file`, `${at.mount}/clone`]);
  assert.equal(clone.code, 0, clone.stderr.toString());

  const before = filesystemStatus(at.mount).totalBytes;
  await growPool(at.image, 2 * poolBytesMin);
  assert.ok(filesystemStatus(at.mount).totalBytes > 1.8 * before);
  await assert.rejects(growPool(at.image, poolBytesMin), { code: 'EINVAL', message: /only grows/ });

  const fd = openSync(path.join(at.mount, 'file'), 'r');
  await assert.rejects(unmountPool(at.image), busy);
  closeSync(fd);
  await assert.rejects(destroyPool(at.image, { force: true }), {
    ...busy,
    message: /is mounted at/,
  });
  await unmountPool(at.image);
  await isDetached(at.image);
  await unmountPool(at.image);

  await assert.rejects(destroyPool(at.image), { code: 'ENOTEMPTY', message: /\(clone, file\)/ });
  await isDetached(at.image);
  await mountPool(at.image, at.mount);
  assert.equal(readFileSync(path.join(at.mount, 'clone'), 'utf8'), 'content');
  await unmountPool(at.image);
  await destroyPool(at.image, { force: true });
  assert.equal(existsSync(at.image), false);
});

test('an empty pool is destroyed without force; a mounted one is not mounted twice', async () => {
  await using at = await places();
  await createPool(at.image, poolBytesMin);
  await mountPool(at.image, at.mount);
  const elsewhere = path.join(path.dirname(at.mount), 'elsewhere');
  mkdirSync(elsewhere);
  await assert.rejects(mountPool(at.image, elsewhere), { ...busy, message: /is mounted at/ });
  await unmountPool(at.image);
  await assert.rejects(growPool(at.image, 2 * poolBytesMin), {
    code: 'EINVAL',
    message: /mounted/,
  });
  await destroyPool(at.image);
  assert.equal(existsSync(at.image), false);
});

test('what cannot be a pool is refused, and nothing is left', async () => {
  await using at = await places();
  await assert.rejects(createPool(at.image, poolBytesMin - 1), { code: 'EINVAL' });
  await assert.rejects(createPool(at.image, 2 ** 50), { code: 'ENOSPC' });
  await assert.rejects(createPool(path.join(at.image, 'x'), poolBytesMin), { code: 'ENOENT' });
  assert.equal(existsSync(at.image), false);
  writeFileSync(at.image, 'something else');
  await assert.rejects(createPool(at.image, poolBytesMin), { code: 'EEXIST' });
  await assert.rejects(mountPool(at.image, at.mount), { code: 'EIO' });
  await isDetached(at.image);
  assert.equal(readFileSync(at.image, 'utf8'), 'something else');
});

test('blocks that are freed in the pool are freed around it', async () => {
  await using at = await places();
  await createPool(at.image, 2 * poolBytesMin);
  await mountPool(at.image, at.mount);
  writeFileSync(path.join(at.mount, 'file'), Buffer.alloc(100 * 2 ** 20, 'x'), { flush: true });
  const full = (await poolStatus(at.image)).allocatedBytes;
  assert.ok(full >= 100 * 2 ** 20);
  await run('rm', [path.join(at.mount, 'file')]);
  await run('sync', ['--file-system', at.mount]);
  await unmountPool(at.image);
  assert.ok((await poolStatus(at.image)).allocatedBytes <= full - 90 * 2 ** 20);
});

test('a pool that cannot be looked into is not destroyed, says why, and is not left mounted', async () => {
  await using at = await places();
  await createPool(at.image, poolBytesMin);
  await mountPool(at.image, at.mount);
  // So many that the root directory has a block of its own.
  for (let index = 0; index < 40; index += 1)
    writeFileSync(path.join(at.mount, `name-${index}`), '');
  await unmountPool(at.image);
  const bytes = readFileSync(at.image);
  const block = bytes.indexOf('XDB3', 0, 'latin1');
  assert.ok(block > 0, 'xfs has a directory in one block');
  const fd = openSync(at.image, 'r+');
  writeSync(fd, Buffer.alloc(2048, 0xee), 0, 2048, block + 1024);
  closeSync(fd);
  await assert.rejects(destroyPool(at.image), (error: EbbError) => error.code !== 'EBUSY');
  await isDetached(at.image);
  assert.ok(existsSync(at.image));
  await destroyPool(at.image, { force: true });
});
