/** A remote that opens late: nobody waits for it longer than he wants to, and what opens after the end is closed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LateRemote } from '../../src/remote/late.ts';
import { MemoryRemote } from '../../src/remote/memory/memory-remote.ts';
import type { Remote } from '../../src/remote/remote.ts';
import { noSignal, rejectsWith } from '../conformance/collect.ts';

const late = { kind: 'dir', displayName: '/far' };

function memory(): MemoryRemote {
  const remote = new MemoryRemote({});
  remote.putFile('file', Buffer.from('content'));
  return remote;
}

test('an opening that hangs: who gives up is let go, one try at a time, and its end serves everybody', async () => {
  const first = Promise.withResolvers<Remote>();
  const remote = new LateRemote(
    late,
    () => Promise.reject(new Error('a second try')),
    first.promise,
  );
  const leaving = new AbortController();
  const left = remote.stat('file', { signal: leaving.signal });
  const stays = remote.stat('file', { signal: noSignal });
  const reason = new Error('gave up');
  leaving.abort(reason);
  await assert.rejects(left, reason);
  first.resolve(memory());
  assert.equal((await stays).sizeBytes, 7);
  assert.equal((await remote.stat('file', { signal: noSignal })).sizeBytes, 7);
});

test('an opening that fails is EIO, whatever it said, and is tried again by the next call', async () => {
  let tries = 0;
  const remote = new LateRemote(
    late,
    () => Promise.resolve(((tries += 1), memory())),
    Promise.reject(Object.assign(new Error('not there'), { code: 'ENOENT' })),
  );
  await rejectsWith(remote.stat('file', { signal: noSignal }), 'EIO');
  assert.equal((await remote.stat('file', { signal: noSignal })).sizeBytes, 7);
  assert.equal(tries, 1);
});

test('closed while an opening hangs: at once, and what opens then is closed', async () => {
  const first = Promise.withResolvers<Remote>();
  const remote = new LateRemote(late, () => first.promise, first.promise);
  const waiting = rejectsWith(remote.stat('file', { signal: noSignal }), 'ESHUTDOWN');
  await remote.close();
  const closed = Promise.withResolvers<void>();
  const opened = memory();
  opened.close = () => Promise.resolve(closed.resolve());
  first.resolve(opened);
  await Promise.all([closed.promise, waiting]);
  await rejectsWith(remote.stat('file', { signal: noSignal }), 'ESHUTDOWN');
});
