/** What each thread of a tree's daemon shows of its work while the other one does nothing. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { SharedWord } from '../../src/native/shared-words.ts';
import { killAtExit } from '../support/run.ts';
import { waitFor } from '../support/wait-for.ts';
import { nativeScene } from './native-scene.ts';
import type { NativeScene } from './native-scene.ts';

const chunkBytes = 256 * 1024;
const waitMs = 10;
const waitsMax = 6_000;

function stepsOf({ server }: NativeScene): number {
  return Atomics.load(new Int32Array(server.pending), SharedWord.steps);
}

/** Blocks this thread, which is main, until the event thread has taken so many steps. */
function blockUntil(scene: NativeScene, steps: number): void {
  const nothing = new Int32Array(new SharedArrayBuffer(4));
  for (let waits = 0; waits < waitsMax; waits += 1) {
    if (stepsOf(scene) >= steps) return;
    Atomics.wait(nothing, 0, 0, waitMs);
  }
  assert.fail('the event thread shows no work');
}

test('the event thread counts what it answers, and that it was woken, while main does nothing', async () => {
  await using scene = await nativeScene('ext4');
  scene.add('f', 16 * chunkBytes);
  await scene.shellOk('head -c 4096 f > /dev/null');
  const script =
    'import os\nfd = os.open("f", os.O_RDONLY)\nprint("open", flush=True)\nwhile True: os.pread(fd, 16, 0)';
  const reader = spawn('python3', ['-c', script], {
    cwd: scene.path,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  killAtExit(reader);
  await once(reader.stdout, 'data');
  const ended = once(reader, 'exit');
  blockUntil(scene, stepsOf(scene) + 1_000);
  reader.kill('SIGKILL');
  await ended;
  const before = stepsOf(scene);
  scene.thread.wake();
  blockUntil(scene, before + 1);
});

test('main shows each message that it takes in, and each answer', async () => {
  await using scene = await nativeScene('ext4');
  scene.add('f', 16 * chunkBytes);
  const before = scene.steps;
  await scene.shellOk('head -c 4096 f > /dev/null');
  const { opens, accesses, allowed } = scene.server.counters();
  await waitFor(() => scene.steps - before >= opens + accesses + allowed, { what: 'the steps' });
  assert.ok(allowed > 0);
});
