/** What the kernel is told of a node: all content present, types right, times from the remote. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NodeKind } from '../../src/catalog/catalog.ts';
import type { Node } from '../../src/catalog/catalog.ts';
import { attributesOf, entryOf, remainingMs } from '../../src/mount/attributes.ts';
import { stateOf, virtualXattr } from '../../src/mount/virtual-xattrs.ts';

const defaults = {
  fileMode: 0o444,
  directoryMode: 0o555,
  uid: 1000,
  gid: 1001,
  startedAtSeconds: 77,
};

function node(change: Partial<Node>): Node {
  return {
    id: 42,
    parentId: 1,
    name: Buffer.from('name'),
    kind: NodeKind.file,
    mode: -1,
    uid: -1,
    gid: -1,
    sizeBytes: 1_000_000,
    mtimeSeconds: 1_700_000_000,
    mtimeNanoseconds: 5,
    exact: true,
    version: 'v1',
    target: null,
    xattrs: null,
    checkedAtMs: 1,
    listedAtMs: 0,
    ...change,
  };
}

test('st_blocks never shows a hole, however little is local', () => {
  for (const sizeBytes of [1, 511, 512, 513, 4096, 1_000_000, 2 ** 40 + 1]) {
    const { blocks } = attributesOf(node({ sizeBytes }), defaults);
    assert.ok(blocks * 512 >= sizeBytes, `${sizeBytes}`);
    assert.ok((blocks - 1) * 512 < sizeBytes, `${sizeBytes}`);
  }
  assert.equal(attributesOf(node({ sizeBytes: 0 }), defaults).blocks, 0);
});

test('modes and owners come from the remote where it has them, from the options else', () => {
  const plain = attributesOf(node({}), defaults);
  assert.equal(plain.mode, 0o100444);
  assert.equal(plain.uid, 1000);
  const known = attributesOf(node({ mode: 0o755, uid: 5, gid: 6 }), defaults);
  assert.equal(known.mode, 0o100755);
  assert.equal(known.gid, 6);
  assert.equal(attributesOf(node({ kind: NodeKind.directory }), defaults).mode, 0o040555);
});

test('a symlink is as long as its target', () => {
  const link = attributesOf(
    node({ kind: NodeKind.symlink, target: Buffer.from('../x') }),
    defaults,
  );
  assert.equal(link.sizeBytes, 4);
  assert.equal(link.mode, 0o120777);
});

test('the time to live counts down from the last confirmation and never below zero', () => {
  assert.equal(remainingMs(1_000, 60_000, 1_000), 60_000);
  assert.equal(remainingMs(1_000, 60_000, 31_000), 30_000);
  assert.equal(remainingMs(1_000, 60_000, 99_000), 0);
  assert.equal(remainingMs(5_000, 60_000, 1_000), 0, 'the clock was set back since');
  assert.equal(entryOf(node({}), 7, defaults, 5).entryTimeoutMs, 5);
});

test('states and virtual attributes follow what is resident', () => {
  assert.equal(stateOf(node({}), 0), 'OFL');
  assert.equal(stateOf(node({}), 10), 'PAR');
  assert.equal(stateOf(node({}), 1_000_000), 'DUL');
  assert.equal(stateOf(node({ sizeBytes: 0 }), 0), 'DUL');
  const subject = { node: node({}), key: 'a/b', content: undefined, residentBytes: 10 };
  const text = (name: string): string | undefined => {
    const value = virtualXattr(name, subject);
    return value === undefined ? undefined : Buffer.from(value).toString();
  };
  assert.equal(text('user.ebb.state'), 'PAR');
  assert.equal(text('user.ebb.resident_bytes'), '10');
  assert.equal(text('user.ebb.key'), 'a/b');
  assert.equal(text('user.ebb.version'), 'v1');
  assert.equal(text('user.ebb.nonsense'), undefined);
});
