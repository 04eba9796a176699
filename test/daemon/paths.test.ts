/** Paths and patterns of the control API over a catalog that is listed as it goes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EbbError } from '../../src/base/errors.ts';
import { Paths } from '../../src/daemon/mount/paths.ts';
import { servedScene } from '../mount/served-scene.ts';
import type { ServedScene } from '../mount/served-scene.ts';

const { signal } = new AbortController();

function setUp(scene: ServedScene): Paths {
  for (const key of ['b/one.txt', 'b/.two.txt', 'b/c/three.txt', 'a.txt', 'b/four.bin']) {
    scene.remote.putFile(key, new Uint8Array(1));
  }
  scene.remote.putSymlink('link', 'a.txt');
  return new Paths(scene.contents.catalog, scene.namespace);
}

const rethrow = (_path: string, thrown: unknown): never => {
  throw thrown;
};

async function found(paths: Paths, literal: string[], globs: string[] = []): Promise<string[]> {
  const all: string[] = [];
  for await (const { path } of paths.files({ paths: literal, globs }, signal, rethrow))
    all.push(path);
  return all;
}

test('a path is found though nothing was listed before', async () => {
  await using scene = await servedScene();
  const paths = setUp(scene);
  assert.equal((await paths.find('b/c/three.txt', signal)).sizeBytes, 1);
  assert.equal((await paths.find('', signal)).id, 1);
});

test('what is not there is said with its path', async () => {
  await using scene = await servedScene();
  const paths = setUp(scene);
  const says = (code: string, text: RegExp) => (error: EbbError) =>
    error.code === code && text.test(error.message);
  await assert.rejects(paths.find('b/none', signal), says('ENOENT', /b\/none/));
  await assert.rejects(paths.find('a.txt/x', signal), says('ENOTDIR', /a\.txt\/x/));
});

test('directories mean everything below, each file once, symlinks not', async () => {
  await using scene = await servedScene();
  const paths = setUp(scene);
  const below = ['b/.two.txt', 'b/c/three.txt', 'b/four.bin', 'b/one.txt'];
  assert.deepEqual(await found(paths, ['b', 'b/one.txt', 'b']), below);
  assert.deepEqual(await found(paths, ['']), ['a.txt', ...below]);
  assert.deepEqual(await found(paths, ['link']), []);
});

test('patterns match names at every depth, dotfiles, too', async () => {
  await using scene = await servedScene();
  const paths = setUp(scene);
  assert.deepEqual(await found(paths, [], ['b/*']), ['b/.two.txt', 'b/four.bin', 'b/one.txt']);
  assert.deepEqual(await found(paths, [], ['**/*.txt']), [
    'a.txt',
    'b/.two.txt',
    'b/c/three.txt',
    'b/one.txt',
  ]);
  assert.deepEqual(await found(paths, [], ['b/c/three.???', 'nothing*']), ['b/c/three.txt']);
  assert.deepEqual(await found(paths, [], ['b/\\four.bin']), ['b/four.bin']);
});

test('a request whose client went away stops', async () => {
  await using scene = await servedScene();
  const paths = setUp(scene);
  const controller = new AbortController();
  const walking = paths.files({ paths: [''] }, controller.signal, rethrow);
  await walking.next();
  controller.abort();
  await assert.rejects(walking.next());
});
