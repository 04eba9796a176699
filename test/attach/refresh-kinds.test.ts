/** What is a file, a directory or a symlink at the remote, and was another of them before. */
import assert from 'node:assert/strict';
import { lstatSync, readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { MemoryRemote } from '../../src/remote/memory/memory-remote.ts';
import { recall } from '../tree/support/stubs.ts';
import { Scene } from './populate-scene.ts';

type Kind = 'file' | 'directory' | 'symlink';
const kinds: readonly Kind[] = ['file', 'directory', 'symlink'];

function put(remote: MemoryRemote, name: string, kind: Kind): void {
  remote.remove(name);
  if (kind === 'file') remote.putFile(name, Buffer.from(`the file ${name}`));
  else if (kind === 'symlink') remote.putSymlink(name, 'somewhere');
  else remote.putFile(`${name}/sub/inside`, Buffer.from(`in ${name}`));
}

function assertIs(scene: Scene, name: string, kind: Kind): void {
  const status = lstatSync(scene.path(name));
  const is = {
    file: status.isFile(),
    directory: status.isDirectory(),
    symlink: status.isSymbolicLink(),
  };
  assert.ok(is[kind], `${name} is no ${kind}`);
  if (kind === 'file') assert.equal(scene.record(name)?.key, name);
  if (kind === 'symlink') assert.equal(readlinkSync(scene.path(name)), 'somewhere');
  if (kind === 'directory')
    assert.equal(scene.record(`${name}/sub/inside`)?.key, `${name}/sub/inside`);
}

test('what becomes another kind at the remote becomes it here, and another one again', async () => {
  const changes = kinds.flatMap((from) =>
    kinds.map((to) => ({ from, to, name: `d/${from} ${to}` })),
  );
  const remote = new MemoryRemote();
  for (const { name, from } of changes) put(remote, name, from);
  using scene = new Scene('xfs', remote);
  await scene.populate();
  for (const turn of ['to', 'from', 'to'] as const) {
    for (const change of changes) put(remote, change.name, change[turn]);
    const { failures, reports } = await scene.refresh();
    assert.deepEqual([failures, reports], [[], []]);
    for (const change of changes) assertIs(scene, change.name, change[turn]);
    assert.deepEqual(readdirSync(path.join(scene.tree.path, '.ebb/new')), []);
    const again = await scene.refresh();
    assert.deepEqual([again.made, again.stubs, again.symlinks, again.removed], [0, 0, 0, 0]);
  }
});

test('what may be the last copy, or is a user’s, stays where the remote has another kind, which is named', async () => {
  const remote = new MemoryRemote();
  for (const name of ['here', 'directory/here', 'directory/cold', 'own/cold'])
    put(remote, name, 'file');
  using scene = new Scene('xfs', remote);
  await scene.populate();
  for (const name of ['here', 'directory/here']) {
    const file = scene.store.get(scene.record(name)?.id ?? 0);
    assert.ok(file !== undefined);
    await recall(file);
    await scene.store.settled(file.id);
  }
  writeFileSync(scene.path('own/mine'), 'my own');
  put(remote, 'here', 'directory');
  put(remote, 'directory', 'file');
  put(remote, 'own', 'symlink');
  const { reports } = await scene.refresh();
  assert.deepEqual(reports.map(({ kind, key }) => `${kind} ${key}`).toSorted(), [
    'kept directory',
    'kept here',
    'kept own',
    'lost directory/here',
    'lost here',
  ]);
  assert.deepEqual(scene.names('directory'), ['here']);
  assert.deepEqual(scene.names('own'), ['mine']);
  assert.ok(lstatSync(scene.path('here')).isFile());
});
