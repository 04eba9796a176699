/** LOOKUP of `.` and `..`: how the kernel opens a file handle of what it has forgotten. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../src/base/errno.ts';
import { encodeName } from '../../src/base/name.ts';
import { NodeKind, ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import type { Entry } from '../../src/fuse/filesystem.ts';
import { Generations } from '../../src/mount/generations.ts';
import { generationKey, Scene } from './front-scene.ts';
import { fileRow } from './rows.ts';

const generations = new Generations(generationKey);

function lookup(scene: Scene, nodeId: number, name: string): Entry | number {
  const call = scene.kernel.call();
  scene.fileSystem.lookup(call, nodeId, encodeName(name));
  const reply = call.reply;
  if (reply?.kind === 'entry') return reply.entry;
  assert.equal(reply?.kind, 'error');
  return reply.errno;
}

test('a handle is looked up by id alone, with the same id and generation as by name', () => {
  using scene = new Scene();
  const [file, directory] = scene.list([fileRow('a'), fileRow('d', { kind: NodeKind.directory })]);
  assert.ok(file && directory);
  const byName = lookup(scene, ROOT_NODE_ID, 'a');
  assert.deepEqual(lookup(scene, file.id, '.'), byName);
  assert.equal(typeof byName === 'object' && byName.generation, generations.of(file.id));
  for (const [id, name, expected] of [
    [file.id, '..', ROOT_NODE_ID],
    [directory.id, '.', directory.id],
    [directory.id, '..', ROOT_NODE_ID],
    [ROOT_NODE_ID, '.', ROOT_NODE_ID],
    [ROOT_NODE_ID, '..', ROOT_NODE_ID],
  ] as const) {
    const entry = lookup(scene, id, name);
    assert.ok(typeof entry === 'object');
    assert.deepEqual([entry.nodeId, entry.generation], [expected, generations.of(expected)]);
  }
  assert.equal(scene.staleHandles[0], 0);
  assert.deepEqual(scene.told(), [], 'nobody was asked');
});

test('the handle of what never was, went or lost its name is ESTALE, and counted', () => {
  using scene = new Scene();
  const [file] = scene.list([fileRow('a')]);
  assert.ok(file);
  const next = scene.catalog.replaceNode(file.id, fileRow('a', { sizeBytes: 9 }));
  assert.notEqual(next.id, file.id);
  const unknown = Number.MAX_SAFE_INTEGER;
  for (const [id, name] of [
    [file.id, '.'],
    [file.id, '..'],
    [unknown, '.'],
    [0, '.'],
  ] as const) {
    assert.equal(lookup(scene, id, name), Errno.ESTALE, `${id} ${name}`);
  }
  assert.equal(scene.staleHandles[0], 4);
});

test('names that only begin with dots are names', () => {
  using scene = new Scene();
  const names = ['...', '.a', '..a'];
  scene.list(names.map((name) => fileRow(name)));
  for (const name of names) assert.equal(typeof lookup(scene, ROOT_NODE_ID, name), 'object', name);
});
