/** Deletions: how many are remembered, and how often is looked whether an inode has gone. */
import assert from 'node:assert/strict';
import { linkSync, openSync, closeSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { StubChange } from '../../src/base/stub-facts.ts';
import { FileGates } from '../../src/native/file-gates.ts';
import { KnownFiles } from '../../src/native/known-files.ts';
import { Writers } from '../../src/native/writers.ts';
import { encodeHandle, handleOf } from '../../src/sys/handle.ts';
import type { StubFile, StubStore } from '../../src/tree/stubs/stub-store.ts';
import { temporaryDirectory } from '../support/temporary.ts';

interface Scene {
  readonly writers: Writers;
  readonly forgotten: number[];
  readonly looked: () => number;
  readonly deleted: (id: number) => void;
}

/** Files of a directory, each with a record; nothing but their inodes matters here. */
function scene(rootFd: number, names: readonly string[], deletedMax?: number): Scene {
  const handles = names.map((name) => encodeHandle(handleOf(name).handle));
  const files = new Map(
    handles.map((handle, id) => [id, { id, handle, change: StubChange.clean } as StubFile]),
  );
  const idOf = new Map(handles.map((handle, id) => [Buffer.from(handle).toString('hex'), id]));
  const forgotten: number[] = [];
  let looked = 0;
  const store = {
    rootFd,
    get: (id: number) => {
      looked += 1;
      return files.get(id);
    },
    byHandle: (handle: Uint8Array) =>
      files.get(idOf.get(Buffer.from(handle).toString('hex')) ?? -1),
    forget: (ids: readonly number[]) => {
      for (const id of ids) files.delete(id);
      forgotten.push(...ids);
      return Promise.resolve();
    },
  } as unknown as StubStore;
  const writers = new Writers({
    store,
    recall: { cancel: () => Promise.resolve() },
    gates: new FileGates(),
    known: new KnownFiles(store, () => undefined),
    changesTakenIn: () => Promise.resolve(),
    neverTellOfContent: () => undefined,
    onProblem: (_id, message) => assert.fail(message),
    ...(deletedMax !== undefined && { deletedMax }),
  });
  const deleted = (id: number): void => {
    const handle = handles[id] as Uint8Array;
    const what = { modified: false, closedForWriting: false, deleted: true } as const;
    const event = { ...what, atBytes: undefined };
    assert.equal(writers.changed({ kind: 'changed', handle, ...event }), undefined);
  };
  return { writers, forgotten, looked: () => looked, deleted };
}

test('of more deletions than are remembered the records of some stay, and later ones are heard of again', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  await using directory = await temporaryDirectory('deletions');
  const names = Array.from({ length: 5 }, (_, at) => path.join(directory.path, `f${at}`));
  for (const name of names) writeFileSync(name, '');
  const rootFd = openSync(directory.path, 'r');
  const { writers, forgotten, deleted } = scene(rootFd, names, 2);
  for (const name of names.slice(0, 4)) rmSync(name);
  for (const id of [0, 1, 1, 2, 3]) deleted(id);
  t.mock.timers.tick(1);
  await turn();
  assert.deepEqual(forgotten, [0, 1]);
  // There is room again.
  rmSync(names[4] as string);
  deleted(4);
  t.mock.timers.tick(1);
  await turn();
  assert.deepEqual(forgotten, [0, 1, 4]);
  writers.close();
  closeSync(rootFd);
});

test('inodes that outlive their names are looked at once in two seconds, also when there are many', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  await using directory = await temporaryDirectory('deletions');
  const count = 1_100;
  const names = Array.from({ length: count }, (_, at) => path.join(directory.path, `f${at}`));
  for (const name of names) writeFileSync(name, '');
  const rootFd = openSync(directory.path, 'r');
  const { writers, forgotten, looked, deleted } = scene(rootFd, names);
  // The last one is gone, the others have another name still.
  for (const name of names.slice(0, -1)) linkSync(name, `${name}.more`);
  for (const name of names) rmSync(name);
  for (let id = 0; id < count; id += 1) deleted(id);
  for (let ms = 0; ms < 1_900; ms += 100) {
    t.mock.timers.tick(100);
    await turn();
  }
  assert.deepEqual(forgotten, [count - 1]);
  assert.equal(looked(), count);
  t.mock.timers.tick(2_000);
  await turn();
  t.mock.timers.tick(1);
  await turn();
  assert.equal(looked(), 2 * count - 1);
  writers.close();
  closeSync(rootFd);
});
