/** Who reaches what a tree showed, on mounts without anybody who serves them. Root. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { OpenFlag, openFd } from '../../src/sys/fd.ts';
import { Exposure } from '../../src/supervisor/exposure.ts';
import type { Holder } from '../../src/supervisor/messages.ts';
import { layersOf } from '../../src/supervisor/overlays.ts';
import { whoReaches } from '../../src/supervisor/reachability.ts';
import { parseMountInfo } from '../../src/base/mount-info.ts';
import { compileHelper } from '../probes/probe.ts';
import { killAtExit, killGroup, runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

interface Scene extends AsyncDisposable {
  /** Of the tmpfs in which the tree is. */
  readonly root: string;
  readonly tree: string;
  readonly exposure: Exposure;
  /** An empty directory outside of it. */
  place(name: string): string;
}

async function shownTree(): Promise<Scene> {
  const directory: TemporaryDirectory = await temporaryDirectory('reachability');
  const place = (name: string): string => {
    const made = path.join(directory.path, name);
    mkdirSync(made);
    return made;
  };
  const root = place('fs');
  await runOk('mount', ['-t', 'tmpfs', 'tmpfs', root]);
  const tree = path.join(root, 'above', 'tree');
  const data = path.join(tree, '.ebb', 'data');
  mkdirSync(path.join(data, 'deep'), { recursive: true });
  writeFileSync(path.join(data, 'file'), 'content');
  using guarded = openFd(data, OpenFlag.path);
  const exposure = Exposure.show(tree, path.join(tree, '.ebb'), guarded.fd);
  return {
    root,
    tree,
    exposure,
    place,
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

function onlyThis(): Set<number> {
  return new Set([process.pid]);
}

/** What of ours there is, as soon as that is all: programs of other tests have a copy of all mounts for a moment. */
async function reachedBy({ exposure }: Scene, wanted: readonly string[]): Promise<void> {
  let found: readonly string[] = [];
  const isAll = async (): Promise<boolean> => {
    found = whats(await whoReaches(exposure.shown, onlyThis()));
    return isDeepStrictEqual(found, wanted);
  };
  await waitFor(isAll, { what: 'these to be found' }).catch(() => assert.deepEqual(found, wanted));
}

function whats(holders: readonly Holder[]): string[] {
  return holders.map(({ what }) => what);
}

/** What keeps a polite end off, in our own mount namespace. */
async function refusedFor({ exposure }: Scene): Promise<string[]> {
  const { stopped, holders } = await exposure.hide(false);
  assert.equal(stopped, false);
  return whats(holders).filter((what) => !what.endsWith('in another mount namespace'));
}

async function takenAway({ exposure }: Scene): Promise<void> {
  await waitFor(async () => (await exposure.hide(false)).stopped, { what: 'a polite end' });
}

for (const part of ['.', 'deep']) {
  test(`a bind mount of ${part} keeps a polite end off, whatever directories above are called since`, async () => {
    await using scene = await shownTree();
    const copy = scene.place('copy');
    await runOk('mount', ['--bind', path.join(scene.tree, part), copy]);
    renameSync(path.join(scene.root, 'above'), path.join(scene.root, 'renamed'));
    assert.deepEqual(await refusedFor(scene), [`mount ${copy}`]);
    assert.equal((await scene.exposure.hide(true)).stopped, true);
    await reachedBy(scene, [`mount ${copy}`]);
    await runOk('umount', [copy]);
    await reachedBy(scene, []);
  });

  test(`an overlay over ${part} reaches the data, though no mount tells, and until it is gone`, async () => {
    await using scene = await shownTree();
    const [upper, work, merged] = ['upper', 'work', 'mer,g: ed'].map((name) =>
      scene.place(name),
    ) as [string, string, string];
    const layers = `lowerdir=${scene.place('first')}:${path.join(scene.tree, part)},upperdir=${upper},workdir=${work}`;
    await runOk('mount', ['-t', 'overlay', 'overlay', '-o', layers, merged]);
    assert.deepEqual(await refusedFor(scene), [`mount ${merged}`]);
    assert.equal((await scene.exposure.hide(true)).stopped, true);
    await reachedBy(scene, [`mount ${merged}`]);
    await runOk('umount', [merged]);
    await reachedBy(scene, []);
  });
}

for (const [mode, title] of [
  ['leader', 'whose first thread has ended'],
  ['own', 'of which one thread has descriptors of its own'],
] as const) {
  test(`a process ${title} is found as long as it has a file open`, async () => {
    await using scene = await shownTree();
    const program = await compileHelper(scene.place('bin'), 'holder');
    const child = spawn(program, [path.join(scene.tree, 'file'), mode], {
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true,
    });
    killAtExit(child);
    try {
      await once(child.stdout, 'data');
      assert.equal((await scene.exposure.hide(false)).stopped, false);
      assert.equal((await scene.exposure.hide(true)).stopped, true);
      const found = async (): Promise<boolean> => {
        const pids = (await whoReaches(scene.exposure.shown, onlyThis())).map(({ pid }) => pid);
        return isDeepStrictEqual(pids, [child.pid]);
      };
      await waitFor(found, { what: 'the process to be found' });
    } finally {
      killGroup(child);
    }
    await reachedBy(scene, []);
  });
}

test('what something else is mounted over is covered, and can be taken away when it is not any more', async () => {
  await using scene = await shownTree();
  assert.equal(scene.exposure.isCovered, false);
  await runOk('mount', ['-t', 'tmpfs', 'tmpfs', scene.tree]);
  assert.equal(scene.exposure.isCovered, true);
  await runOk('umount', [scene.tree]);
  assert.equal(scene.exposure.isCovered, false);
  await takenAway(scene);
});

test('what was put in the place of the data that is guarded is not shown', async () => {
  await using scene = await shownTree();
  await takenAway(scene);
  const ebb = path.join(scene.tree, '.ebb');
  using guarded = openFd(path.join(ebb, 'data'), OpenFlag.path);
  renameSync(ebb, `${ebb}.moved`);
  mkdirSync(path.join(ebb, 'data'), { recursive: true });
  assert.throws(() => Exposure.show(scene.tree, ebb, guarded.fd), { code: 'EBUSY' });
  assert.deepEqual(readdirSync(scene.tree), ['.ebb', '.ebb.moved']);
});

test('layers of overlays as mountinfo has them', () => {
  const layers = (options: string, type = 'overlay'): string[] => {
    const [mount] = parseMountInfo(Buffer.from(`1 1 0:1 / /m rw - ${type} overlay ${options}\n`));
    assert.ok(mount !== undefined);
    return layersOf(mount);
  };
  assert.deepEqual(layers('rw,lowerdir=/a:/b::/c,upperdir=/u,workdir=/w,redirect_dir=on'), [
    '/a',
    '/b',
    '/c',
    '/u',
    '/w',
  ]);
  assert.deepEqual(layers('rw,lowerdir+=/a\\040b,lowerdir+=/c\\054d=e,datadir+=/data'), [
    '/a b',
    '/c,d=e',
    '/data',
  ]);
  assert.deepEqual(layers('rw,lowerdir=/a\\134:b:/c'), ['/a:b', '/c']);
  assert.deepEqual(layers('rw,lowerdir=/a', 'ext4'), []);
});
