/** Bringing a tree up to date while users work in it, on a real file system. */
import { StubChange } from '../../src/base/stub-facts.ts';
import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { symlinkName } from '../../src/attach/staging.ts';
import { openDirectoryRemote } from '../../src/remote/dir/dir-remote.ts';
import { MemoryRemote } from '../../src/remote/memory/memory-remote.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { newStub, recall } from '../tree/support/stubs.ts';
import { Scene, content } from './populate-scene.ts';

const bytes = (text: string): Uint8Array => Buffer.from(text);

async function sceneOf(files: Readonly<Record<string, string>>) {
  const remote = new MemoryRemote();
  for (const [key, text] of Object.entries(files)) remote.putFile(key, bytes(text));
  const scene = new Scene('xfs', remote);
  const { failed } = await scene.populate();
  assert.equal(failed, 0);
  return { remote, scene };
}

/** Everything of it is here, as its recall would leave it. */
async function bringHere(scene: Scene, name: string): Promise<void> {
  const file = scene.store.get(scene.record(name)?.id ?? 0);
  assert.ok(file !== undefined);
  await recall(file);
  await scene.store.settled(file.id);
  assert.equal(scene.record(name)?.complete, true);
}

/** What the front end does when it lets a writer in. */
async function change(scene: Scene, name: string, text: string): Promise<void> {
  const file = scene.store.get(scene.record(name)?.id ?? 0);
  assert.ok(file !== undefined);
  await scene.store.setChange(file, StubChange.discarding);
  writeFileSync(scene.path(name), text);
  await scene.store.setChange(file, StubChange.dirty);
}

/** What the front end does when the kernel says that a stub was deleted. */
async function remove(scene: Scene, name: string): Promise<void> {
  const id = scene.record(name)?.id ?? 0;
  rmSync(scene.path(name));
  await scene.store.forget([id]);
}

test('new names come, names that went go, and nothing is left in the staging directory', async () => {
  const { remote, scene } = await sceneOf({ 'a/one': '1', 'a/two': '22', 'b/c/three': '333' });
  using _scene = scene;
  remote.putFile('a/new', bytes('new'));
  remote.putFile('new directory/x/y', bytes('deep'));
  remote.putSymlink('a/link', 'one', { mtime: { seconds: 5, nanoseconds: 7 } });
  remote.remove('a/two');
  remote.remove('b');
  const result = await scene.refresh();
  assert.deepEqual(scene.names(), ['a', 'new directory']);
  assert.deepEqual(scene.names('a'), ['link', 'new', 'one']);
  assert.equal(lstatSync(scene.path('new directory/x/y')).size, 4);
  assert.equal(readlinkSync(scene.path('a/link')), 'one');
  assert.deepEqual([result.stubs, result.symlinks, result.removed], [2, 1, 4]);
  assert.equal(scene.catalog.totals().stubs, 3);
  assert.deepEqual(readdirSync(path.join(scene.tree.path, '.ebb/new')), []);
  remote.putFile('b/c/three', bytes('back'));
  remote.remove('a/link');
  await scene.refresh();
  assert.equal(lstatSync(scene.path('b/c/three')).size, 4, 'what went there may come back');
  assert.deepEqual(scene.names('a'), ['new', 'one']);
});

test('a new version is another inode: who has the old one open keeps it', async () => {
  const { remote, scene } = await sceneOf({ f: 'first' });
  using _scene = scene;
  await bringHere(scene, 'f');
  const before = scene.record('f');
  const old = readFileSync(scene.path('f'));
  const open = openSync(scene.path('f'), 'r');
  remote.putFile('f', bytes('the second'), { mode: 0o600 });
  const result = await scene.refresh();
  assert.deepEqual([result.replaced, result.stubs], [1, 1]);
  const now = scene.record('f');
  assert.notDeepEqual(now?.handle, before?.handle);
  assert.equal(now?.sizeBytes, 10);
  assert.equal(now?.residentBytes, 0);
  assert.equal(lstatSync(scene.path('f')).size, 10);
  assert.equal(lstatSync(scene.path('f')).mode & 0o777, 0o600);
  const kept = Buffer.alloc(old.length);
  readSync(open, kept, 0, kept.length, 0);
  closeSync(open);
  assert.deepEqual(kept, old);
  assert.equal(scene.catalog.get(before?.id ?? 0), undefined);
  assert.equal(scene.catalog.totals().stubs, 1);
});

