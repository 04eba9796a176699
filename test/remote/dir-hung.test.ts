/** A directory remote whose file system does not answer: it has its own threads of the pool, and no others. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { daemonEnvironment } from '../../src/base/daemon-environment.ts';
import { PoolShare, threadsOfRemote } from '../../src/remote/dir/pool-share.ts';
import { mountPointIn, ServerProcess } from '../fuse/server.ts';
import { startChildService } from '../support/child-service.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const asRoot = { skip: process.getuid?.() === 0 ? false : 'needs root' };
const child = path.join(import.meta.dirname, '../support/hung-directory.ts');

for (const UV_THREADPOOL_SIZE of [daemonEnvironment.UV_THREADPOOL_SIZE, '4']) {
  test(
    `with ${UV_THREADPOOL_SIZE} threads: while a directory remote hangs, files and other remotes are read`,
    asRoot,
    async () => {
      await using directory = await temporaryDirectory('hung');
      await using other = await temporaryDirectory('other');
      writeFileSync(path.join(other.path, 'file'), 'content');
      const mountPoint = await mountPointIn(directory);
      await using server = await ServerProcess.start({
        module: './pattern-filesystem.ts',
        mountPoint,
      });
      const parameters = [mountPoint, String(server.child.pid), other.path];
      await using service = await startChildService<object>(child, parameters, {
        env: { UV_THREADPOOL_SIZE },
      });
      assert.deepEqual(service.ready, {
        names: ['backed', 'blocked', 'deferred', 'passthrough', 'pattern'],
        own: true,
        listed: ['file'],
        read: 'content',
        reasons: ['Error: given up'],
      });
    },
  );
}

test('three quarters of the pool, and always some of it', () => {
  const sizes = [undefined, '16', '4', '2', '1', '0', 'many', '99999'];
  assert.deepEqual(sizes.map(threadsOfRemote), [3, 12, 3, 1, 1, 1, 1, 768]);
});

test('work for each item has as many threads as are free, and one at least', async () => {
  const { signal } = new AbortController();
  const share = new PoolShare();
  const threads = threadsOfRemote(process.env['UV_THREADPOOL_SIZE']);
  let atOnce = 0;
  let most = 0;
  const double = async (item: number): Promise<number> => {
    most = Math.max(most, (atOnce += 1));
    await new Promise((resolve) => setImmediate(resolve));
    atOnce -= 1;
    if (item < 0) throw new Error('negative');
    return item * 2;
  };
  const items = Array.from({ length: 100 }, (_unused, index) => index);
  const all = (): Promise<number[]> => share.run(() => share.each(items, double), signal);
  const [one, other] = await Promise.all([all(), all()]);
  assert.deepEqual(
    one,
    items.map((item) => item * 2),
  );
  assert.deepEqual(other, one);
  assert.equal(most, threads);
  await assert.rejects(
    share.run(() => share.each([1, -1, ...items], double), signal),
    /negative/,
  );
  assert.equal(atOnce, 0);
  assert.deepEqual(await all(), one);
});
