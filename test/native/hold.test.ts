/** A front end that takes no more events, because a successor will: nobody who was heard is left behind. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { buffer } from 'node:stream/consumers';
import { patternBytes } from '../support/pattern.ts';
import { killAtExit, killGroup } from '../support/run.ts';
import { waitFor } from '../support/wait-for.ts';
import { nativeScene } from './native-scene.ts';
import type { NativeScene } from './native-scene.ts';

const sizeBytes = 300_000;
/** Nobody is served meanwhile. */
const noPatienceMs = 50;
const patienceMs = 60_000;

/** A program that reads the file, and what it got; `waits` resolves when the kernel holds it for our answer. */
function reader(scene: NativeScene, name: string) {
  const child = spawn('cat', [path.join(scene.path, name)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  });
  killAtExit(child);
  const read = Promise.all([buffer(child.stdout), once(child, 'exit')]).then(([bytes]) => bytes);
  return {
    read,
    waits: () =>
      waitFor(() => readFileSync(`/proc/${child.pid}/wchan`, 'utf8').includes('fanotify'), {
        what: 'a program that waits for an answer',
      }),
    [Symbol.dispose]: () => killGroup(child),
  };
}

test('held: who was heard is answered first, who comes then waits; too long is EBUSY, and all goes on', async () => {
  await using scene = await nativeScene('xfs');
  const { server } = scene;
  for (const [seed, name] of ['stalled', 'first', 'second'].entries()) {
    scene.add(name, sizeBytes, { seed });
  }
  await server.hold(patienceMs);
  using first = reader(scene, 'first');
  await first.waits();
  const { opens, accesses, pending } = server.counters();
  assert.deepEqual([opens, accesses, pending], [0, 0, 0], 'nobody is heard');
  await assert.doesNotReject(server.changesTakenIn(), 'it still says that it lives');
  server.goOn();
  assert.deepEqual(await first.read, Buffer.from(patternBytes(1, sizeBytes)));

  // Somebody whom the remote keeps waiting.
  scene.fault = ({ key }) => (key === 'stalled' ? { kind: 'stall' } : undefined);
  using stalled = reader(scene, 'stalled');
  await waitFor(() => server.counters().pending === 1, { what: 'a question' });
  await assert.rejects(server.hold(noPatienceMs), { code: 'EBUSY' });
  using second = reader(scene, 'second');
  await second.waits();
  assert.equal(server.counters().pending, 1, 'held as long as nobody says otherwise');
  server.goOn();
  assert.deepEqual(await second.read, Buffer.from(patternBytes(2, sizeBytes)));
  assert.equal(server.counters().denied, 0);
  void stalled.read;
});
