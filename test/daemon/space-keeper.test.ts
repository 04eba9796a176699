/** Keeping the cache within its limits, and ending while something is being released. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Logbook } from '../../src/daemon/logbook.ts';
import { SpaceKeeper } from '../../src/daemon/space-keeper.ts';
import type { SpaceLimits } from '../../src/policy/release-policy.ts';
import { servedScene, who } from '../mount/served-scene.ts';
import type { ServedScene } from '../mount/served-scene.ts';
import { patternBytes } from '../support/pattern.ts';
import { waitFor } from '../support/wait-for.ts';

const fileBytes = 512 * 1024;

function keeper(scene: ServedScene, limits: SpaceLimits): { space: SpaceKeeper; lines: string[] } {
  const lines: string[] = [];
  const space = new SpaceKeeper({
    limits,
    reservoir: scene.contents,
    logbook: new Logbook(scene.clock, 'debug', (line) => lines.push(line)),
    isBusy: () => false,
    monotonicMs: () => scene.clock.monotonicMs(),
  });
  space.start(scene.releaser);
  return { space, lines };
}

async function fill(scene: ServedScene, names: readonly string[]): Promise<number[]> {
  for (const name of names) scene.remote.putFile(name, patternBytes(1, fileBytes));
  const ids: number[] = [];
  for (const name of names) {
    const { id } = await scene.node(name);
    const { file } = await scene.preparer.open(id);
    await scene.recall.ensure(file, 0, fileBytes, { intent: 'get', requester: who });
    ids.push(id);
    scene.contents.catalog.touch(new Map([[id, ids.length]]));
  }
  return ids;
}

/** A thread that has nothing open, as long as the scene lives. */
function answerQuiesces(scene: ServedScene): () => void {
  const timer = setInterval(() => {
    for (const message of scene.posted.splice(0)) {
      if (message.kind !== 'quiesce') continue;
      scene.server.take({ kind: 'quiesced', nodeId: message.nodeId, openCount: 0 });
    }
  }, 1);
  return () => clearInterval(timer);
}

test('room is made from what was used longest ago', async () => {
  await using scene = await servedScene();
  const ids = await fill(scene, ['a', 'b', 'c', 'd']);
  const stop = answerQuiesces(scene);
  const { space } = keeper(scene, { cacheSizeBytes: 4 * fileBytes });
  try {
    // Not for a guess, as long as nobody wants it.
    assert.throws(() => space.reserve(fileBytes, 'prefetch'), { code: 'EAGAIN' });
    assert.equal(scene.contents.get(ids[0] ?? 0)?.residency.complete, true);
    await space.reserve(fileBytes, 'demand');
    await waitFor(() => scene.contents.get(ids[0] ?? 0)?.residency.residentBytes === 0, {
      what: 'the oldest to go',
    });
    assert.equal(scene.contents.get(ids[3] ?? 0)?.residency.complete, true);
  } finally {
    await space.close();
    stop();
  }
});

test('min-free is hard: ENOSPC when nothing helps', async () => {
  await using scene = await servedScene();
  const stop = answerQuiesces(scene);
  const { space } = keeper(scene, { minFreeBytes: 2 ** 52 });
  try {
    await assert.rejects(async () => await space.reserve(1, 'demand'), { code: 'ENOSPC' });
  } finally {
    await space.close();
    stop();
  }
});

test('closing does not wait for a thread that is gone', async () => {
  await using scene = await servedScene();
  await fill(scene, ['a', 'b']);
  const { space } = keeper(scene, { cacheSizeBytes: fileBytes });
  const reserved = Promise.resolve(space.reserve(1, 'demand')).catch(() => undefined);
  await scene.message('quiesce');
  // Nobody will ever answer that.
  scene.server.close();
  await space.close();
  await reserved;
});

test('a clock that is set back does not keep anything from being released', async () => {
  await using scene = await servedScene();
  const ids = await fill(scene, ['a', 'b']);
  const stop = answerQuiesces(scene);
  const { space } = keeper(scene, { cacheSizeBytes: fileBytes });
  try {
    for (const id of ids) scene.releaser.setPinned(id, true);
    await space.reserve(1, 'demand');
    await space.reserve(1, 'demand');
    for (const id of ids) scene.releaser.setPinned(id, false);
    scene.clock.setWallClock(scene.clock.nowMs() - 86_400_000);
    scene.clock.advance(2_000);
    await space.reserve(1, 'demand');
    await waitFor(() => scene.contents.get(ids[0] ?? 0)?.residency.residentBytes === 0, {
      what: 'the oldest to go',
      timeoutMs: 20_000,
    });
  } finally {
    await space.close();
    stop();
  }
});
