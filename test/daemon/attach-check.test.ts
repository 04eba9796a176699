/** What `ebb attach` refuses before it touches anything, on real file systems; other kernels are answers put in. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { Errno } from '../../src/base/errno.ts';
import { ebbError } from '../../src/base/errors.ts';
import { attachCheck } from '../../src/daemon/attach-check.ts';
import { realKernelAnswers } from '../../src/fanotify/probe.ts';
import type { KernelAnswers } from '../../src/fanotify/probe.ts';
import { runOk } from '../support/run.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';

const otherKernels: readonly (readonly [string, Partial<KernelAnswers>, string, RegExp])[] = [
  [
    'a kernel before 6.14',
    { release: () => '6.13.9' },
    'EOPNOTSUPP',
    /^Trees need Linux 6\.14 \(this is 6\.13\.9\); ebb mount works/,
  ],
  [
    'a kernel that says 6.14 and cannot',
    {
      release: () => '6.14.0-stripped',
      createGroup: () => {
        throw ebbError('EINVAL', 'Invalid argument.');
      },
    },
    'EOPNOTSUPP',
    /has no FAN_PRE_ACCESS.*ebb mount works without/,
  ],
  [
    'no CAP_SYS_ADMIN',
    { isPrivileged: () => false },
    'EPERM',
    /needs root \(CAP_SYS_ADMIN\); ebb mount works without/,
  ],
  [
    'a file system that takes no such marks',
    { mark: () => -Errno.EOPNOTSUPP },
    'EOPNOTSUPP',
    /cannot be watched \(ext4, xfs and btrfs can\)/,
  ],
  [
    'a kernel that asks for wrong ranges of mappings',
    { mappedRange: async () => ({ offset: 16, count: 4096 }) },
    'EOPNOTSUPP',
    /asks for a wrong range when a file is mapped.*6\.18 or a kernel with the fix/,
  ],
];

test('what the kernel cannot do is said, and nothing is touched', async (context) => {
  await using filesystem = await loopFilesystem({ type: 'xfs' });
  const tree = path.join(filesystem.path, 'tree');
  mkdirSync(tree);
  const question = JSON.stringify({ tree, remote: '/srv/remote' });
  for (const [name, answers, code, sentence] of otherKernels) {
    await context.test(name, async () => {
      const result = await attachCheck(question, { ...realKernelAnswers, ...answers });
      assert.ok(!result.ok);
      assert.equal(result.code, code);
      assert.equal(result.exitCode, 3);
      assert.match(result.error, sentence);
    });
  }
  await context.test('this kernel can', async () => {
    assert.deepEqual(await attachCheck(question), {
      ok: true,
      fileSystem: 'xfs',
      remote: undefined,
    });
  });
  assert.deepEqual(readdirSync(tree), []);
});

test('an xfs that was made without reflinks is refused: nothing could stand for what is not here', async () => {
  await using filesystem = await loopFilesystem({
    type: 'xfs',
    mkfsArguments: ['-m', 'reflink=0'],
  });
  const question = JSON.stringify({ tree: filesystem.path, remote: '/srv/remote' });
  const result = await attachCheck(question);
  assert.ok(!result.ok);
  assert.match(result.error, /without reflinks .*ebb pool create/);
  assert.equal(result.exitCode, 3);
  assert.deepEqual(readdirSync(filesystem.path), []);
});

test('directories that cannot be trees', async () => {
  await using directory = await temporaryDirectory('attach-check');
  const tmpfs = path.join(directory.path, 'tmpfs');
  const plain = path.join(directory.path, 'plain');
  mkdirSync(tmpfs);
  mkdirSync(plain);
  await runOk('mount', ['-t', 'tmpfs', 'none', tmpfs]);
  const at = (name: string): string => path.join(tmpfs, name);
  const [overlay, ramfs] = [at('overlay'), at('ramfs')];
  for (const made of [overlay, ramfs, at('upper'), at('lower'), at('work')]) mkdirSync(made);
  const layers = `upperdir=${at('upper')},lowerdir=${at('lower')},workdir=${at('work')}`;
  await runOk('mount', ['-t', 'overlay', '-o', layers, 'none', overlay]);
  await runOk('mount', ['-t', 'ramfs', 'none', ramfs]);
  await using readOnly = await loopFilesystem({ type: 'ext4', mountOptions: 'ro' });
  for (const [tree, sentence] of [
    [at('lower'), /is on tmpfs that cannot hold a tree.*ebb pool create/],
    [tmpfs, /has mount points in it/],
    [overlay, /is on overlay[a-z]* that cannot hold a tree.*ebb pool create/],
    [ramfs, /is on a file system that cannot hold a tree.*ebb pool create/],
    [readOnly.path, /is on a read-only file system/],
    [plain, /file system of the system itself \(\/\).*ebb pool create/],
  ] as const) {
    const result = await attachCheck(JSON.stringify({ tree, remote: '/srv/remote' }));
    assert.ok(!result.ok);
    assert.match(result.error, sentence);
  }
});
