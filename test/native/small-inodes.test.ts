/** ext4 with inodes of 128 bytes keeps whole seconds: what is done within one second leaves ctime as it is. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { StubChange } from '../../src/base/stub-facts.ts';
import { patternBytes } from '../support/pattern.ts';
import { waitFor } from '../support/wait-for.ts';
import { nativeScene, settle } from './native-scene.ts';
import type { NativeScene } from './native-scene.ts';

const sizeBytes = 100_000;
const second = 1_000;
const smallInodes = { mkfsArguments: ['-I', '128'] };

/** Most of a second is left. On a busy machine it may not be enough: then this proves nothing, and nothing fails. */
async function beginningOfSecond(): Promise<void> {
  await sleep(second - (Date.now() % second));
}

/** Writes through a mapping, which no event tells of, and leaves size and time as they were. */
function mapAndWrite(name: string): string {
  return `python3 -c '
import mmap, os
before = os.stat("${name}")
fd = os.open("${name}", os.O_RDWR)
m = mmap.mmap(fd, 0)
m[50000:50003] = b"new"
os.utime("${name}", ns=(before.st_atime_ns, before.st_mtime_ns))'`;
}

async function expectNew(scene: NativeScene, name: string): Promise<void> {
  const expected = patternBytes(1, sizeBytes);
  expected.write('new', 50_000);
  const { stdout, stderr } = await scene.shell(`cat ${name}`);
  assert.ok(stdout.equals(expected), `${name}: other bytes ${stderr.toString()}`);
}

test('who writes in the second in which he was let in, and sets the old time, has changed it', async () => {
  await using scene = await nativeScene('ext4', smallInodes);
  const file = scene.add('f', sizeBytes);
  await beginningOfSecond();
  await scene.shellOk(mapAndWrite('f'));
  await waitFor(() => file.change !== StubChange.intent, { what: 'what he did to be found out' });
  const result = await scene.release(file);
  await expectNew(scene, 'f');
  assert.equal(result.released, false);
});

test('who writes in the second from which on nobody is asked, and sets the old time, has changed it', async () => {
  await using scene = await nativeScene('ext4', smallInodes);
  const file = scene.add('f', sizeBytes);
  await beginningOfSecond();
  await settle(scene, 'f', file);
  await scene.shellOk(mapAndWrite('f'));
  await scene.server.recorded(file.id);
  const result = await scene.release(file);
  await expectNew(scene, 'f');
  assert.equal(result.released, false);
});

test('who writes in the second of its release, and sets the old time, keeps what he wrote', async () => {
  await using scene = await nativeScene('ext4', smallInodes);
  const file = scene.add('f', sizeBytes);
  await settle(scene, 'f', file);
  const { server, store } = scene;
  // As after a restart of the daemon.
  server.forget(file.id);
  await beginningOfSecond();
  await scene.shellOk('chmod 600 f');
  const before = server.moment(file);
  await server.changesTakenIn();
  const [result] = await store.release([file], {
    prove: ({ version, sizeBytes: size }) => {
      // Nothing that is told of it is taken in meanwhile: this thread waits.
      const { status } = spawnSync('/bin/sh', ['-c', mapAndWrite('f')], { cwd: scene.path });
      assert.equal(status, 0);
      return Promise.resolve({ version, sizeBytes: size });
    },
    isBusy: (id) => server.isBusy(id),
    beforeFreeing: (fd, one) => server.beforeFreeing(fd, one, before),
  });
  await expectNew(scene, 'f');
  assert.equal(result?.released, false);
});

test('what nobody has written to is released in a later second', async () => {
  await using scene = await nativeScene('ext4', smallInodes);
  const file = scene.add('f', sizeBytes);
  await settle(scene, 'f', file);
  await waitFor(async () => (await scene.release(file)).released, { what: 'its release' });
  const { stdout } = await scene.shell('cat f');
  assert.ok(stdout.equals(Buffer.from(patternBytes(1, sizeBytes))));
});
