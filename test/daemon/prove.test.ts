/** What counts as proof that the remote still has a content. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { proveContent } from '../../src/daemon/prove.ts';
import { transferVersion } from '../../src/recall/namespace/reconcile.ts';
import type { ObjectAttributes, Remote } from '../../src/remote/remote.ts';

const { signal } = new AbortController();
const sizeBytes = 9;

/** Whether content of this version may be released when the remote says `object`. */
async function isProved(version: string, object: ObjectAttributes): Promise<boolean> {
  const remote = { stat: async () => object } as unknown as Remote;
  const proof = await proveContent(remote, { key: 'x', version, sizeBytes }, signal);
  return proof.version === version && proof.sizeBytes === sizeBytes;
}

test('where there is no version, a file of the same size proves as much as can be; nothing else does', async () => {
  for (const version of [transferVersion('u'), `size=${sizeBytes}`]) {
    assert.ok(await isProved(version, { kind: 'file', sizeBytes }));
    assert.ok(await isProved(version, { kind: 'file' }));
    assert.ok(!(await isProved(version, { kind: 'file', sizeBytes: 8 })));
    assert.ok(!(await isProved(version, { kind: 'directory' })));
    assert.ok(!(await isProved(version, { kind: 'file', sizeBytes, version: 'etag:"a"' })));
  }
});

test('a version is proved by itself, with its size', async () => {
  const version = 'etag:"a"';
  assert.ok(await isProved(version, { kind: 'file', sizeBytes, version }));
  assert.ok(!(await isProved(version, { kind: 'file', sizeBytes: 8, version })));
  assert.ok(!(await isProved(version, { kind: 'file', sizeBytes })));
  assert.ok(await isProved(version, { kind: 'file', version }), 'where no size is told, by itself');
  assert.ok(!(await isProved(version, { kind: 'file', version: 'etag:"b"' })));
  assert.ok(!(await isProved(version, { kind: 'directory', sizeBytes, version })));
  assert.ok(!(await isProved(version, { kind: 'file', sizeBytes, version: 'etag:"b"' })));
});

test('what the remote says at once of this version and size is proof; else it is asked', async () => {
  const version = 'v';
  for (const said of [true, false]) {
    const asked: unknown[] = [];
    const stat = async (): Promise<ObjectAttributes> => ({ kind: 'file', sizeBytes, version: 'w' });
    const hasNow = (...about: unknown[]): boolean => {
      asked.push(about);
      return said;
    };
    const remote = { stat, hasNow } as unknown as Remote;
    const proof = await proveContent(remote, { key: 'x', version, sizeBytes }, signal);
    assert.deepEqual(proof, { version: said ? version : 'w', sizeBytes });
    assert.deepEqual(asked, [['x', version, sizeBytes]]);
    const stopped = proveContent(remote, { key: 'x', version, sizeBytes }, AbortSignal.abort());
    await assert.rejects(stopped, { name: 'AbortError' });
  }
});