test('a pinned file stays pinned in its new version', async () => {
  const { remote, scene } = await sceneOf({ f: 'first' });
  using _scene = scene;
  const file = scene.store.get(scene.record('f')?.id ?? 0);
  assert.ok(file !== undefined);
  scene.store.setPinned(file, true);
  remote.putFile('f', bytes('second'));
  await scene.refresh();
  assert.equal(scene.record('f')?.version, 'v2');
  assert.equal(scene.record('f')?.pinned, true);
});

test('what was changed here stays: conflict, and the remote may lose its own', async () => {
  const { remote, scene } = await sceneOf({ both: 'x', gone: 'y', calm: 'z' });
  using _scene = scene;
  await change(scene, 'both', 'mine');
  await change(scene, 'gone', 'mine, too');
  remote.putFile('both', bytes('theirs'));
  remote.remove('gone');
  const result = await scene.refresh();
  assert.equal(content(scene.path('both')), 'mine');
  assert.equal(content(scene.path('gone')), 'mine, too');
  assert.deepEqual(result.reports.map(({ kind, key }) => `${kind} ${key}`).toSorted(), [
    'conflict both',
    'kept gone',
  ]);
  assert.equal(scene.record('gone')?.lost, true);
});

test('what somebody has open for writing stays, and what was changed while nobody served', async () => {
  const { remote, scene } = await sceneOf({ f: 'first', g: 'first', h: 'first', i: 'first' });
  using _scene = scene;
  for (const name of ['f', 'g', 'h', 'i']) await bringHere(scene, name);
  const writer = openSync(scene.path('f'), 'r+');
  writeFileSync(scene.path('g'), 'mine!');
  linkSync(scene.path('i'), scene.path('also i'));
  for (const name of ['f', 'g', 'h', 'i']) remote.putFile(name, bytes('second version'));
  const { replaced, reported } = await scene.refresh();
  writeSync(writer, 'mine!');
  closeSync(writer);
  assert.deepEqual([content(scene.path('f')), content(scene.path('g'))], ['mine!', 'mine!']);
  assert.equal(lstatSync(scene.path('h')).size, 'second version'.length);
  assert.equal(lstatSync(scene.path('also i')).size, 'first'.length);
  assert.deepEqual([replaced, reported.conflict], [2, 2]);
  assert.deepEqual(readdirSync(path.join(scene.tree.path, '.ebb/new')), []);
});

test('a file that somebody begins to empty while its recall is made durable stays his', async () => {
  const { remote, scene } = await sceneOf({ f: 'first' });
  using _scene = scene;
  const { store } = scene;
  const file = store.get(scene.record('f')?.id ?? 0);
  assert.ok(file !== undefined);
  // As the front end: it has him wait, and says so to who asks from then on.
  let emptying = Promise.resolve();
  scene.usersRecorded = () => emptying.then(() => () => true);
  const settled = store.settled.bind(store);
  store.settled = async (id) => {
    await settled(id);
    emptying = store.setChange(file, StubChange.discarding);
  };
  remote.putFile('f', bytes('second version'));
  const { replaced, reported } = await scene.refresh();
  await emptying;
  assert.deepEqual([replaced, reported.conflict], [0, 1]);
  assert.equal(scene.record('f')?.id, file.id);
});

test('a file that is all here, and that somebody may have written to meanwhile, stays his', async () => {
  const { remote, scene } = await sceneOf({ f: 'first', cold: 'first' });
  using _scene = scene;
  const file = scene.store.get(scene.record('f')?.id ?? 0);
  assert.ok(file !== undefined);
  await recall(file);
  scene.usersRecorded = () => Promise.resolve(() => false);
  for (const name of ['f', 'cold']) remote.putFile(name, bytes('second version'));
  const { replaced, reported } = await scene.refresh();
  assert.deepEqual([replaced, reported.conflict], [1, 1]);
  assert.equal(scene.record('f')?.id, file.id);
});

