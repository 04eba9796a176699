/** What users do to directories while a refresh is at work in them concerns these directories, and no other one. */
import assert from 'node:assert/strict';
import { lstatSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { readLocal } from '../../src/attach/local-directory.ts';
import { Turns } from '../../src/attach/turns.ts';
import { MemoryRemote } from '../../src/remote/memory/memory-remote.ts';
import { OpenFlag, openFd } from '../../src/sys/fd.ts';
import { runOk } from '../support/run.ts';
import { Scene } from './populate-scene.ts';

async function sceneOf(files: readonly string[]) {
  const remote = new MemoryRemote();
  for (const key of files) remote.putFile(key, Buffer.from(key));
  const scene = new Scene('xfs', remote);
  await scene.populate();
  return { remote, scene };
}

const staged = (scene: Scene): string[] => readdirSync(path.join(scene.tree.path, '.ebb/new'));

test('a directory that users remove while it is refreshed stays away, and all others are done', async () => {
  const { remote, scene } = await sceneOf(['d/a', 'e/a']);
  using _scene = scene;
  for (const name of ['d/a', 'd/b', 'd/c/x', 'e/a', 'e/b']) {
    remote.putFile(name, Buffer.from(`now ${name}`));
  }
  remote.putSymlink('d/link', 'a');
  scene.usersRecorded = async () => {
    const id = scene.record('d/a')?.id;
    rmSync(scene.path('d'), { recursive: true, force: true });
    scene.usersRecorded = () => Promise.resolve(() => true);
    if (id !== undefined) await scene.store.forget([id]);
    return () => true;
  };
  const { failures } = await scene.refresh();
  assert.deepEqual(failures, []);
  assert.deepEqual(scene.names(), ['e']);
  assert.deepEqual(scene.names('e'), ['a', 'b']);
  assert.deepEqual(staged(scene), []);
  await scene.refresh();
  assert.deepEqual(scene.names(), ['e']);
});

test('a directory that nobody may change is named, all others are done, and it follows when it may', async () => {
  const { remote, scene } = await sceneOf(['d/gone', 'd/old', 'd/sub/a', 'e/a']);
  using _scene = scene;
  remote.putSymlink('d/other', 'old');
  await scene.refresh();
  remote.remove('d/gone');
  remote.remove('d/other');
  for (const name of ['d/new', 'd/more', 'd/old', 'd/made/x', 'd/sub/b', 'e/b']) {
    remote.putFile(name, Buffer.from(`now ${name}`));
  }
  remote.putSymlink('d/link', 'old');
  await runOk('chattr', ['+i', scene.path('d')]);
  try {
    const { failed, reports } = await scene.refresh();
    assert.equal(failed, 0);
    const named = reports.filter(({ key }) => key.startsWith('d/')).map(({ key }) => key);
    const expected = ['d/gone', 'd/link', 'd/made', 'd/more', 'd/new', 'd/old', 'd/other'];
    assert.deepEqual(named.toSorted(), expected);
    assert.deepEqual(scene.names('d'), ['gone', 'old', 'other', 'sub']);
    assert.deepEqual(
      [scene.names('d/sub'), scene.names('e')],
      [
        ['a', 'b'],
        ['a', 'b'],
      ],
    );
    assert.deepEqual(staged(scene), []);
  } finally {
    await runOk('chattr', ['-i', scene.path('d')]);
  }
  const { reports } = await scene.refresh();
  assert.deepEqual(reports, []);
  assert.deepEqual(scene.names('d'), ['link', 'made', 'more', 'new', 'old', 'sub']);
  assert.equal(lstatSync(scene.path('d/old')).size, 'now d/old'.length);
});

test('names that a refresh had made and could not put into place come with the next one', async () => {
  const { remote, scene } = await sceneOf(['d/a']);
  using _scene = scene;
  for (const name of ['d/b', 'd/c']) remote.putFile(name, Buffer.from(name));
  const flush = scene.catalog.flush.bind(scene.catalog);
  scene.catalog.flush = () => {
    scene.catalog.flush = flush;
    throw new Error('the disk of the catalog is full');
  };
  await assert.rejects(scene.refresh(), /disk of the catalog/);
  await scene.refresh();
  assert.deepEqual(scene.names('d'), ['a', 'b', 'c']);
  assert.deepEqual(staged(scene), []);
});

test('names that become something else while a directory is looked at are left to their users', async () => {
  const { scene } = await sceneOf(['d/a']);
  using _scene = scene;
  const at = (name: string): string => scene.path(`d/${name}`);
  for (const name of ['link', 'other']) symlinkSync('nowhere', at(name));
  for (const name of ['file', 'text']) writeFileSync(at(name), 'my own');
  using directory = openFd(scene.path('d'), OpenFlag.rdonly | OpenFlag.directory);
  const turns = new Turns();
  turns.pause = () => {
    if (readdirSync(scene.path('d')).includes('changed')) return undefined;
    for (const name of ['link', 'other', 'file', 'text']) rmSync(at(name));
    for (const name of ['link', 'other']) writeFileSync(at(name), 'a file now');
    for (const name of ['file', 'text']) symlinkSync('nowhere', at(name));
    writeFileSync(at('changed'), '');
    return undefined;
  };
  const { store, catalog } = scene;
  const local = await readLocal(directory.fd, { store, catalog, turns });
  for (const name of ['link', 'other', 'file', 'text']) {
    const entry = local.get(name);
    assert.ok(entry !== undefined, name);
    assert.ok(!('record' in entry) || entry.record === undefined, name);
  }
});
