/** `ebb pool` with real images: made, mounted, grown, refused, destroyed. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, statSync, statfsSync, symlinkSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import type { PoolResult } from '../../src/daemon/helper-api.ts';
import { mountAt, readMountInfo } from '../../src/base/mount-info.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';
import { ebb } from './support.ts';

test('a pool from its beginning to its end', async () => {
  await using directory = await temporaryDirectory('pool');
  const image = `${directory.path}/the pool`;
  const point = `${directory.path}/point`;
  const link = `${directory.path}/link`;
  mkdirSync(point);
  const ok = async (...words: string[]): Promise<string> => {
    const { code, stdout, stderr } = await ebb(['pool', ...words]);
    assert.equal(code, 0, stderr);
    return stdout;
  };
  const refused = async (expected: number, sentence: RegExp, ...words: string[]): Promise<void> => {
    const { code, stdout, stderr } = await ebb(['pool', ...words]);
    assert.equal(code, expected, stderr);
    assert.match(stderr, sentence);
    assert.equal(stdout, '');
  };
  await refused(2, /at least 300 MiB/, 'create', '--size', '10M', image);
  await refused(3, /has no room for/, 'create', '--size', '900T', image);
  assert.equal(existsSync(image), false);
  assert.match(
    await ok('create', '--size', '300M', image),
    /300 MiB, not mounted; mount it with: ebb pool mount '/,
  );
  assert.ok(statSync(image).blocks * 512 < 100 * 1024 ** 2, 'sparse');
  await refused(3, /exists already/, 'create', '--size', '300M', image);
  await ok('mount', image, point);
  assert.equal(statfsSync(point).type, 0x58465342);
  writeFileSync(`${point}/file`, 'mine');
  await refused(3, /is mounted at/, 'destroy', image);
  const before = statfsSync(point).blocks;
  await ok('grow', '--size', '600M', image);
  assert.ok(statfsSync(point).blocks > before * 1.5);
  const { pool } = JSON.parse(await ok('status', '--json', image)) as Extract<
    PoolResult,
    { ok: true }
  >;
  assert.deepEqual([pool?.sizeBytes, pool?.mountPoint], [600 * 1024 ** 2, point]);
  assert.match(await ok('status', image), /mounted at +\S+point/);
  // A symlink has a size of its own; what is done is done to the pool.
  symlinkSync(image, link);
  assert.match(await ok('status', link), /size +600 MiB/);
  await refused(2, /it only grows/, 'grow', '--size', '400M', link);
  assert.equal(statSync(image).size, 600 * 1024 ** 2);
  // What somebody else has mounted over it is not meant.
  await runOk('mount', ['-t', 'tmpfs', 'above', point]);
  try {
    await refused(3, /Something else is mounted over/, 'umount', image);
    await refused(3, /Something else is mounted over/, 'grow', '--size', '700M', image);
    assert.equal(mountAt(readMountInfo(), point)?.source, 'above');
  } finally {
    await runOk('umount', [point]);
  }
  await ok('umount', image);
  // Who made a mount namespace of his own meanwhile keeps the device for a moment.
  const isFree = async (): Promise<boolean> =>
    (await runOk('losetup', ['--associated', image])).stdout.length === 0;
  await waitFor(isFree, { what: 'the loop device to go' });
  await refused(3, /holds files \(file\)/, 'destroy', image);
  assert.equal(existsSync(image), true);
  assert.match(await ok('destroy', '--force', link), /^Destroyed /);
  assert.equal(existsSync(image), false);
});

test('what cannot be meant is usage', async () => {
  await using directory = await temporaryDirectory('no-pool');
  const mine = `${directory.path}/mine`;
  writeFileSync(mine, 'mine');
  const cases: [string[], RegExp][] = [
    [['make'], /the actions are create, mount, /],
    [['make', '/x'], /the actions are create, mount, /],
    [['create', '/x'], /create wants --size SIZE/],
    [['mount', '/none', '/tmp'], /there is no pool \/none/],
    [['status', '/etc/passwd', '/tmp'], /status takes no DIR/],
    [['status', '/etc'], /\/etc is no file, so no pool/],
    [['destroy', '--force', '/etc'], /\/etc is no file, so no pool/],
    [['create', '--size', '0', '/none/x'], /at least 300 MiB/],
    [['destroy', '--force', mine], /mine is no pool: there is no xfs in it/],
    [['umount', '--size', '1G', '/etc/passwd'], /takes no --size/],
    [['status', '--force', '/etc/passwd'], /--force is for destroy/],
    [['mount', '/etc/passwd'], /mount wants IMAGE and DIR/],
    [['mount', '/etc/passwd', '/none/at all'], /mount point .* does not exist/],
  ];
  for (const [words, sentence] of cases) {
    const { code, stderr } = await ebb(['pool', ...words]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, sentence);
  }
  assert.ok(existsSync(mine));
});