test('a stub without a record gets one, also when its id is of another one by now', async () => {
  const { remote, scene } = await sceneOf({ f: 'first' });
  using _scene = scene;
  const id = scene.record('f')?.id ?? 0;
  remote.putFile('found', bytes('found'));
  scene.store.create(scene.store.rootFd, Buffer.from('found'), newStub(id, 'found', 5));
  const { failed } = await scene.refresh();
  assert.equal(failed, 0);
  assert.deepEqual([scene.record('f')?.id, scene.record('f')?.key], [id, 'f']);
  assert.equal(scene.record('found')?.key, 'found');
});

test('an empty file that somebody has begun to fill stays when the remote has it no longer', async () => {
  const { remote, scene } = await sceneOf({ open: '', filled: '', empty: '' });
  using _scene = scene;
  const writer = openSync(scene.path('open'), 'a');
  writeFileSync(scene.path('filled'), 'mine');
  for (const name of ['open', 'filled', 'empty']) remote.remove(name);
  await scene.refresh();
  writeSync(writer, 'mine');
  closeSync(writer);
  assert.deepEqual(scene.names(), ['filled', 'open']);
  assert.deepEqual([content(scene.path('open')), content(scene.path('filled'))], ['mine', 'mine']);
});

test('what was recalled a moment ago stays when the remote has it no longer', async () => {
  const { remote, scene } = await sceneOf({ f: 'first' });
  using _scene = scene;
  const file = scene.store.get(scene.record('f')?.id ?? 0);
  assert.ok(file !== undefined);
  await recall(file);
  remote.remove('f');
  await scene.refresh();
  assert.ok(existsSync(scene.path('f')));
});

test('the last copy stays, and is no longer the last one when the remote has it again', async () => {
  const { remote, scene } = await sceneOf({ whole: 'whole', empty: 'nothing of it' });
  using _scene = scene;
  await bringHere(scene, 'whole');
  const here = readFileSync(scene.path('whole'));
  remote.remove('whole');
  remote.remove('empty');
  const result = await scene.refresh();
  assert.deepEqual(scene.names(), ['whole']);
  assert.deepEqual(readFileSync(scene.path('whole')), here);
  assert.deepEqual(
    result.reports.map(({ kind }) => kind),
    ['lost'],
  );
  assert.equal(scene.record('whole')?.lost, true);
  assert.deepEqual((await scene.refresh()).reports, [], 'said once');
  remote.putFile('whole', bytes('whole'), { version: 'v1' });
  await scene.refresh();
  assert.equal(scene.record('whole')?.lost, false);
});

test('what users deleted, renamed or put in the way stays so', async () => {
  const { remote, scene } = await sceneOf({
    del: '1',
    ren: '2',
    own: '3',
    'd/x': '4',
    'e/x': '5',
    'f/x': '6',
  });
  using _scene = scene;
  remote.putSymlink('l', 'del');
  await scene.refresh();
  await remove(scene, 'del');
  renameSync(scene.path('ren'), scene.path('renamed'));
  await remove(scene, 'own');
  writeFileSync(scene.path('own'), 'my own');
  await remove(scene, 'd/x');
  rmSync(scene.path('d'), { recursive: true });
  renameSync(scene.path('e'), scene.path('e2'));
  rmSync(scene.path('l'));
  symlinkSync('elsewhere', scene.path('mine'));
  const expected = ['e2', 'f', 'mine', 'own', 'renamed'];
  assert.deepEqual(scene.names(), expected);
  await scene.refresh();
  scene.restart();
  const result = await scene.refresh();
  assert.deepEqual(scene.names(), expected);
  assert.equal(result.stubs, 0);
  assert.equal(content(scene.path('own')), 'my own');
  remote.putFile('del', bytes('another version'));
  remote.putFile('ren', bytes('another version'));
  await scene.refresh();
  assert.deepEqual(scene.names(), ['del', ...expected, 'ren'].toSorted());
  assert.equal(scene.record('renamed')?.version, 'v2', 'no version is mixed into the old file');
  assert.equal(scene.record('renamed')?.lost, true);
});

