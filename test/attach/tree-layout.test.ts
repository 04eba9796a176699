/** A directory becomes a tree and an ordinary directory again, with all that was in it. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  rmdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { dissolveTree, knownTree, prepareTree, readSecret } from '../../src/attach/tree-layout.ts';
import type { TreeRequest } from '../../src/attach/tree-layout.ts';
import { EbbError } from '../../src/base/errors.ts';
import { StubChange } from '../../src/base/stub-facts.ts';
import { OpenFlag, openFd } from '../../src/sys/fd.ts';
import { identityOf } from '../../src/tree/identity.ts';
import { writeStubMark } from '../../src/tree/stubs/stub-mark.ts';
import type { StubMarkFacts } from '../../src/tree/stubs/stub-mark.ts';
import { temporaryDirectory } from '../support/temporary.ts';

async function scene(): Promise<AsyncDisposable & { readonly request: TreeRequest }> {
  const directory = await temporaryDirectory('layout');
  const tree = path.join(directory.path, 'tree');
  mkdirSync(path.join(tree, 'sub'), { recursive: true });
  writeFileSync(path.join(tree, 'sub', 'mine'), 'mine');
  writeFileSync(Buffer.concat([Buffer.from(`${tree}/odd-`), Buffer.of(0xff, 0x0a)]), 'odd');
  chmodSync(tree, 0o751);
  const state = path.join(directory.path, 'state');
  return {
    request: { tree, remote: 'https://example.org/pub', stateParent: state, stateDefault: state },
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

function fails(code: string): (error: unknown) => boolean {
  return (error) => error instanceof EbbError && error.code === code;
}

test('what is in a directory is in the tree, and there again when the tree is dissolved', async () => {
  await using made = await scene();
  const { tree } = made.request;
  const places = prepareTree(made.request);
  assert.deepEqual(readdirSync(tree), ['.ebb']);
  assert.equal(statSync(path.join(tree, '.ebb')).mode & 0o777, 0o700);
  const data = path.join(tree, '.ebb', 'data');
  assert.equal(readFileSync(path.join(data, 'sub', 'mine'), 'utf8'), 'mine');
  assert.equal(statSync(data).mode & 0o777, 0o751);
  assert.equal(places.isNew, true);
  assert.equal(readSecret(places.stateDirectory).length, 32);
  await dissolveTree(tree, places);
  const names = readdirSync(tree, { encoding: 'buffer' }).map((name) => name.toString('latin1'));
  assert.deepEqual(names.sort(), ['odd-\u00ff\n', 'sub']);
  assert.equal(readFileSync(path.join(tree, 'sub', 'mine'), 'utf8'), 'mine');
  assert.equal(existsSync(places.stateDirectory), false);
});

test('a .ebb that a user has made, owns or can enter is refused, and nothing is written through it', async () => {
  await using made = await scene();
  const { tree } = made.request;
  const ebb = path.join(tree, '.ebb');
  const victim = path.join(path.dirname(tree), 'victim');
  writeFileSync(victim, 'precious');
  mkdirSync(ebb, { mode: 0o700 });
  symlinkSync(victim, path.join(ebb, 'tree.json.new'));
  for (const [uid, mode] of [
    [65_534, 0o700],
    [0, 0o777],
    [0, 0o750],
  ] as const) {
    chownSync(ebb, uid, 0);
    chmodSync(ebb, mode);
    assert.throws(() => prepareTree(made.request), fails('EACCES'));
    assert.throws(() => knownTree(tree), fails('EACCES'));
  }
  // Left by a crash of ours, as far as anybody can tell.
  chmodSync(ebb, 0o700);
  const places = prepareTree(made.request);
  assert.equal(readFileSync(victim, 'utf8'), 'precious');
  assert.deepEqual(readdirSync(ebb).sort(), ['data', 'new', 'poison', 'tree.json']);
  chmodSync(ebb, 0o755);
  assert.throws(() => prepareTree(made.request), fails('EACCES'));
  chmodSync(ebb, 0o700);
  await dissolveTree(tree, places);
  symlinkSync(path.dirname(victim), ebb);
  assert.throws(() => prepareTree(made.request), fails('EACCES'));
});

test('a tree is found again, with what was put beside it meanwhile', async () => {
  await using made = await scene();
  const { tree } = made.request;
  const first = prepareTree(made.request);
  writeFileSync(path.join(tree, 'later'), 'later');
  const second = prepareTree({ ...made.request, remote: undefined, stateParent: undefined });
  assert.deepEqual(second, { ...first, isNew: false });
  assert.equal(readFileSync(path.join(tree, '.ebb', 'data', 'later'), 'utf8'), 'later');
  // Nothing is overwritten.
  writeFileSync(path.join(tree, 'later'), 'other');
  assert.throws(() => prepareTree(made.request), fails('EEXIST'));
  assert.equal(readFileSync(path.join(tree, '.ebb', 'data', 'later'), 'utf8'), 'later');
  assert.equal(readFileSync(path.join(tree, 'later'), 'utf8'), 'other');
});

test('what cannot be the same tree is refused', async () => {
  await using made = await scene();
  assert.throws(() => prepareTree({ ...made.request, remote: undefined }), fails('EINVAL'));
  const { stateDirectory, ebbDirectory } = prepareTree(made.request);
  assert.throws(() => prepareTree({ ...made.request, remote: 'https://other/' }), fails('EEXIST'));
  assert.throws(() => prepareTree({ ...made.request, stateParent: '/elsewhere' }), fails('EINVAL'));
  const facts = readFileSync(path.join(ebbDirectory, 'tree.json'), 'utf8');
  writeFileSync(path.join(ebbDirectory, 'tree.json'), facts.replace('"format": 1', '"format": 99'));
  assert.throws(() => prepareTree(made.request), fails('EPROTO'));
  writeFileSync(path.join(ebbDirectory, 'tree.json'), facts.slice(0, 20));
  assert.throws(() => prepareTree(made.request), fails('EUCLEAN'));
  writeFileSync(path.join(ebbDirectory, 'tree.json'), facts);
  rmSync(path.join(stateDirectory, 'secret'));
  assert.throws(() => prepareTree(made.request), fails('ENOENT'));
});

test('a secret that is missing, open to others, damaged or another tree’s is refused, with the way out', async () => {
  await using made = await scene();
  await using other = await scene();
  const { tree } = made.request;
  const { stateDirectory, treeId } = prepareTree(made.request);
  const secret = path.join(stateDirectory, 'secret');
  const right = readFileSync(secret);
  const foreign = readFileSync(path.join(prepareTree(other.request).stateDirectory, 'secret'));
  const put = (bytes: Uint8Array, mode = 0o600): void => {
    rmSync(secret, { force: true });
    writeFileSync(secret, bytes, { mode });
  };
  for (const [spoil, code, sentence] of [
    [() => rmSync(secret), 'ENOENT', /there is no .*secret. Put the state directory back/],
    [() => put(right, 0o640), 'EACCES', /is open to others \(mode 0640\).*chmod 600/],
    [
      () => put(right.subarray(1)),
      'EUCLEAN',
      /is damaged: it has 31 bytes. Put the right one back/,
    ],
    [() => put(foreign), 'EUCLEAN', /not the one that sealed the marks.* Put the right one back/],
  ] as const) {
    spoil();
    for (const attempt of [() => prepareTree(made.request), () => knownTree(tree)]) {
      assert.throws(
        attempt,
        (error) => error instanceof EbbError && error.code === code && sentence.test(error.message),
      );
    }
  }
  put(right);
  assert.equal(knownTree(tree)?.stateDirectory, stateDirectory);
  // As an older Ebb left it: its marks tell which secret it is, and from then on it is known.
  const facts = path.join(tree, '.ebb', 'tree.json');
  const { seal: _seal, ...older } = JSON.parse(readFileSync(facts, 'utf8')) as { seal?: string };
  writeFileSync(facts, JSON.stringify(older));
  writeMark(path.join(tree, '.ebb/data', 'stub'), treeId, right);
  put(foreign);
  for (const attempt of [() => prepareTree(made.request), () => knownTree(tree)]) {
    assert.throws(attempt, fails('EUCLEAN'));
  }
  put(right);
  // Another tree's mark and a damaged one say nothing.
  writeMark(path.join(tree, '.ebb/data', 'foreign'), randomUUID(), foreign);
  writeMark(path.join(tree, '.ebb/data', 'damaged'), treeId, foreign);
  prepareTree(made.request);
  put(foreign);
  assert.throws(() => prepareTree(made.request), fails('EUCLEAN'));
});

function writeMark(file: string, treeId: string, secret: Uint8Array): void {
  writeFileSync(file, '');
  using fd = openFd(file, OpenFlag.rdonly);
  const facts: StubMarkFacts = {
    id: 7,
    handle: identityOf(fd.fd),
    key: 'key',
    version: 'v',
    sizeBytes: 0,
    mtime: { seconds: 1, nanoseconds: 0 },
    chunkBytes: 4096,
    bitmap: new Uint8Array(0),
    residentBytes: 0,
    complete: false,
    change: StubChange.clean,
    pinned: false,
  };
  writeStubMark(fd.fd, facts, { treeId, secret });
}

test('a tree may be moved; a copy of it is no tree', async () => {
  await using made = await scene();
  const { tree } = made.request;
  const { treeId } = prepareTree(made.request);
  const moved = `${tree}-moved`;
  renameSync(tree, moved);
  assert.equal(prepareTree({ ...made.request, tree: moved }).treeId, treeId);
  cpSync(moved, tree, { recursive: true });
  assert.throws(() => prepareTree(made.request), fails('EEXIST'));
  assert.throws(() => knownTree(tree), fails('EEXIST'));
  assert.equal(knownTree(moved)?.treeId, treeId);
});

test('a tree of which nobody knows where it is says how to find out', async () => {
  await using made = await scene();
  const { tree } = made.request;
  const { stateDirectory } = prepareTree(made.request);
  assert.equal(knownTree(tree)?.isPlaceKnown, true);
  rmSync(path.join(stateDirectory, 'place'));
  const how = new RegExp(`/place is gone, .* run ebb rebuild ${tree}, `);
  assert.throws(() => prepareTree(made.request), {
    name: 'EbbError',
    code: 'ENOENT',
    message: how,
  });
  assert.equal(knownTree(tree)?.isPlaceKnown, false);
});

test('a tree with a stub in it, or anything on its way, is not dissolved, and nothing is moved', async () => {
  await using made = await scene();
  const { tree } = made.request;
  const places = prepareTree(made.request);
  const { treeId } = places;
  const secret = readSecret(places.stateDirectory);
  const data = path.join(tree, '.ebb/data');
  // Of another tree.
  writeMark(path.join(data, 'sub/foreign'), randomUUID(), new Uint8Array(32).fill(1));
  for (const [name, code] of [
    ['data/sub/stub', 'EBUSY'],
    ['new/stub', 'EBUSY'],
    ['data/damaged', 'EBUSY'],
    ['new/mine', 'ENOTEMPTY'],
  ] as const) {
    const file = path.join(tree, '.ebb', name);
    if (name === 'new/mine') writeFileSync(file, 'mine');
    else writeMark(file, treeId, name === 'data/damaged' ? new Uint8Array(32).fill(1) : secret);
    await assert.rejects(dissolveTree(tree, places), fails(code));
    assert.deepEqual(readdirSync(tree), ['.ebb']);
    rmSync(file);
  }
  mkdirSync(path.join(data, '.ebb'));
  await assert.rejects(dissolveTree(tree, places), fails('EEXIST'));
  assert.deepEqual(readdirSync(tree), ['.ebb']);
  rmdirSync(path.join(data, '.ebb'));
  await dissolveTree(tree, places);
  assert.deepEqual(readdirSync(path.join(tree, 'sub')), ['foreign', 'mine']);
});

test('a lost+found that came from the remote goes with the tree; that of the file system stays', async () => {
  for (const [hasOwn, inside, code] of [
    [false, 'full', undefined],
    [true, 'empty', undefined],
    [true, 'full', 'EEXIST'],
  ] as const) {
    await using made = await scene();
    const { tree } = made.request;
    if (hasOwn) mkdirSync(path.join(tree, 'lost+found'));
    const places = prepareTree(made.request);
    const ours = path.join(tree, '.ebb/data/lost+found');
    mkdirSync(ours);
    if (inside === 'full') writeFileSync(path.join(ours, 'found'), 'found');
    if (code === undefined) {
      await dissolveTree(tree, places);
      const found = readdirSync(path.join(tree, 'lost+found'));
      assert.deepEqual(found, inside === 'full' ? ['found'] : []);
    } else {
      await assert.rejects(dissolveTree(tree, places), fails(code));
      assert.equal(readFileSync(path.join(ours, 'found'), 'utf8'), 'found');
    }
  }
});
