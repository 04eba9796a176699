/** What users did just before a tree was taken away: its event thread has told of it, and main has not looked at it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { StubChange } from '../../src/base/stub-facts.ts';
import { nativeScene } from './native-scene.ts';

const files = 64;
/** With each of them main is told of more than a message port gives in one turn (Node: 1,000). */
const rounds = 200;
/** Long enough for the thread to end. */
const busyMs = 1_000;

test('what users did last is recorded when the tree ends, also if they set the old time', async () => {
  await using scene = await nativeScene('xfs');
  const stubs = Array.from({ length: files }, (_, index) => scene.add(`f${index}`, 10));
  await scene.shellOk('cat f* > /dev/null');
  await scene.store.flush();
  await scene.shellOk('cat f* > /dev/null');
  const program = `
import os
def write(index):
  name = f"f{index}"
  before = os.stat(name)
  fd = os.open(name, os.O_RDWR)
  os.pwrite(fd, b"user", 3)
  os.close(fd)
  os.utime(name, ns=(before.st_atime_ns, before.st_mtime_ns))
for round in range(${rounds}):
  for index in range(${files / 2}): write(index)
for index in range(${files / 2}, ${files}): write(index)`;
  const take = scene.server.take.bind(scene.server);
  let stopped: Promise<void> | undefined;
  // Main is busy with the first message; the thread is gone before it looks at the others.
  scene.server.take = (message) => {
    scene.server.take = take;
    const { status, stderr } = spawnSync('python3', ['-c', program], { cwd: scene.path });
    assert.equal(status, 0, stderr.toString());
    stopped = scene.thread.stop();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, busyMs);
    take(message);
  };
  await scene.shellOk('touch f0');
  while (stopped === undefined) await sleep(1);
  await stopped;
  scene.server.close();
  await scene.server.changesSettled();
  const unknown = stubs.filter(({ id }) => scene.catalog.get(id)?.change !== StubChange.dirty);
  const names = unknown.map(({ key }) => key);
  assert.deepEqual(names, [], `of ${scene.changes} changes that main was told of`);
});