test("a directory that went at the remote goes as far as nothing of a user's is in it", async () => {
  const { remote, scene } = await sceneOf({
    'd/a': '1',
    'd/deep/b': '2',
    'e/a': '3',
    'e/deep/b': '4',
  });
  using _scene = scene;
  mkdirSync(scene.path('own/private'), { recursive: true });
  writeFileSync(scene.path('e/deep/note'), 'mine');
  await bringHere(scene, 'e/a');
  remote.remove('d');
  remote.remove('e');
  await scene.refresh();
  assert.deepEqual(scene.names(), ['e', 'own']);
  assert.deepEqual(scene.names('e'), ['a', 'deep']);
  assert.deepEqual(scene.names('e/deep'), ['note']);
  assert.ok(existsSync(scene.path('own/private')));
  remote.putFile('d/again', bytes('5'));
  await scene.refresh();
  assert.deepEqual(scene.names('d'), ['again']);
});

test('attributes of a directory follow the remote when the remote changed them, and users otherwise', async () => {
  const remote = new MemoryRemote();
  const time = (seconds: number) => ({ seconds, nanoseconds: 5 });
  remote.putDirectory('d', { mode: 0o750, uid: 5, gid: 6, mtime: time(1000) });
  remote.putFile('d/a', bytes('1'));
  remote.putDirectory('e', { mode: 0o700, mtime: time(1000) });
  using scene = new Scene('ext4', remote);
  await scene.populate();
  const of = (name: string) => {
    const { mode, uid, gid, mtimeMs } = lstatSync(scene.path(name));
    return [mode & 0o7777, uid, gid, Math.floor(mtimeMs / 1000)];
  };
  assert.deepEqual(of('d'), [0o750, 5, 6, 1000]);
  writeFileSync(scene.path('e/mine'), '');
  const [, , , touched] = of('e');
  await scene.refresh();
  assert.deepEqual(of('e'), [0o700, 0, 0, touched], "a user's change of the time stays");
  remote.remove('d');
  remote.putDirectory('d', { mode: 0o711, uid: 5, gid: 7, mtime: time(2000) });
  remote.putFile('d/b', bytes('2'));
  await scene.refresh();
  assert.deepEqual(of('d'), [0o711, 5, 7, 2000]);
  assert.deepEqual(scene.names('d'), ['b']);
});

test('hard links follow the remote together, and a user may take one name away', async () => {
  await using directory = await temporaryDirectory('links');
  const root = `${directory.path}/root`;
  mkdirSync(`${root}/d`, { recursive: true });
  writeFileSync(`${root}/a`, 'first');
  linkSync(`${root}/a`, `${root}/d/b`);
  const remote = await openDirectoryRemote(root);
  using scene = new Scene('xfs', remote);
  await scene.populate();
  assert.equal(lstatSync(scene.path('a')).nlink, 2);
  writeFileSync(`${root}/a`, 'the second');
  await scene.refresh();
  assert.equal(lstatSync(scene.path('a')).ino, lstatSync(scene.path('d/b')).ino);
  assert.equal(lstatSync(scene.path('a')).size, 10);
  assert.equal(scene.catalog.totals().stubs, 1);
  rmSync(scene.path('d/b'));
  await scene.refresh();
  assert.deepEqual(scene.names('d'), []);
  linkSync(`${root}/a`, `${root}/d/c`);
  await scene.refresh();
  assert.equal(lstatSync(scene.path('d/c')).ino, lstatSync(scene.path('a')).ino);
  rmSync(`${root}/a`);
  await scene.refresh();
  assert.deepEqual(scene.names(), ['d']);
  await remote.close();
});

