/** The in-memory remote keeps the contract, and can be changed and made to ignore ranges. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryRemote } from '../../src/remote/memory/memory-remote.ts';
import { listAll, noSignal, readAll, rejectsWith } from '../conformance/collect.ts';
import { remoteConformance } from '../conformance/remote.ts';
import { memoryFixture } from '../support/remote-fixtures.ts';

remoteConformance('memory', () => Promise.resolve(memoryFixture()));

void test('a remote without ranges gives whole files only', async () => {
  const remote = new MemoryRemote({ supportsRanges: false });
  remote.putFile('file', Buffer.from('content'));
  assert.equal(remote.supportsRanges, false);
  assert.equal((await readAll(remote, 'file')).bytes.toString(), 'content');
  await rejectsWith(readAll(remote, 'file', { offsetBytes: 1 }), 'EOPNOTSUPP');
});

void test('versions, absent versions, other objects', async () => {
  const remote = new MemoryRemote({ batchObjectsMax: 2 });
  remote.putFile('a', Buffer.from('1'), { version: 'mine' });
  remote.putFile('b', Buffer.from('1'), { version: null });
  remote.putOther('pipe');
  const stat = (key: string) => remote.stat(key, { signal: noSignal });
  assert.equal((await stat('a')).version, 'mine');
  assert.equal((await stat('b')).version, undefined);
  assert.equal((await stat('pipe')).kind, 'other');
  assert.equal((await listAll(remote, '')).objects.size, 3);
  await rejectsWith(readAll(remote, 'pipe'), 'EOPNOTSUPP');
});
