/** Killed at any moment while it brings names in: the next run completes the tree, with each file once. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { linkSync, lstatSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { openDirectoryRemote } from '../../src/remote/dir/dir-remote.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { Scene, facts } from './populate-scene.ts';

const script = path.join(import.meta.dirname, 'populating-process.ts');
const refreshing = path.join(import.meta.dirname, 'refreshing-process.ts');
const directories = 40;
const filesEach = 30;

function fillOrigin(root: string): void {
  for (let directory = 0; directory < directories; directory += 1) {
    const inside = `${root}/d${directory % 8}/e${directory}`;
    mkdirSync(inside, { recursive: true });
    for (let file = 0; file < filesEach; file += 1)
      writeFileSync(`${inside}/f${file}`, 'x'.repeat(file));
    for (let link = 0; link < 40; link += 1) symlinkSync('f1', `${inside}/l${link}`);
    if (directory > 0) linkSync(`${inside}/f3`, `${root}/d0/link${directory}`);
  }
}

/** Which names share an inode may get lost with what the catalog had not yet written; no name and no fact does. */
function withoutLinks(root: string): string[] {
  return facts(root).map((line) => line.replace(/ link \d+ of \d+/, ''));
}

function inodesOf(root: string): number {
  const entries = readdirSync(root, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return new Set(files.map(({ parentPath, name }) => lstatSync(path.join(parentPath, name)).ino))
    .size;
}

for (const isExposed of [false, true]) {
  test(`killed again and again, ${isExposed ? 'seen by users' : 'before users see it'}`, async () => {
    await using directory = await temporaryDirectory('killed');
    const root = `${directory.path}/root`;
    mkdirSync(root);
    fillOrigin(root);
    const remote = await openDirectoryRemote(root);
    using scene = new Scene('xfs', remote);
    const { data, path: treePath, catalogPath } = scene.tree;
    const parameters = [script, root, data, treePath, catalogPath, isExposed ? '1' : '0'];
    let kills = 0;
    for (let after = 1; after < directories * filesEach; after += 250) {
      // A busy machine may be done before this one hears of the first stub.
      const killAt = kills === 0 ? String(after % 400) : 'Infinity';
      const words = [...parameters, killAt];
      const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] });
      const ended = once(child, 'exit');
      const lines = createInterface({ input: child.stdout });
      lines.on('line', (line) => {
        if (line !== 'done' && Number(line) >= after % 400) child.kill('SIGKILL');
      });
      const [, signal] = (await ended) as [number | null, string | null];
      if (signal === 'SIGKILL') kills += 1;
    }
    assert.ok(kills > 0, 'nothing was shown: it was never killed');
    scene.restart();
    const last = await scene.populate({ isExposed });
    assert.deepEqual(last.failures, []);
    assert.deepEqual(last.reports, []);
    assert.deepEqual(withoutLinks(scene.data), withoutLinks(root));
    assert.equal(scene.catalog.totals().stubs, inodesOf(scene.data));
    assert.deepEqual(readdirSync(path.join(treePath, '.ebb/new')), []);
    const again = await scene.refresh();
    assert.deepEqual([again.stubs, again.links, again.replaced, again.removed], [0, 0, 0, 0]);
    await remote.close();
  });
}

for (const [what, fatal, target] of [
  ['before an exchange of symlinks', '2', 'after'],
  ['between an exchange of symlinks and the end of the old one', 'unlinkat', 'after'],
  ['between taking a symlink away and its end', 'unlinkat', undefined],
] as const) {
  test(`a refresh that is killed ${what} leaves no link to the next run`, async () => {
    await using directory = await temporaryDirectory('killed-symlink');
    const root = `${directory.path}/root`;
    mkdirSync(root);
    symlinkSync('before', `${root}/l`);
    const remote = await openDirectoryRemote(root);
    using scene = new Scene('xfs', remote);
    await scene.populate();
    rmSync(`${root}/l`);
    if (target !== undefined) symlinkSync(target, `${root}/l`);
    const { data, path: treePath, catalogPath } = scene.tree;
    const words = [process.execPath, refreshing, root, data, treePath, catalogPath, fatal];
    const killed = spawnSync('sh', ['-c', 'ulimit -c 0; exec "$0" "$@"', ...words], {
      encoding: 'utf8',
    });
    assert.equal(killed.signal, 'SIGSYS', killed.stderr);
    const staging = path.join(treePath, '.ebb/new');
    assert.equal(readdirSync(staging).length, 1, 'nothing was shown: nothing was left');
    scene.restart();
    const result = await scene.refresh();
    assert.deepEqual(result.reports, []);
    assert.deepEqual(readdirSync(staging), []);
    assert.deepEqual(facts(scene.data), facts(root));
    await remote.close();
  });
}