test('a stub that lost its record in a crash gets it back', async () => {
  const { scene } = await sceneOf({ a: '1', b: '2' });
  using _scene = scene;
  await bringHere(scene, 'a');
  const id = scene.record('a')?.id ?? 0;
  scene.catalog.delete([id]);
  scene.restart();
  const result = await scene.refresh();
  assert.equal(result.stubs, 0);
  assert.deepEqual(result.reports, []);
  assert.equal(scene.record('a')?.id, id);
});

test('what a crash left in the staging directory goes; what may be a user’s gets a name again', async () => {
  const { scene } = await sceneOf({ a: '1', 'sub/whole': 'whole', 'sub/edited': 'before' });
  using _scene = scene;
  const staging = path.join(scene.tree.path, '.ebb/new');
  for (const name of ['sub/whole', 'sub/edited']) await bringHere(scene, name);
  // Of the same size, past everybody, between the exchange and the end.
  writeFileSync(scene.path('sub/edited'), 'edited');
  for (const [at, name] of ['a', 'sub/whole', 'sub/edited'].entries()) {
    renameSync(scene.path(name), path.join(staging, `x-${at}`));
  }
  writeFileSync(path.join(staging, 'x-4'), "a user's");
  mkdirSync(path.join(staging, 'x-5'));
  symlinkSync('a', path.join(staging, symlinkName('x-6', ['a'])));
  // A user had put his own where Ebb's was to be replaced.
  symlinkSync('his', path.join(staging, symlinkName('x-7', ['a', 'b'])));
  scene.restart();
  const result = await scene.refresh();
  assert.deepEqual(readdirSync(staging), []);
  // What was edited counts as renamed by its user.
  assert.equal(result.stubs, 2);
  const saved = (directory: string): string[] =>
    scene.names(directory).filter((name) => name.startsWith('ebb-saved-'));
  assert.deepEqual(
    scene.names().filter((name) => !name.startsWith('ebb-saved-')),
    ['a', 'sub'],
  );
  const files = saved('').filter((name) => lstatSync(scene.path(name)).isFile());
  assert.deepEqual([files.length, saved('').length], [1, 3]);
  const links = saved('').filter((name) => lstatSync(scene.path(name)).isSymbolicLink());
  assert.deepEqual(
    links.map((name) => readlinkSync(scene.path(name))),
    ['his'],
  );
  const [edited = '', ...more] = saved('sub');
  assert.deepEqual(more, []);
  assert.equal(content(scene.path(`sub/${edited}`)), 'edited');
  assert.equal(scene.record(`sub/${edited}`)?.change, StubChange.dirty);
  assert.equal(scene.catalog.totals().stubs, 3);
});

test('in a directory with a project for quotas names come, go and are replaced as elsewhere', async () => {
  const { remote, scene } = await sceneOf({ 'a/old': 'old', 'a/goes': '1', 'b/old': 'old' });
  using _scene = scene;
  // As xfs_quota(8) sets it; what lies in it may be of other projects.
  await runOk('chattr', ['-p', '42', scene.path('a')]);
  await runOk('chattr', ['+P', scene.path('a')]);
  // Ebb's own directory has one when the tree was in a project before it was attached.
  await runOk('chattr', ['-p', '7', scene.path('../new')]);
  await runOk('chattr', ['+P', scene.path('../new')]);
  scene.restart();
  remote.putFile('a/new', bytes('new'));
  remote.putFile('a/old', bytes('another'));
  remote.remove('a/goes');
  remote.putSymlink('a/link', 'new');
  remote.putFile('b/new', bytes('new'));
  const result = await scene.refresh();
  assert.equal(result.failed, 0);
  assert.deepEqual(scene.names('a'), ['new', 'old']);
  assert.equal(lstatSync(scene.path('a/old')).size, 7);
  assert.deepEqual(scene.names('b'), ['new', 'old']);
  assert.deepEqual(scene.names('../new'), []);
  const projects = await runOk('lsattr', ['-p', scene.path('a')]);
  assert.equal(projects.stdout.toString().match(/^ +42 /gm)?.length, 2);
  // A symlink has no descriptor by which it could be said to be of the project.
  assert.deepEqual(
    result.reports.map(({ kind, key }) => [kind, key]),
    [['skipped', 'a/link']],
  );
});
