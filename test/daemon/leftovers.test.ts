/** Files that a crash left in the tree: gone when they are nobody's, back in the catalog when they hold content. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { systemClock } from '../../src/base/clock.ts';
import { Contents } from '../../src/daemon/mount/contents.ts';
import { Leftovers } from '../../src/daemon/mount/leftovers.ts';
import type { LeftoversReport } from '../../src/daemon/mount/leftovers.ts';
import { Logbook } from '../../src/daemon/logbook.ts';
import { contentPath } from '../../src/tree/layout.ts';
import { chunkBytes, openCache, remote, temporaryDirectory } from '../tree/support/cache.ts';

async function clean(
  contents: Contents,
  startedAtMs = Date.now() + 1,
): Promise<LeftoversReport | undefined> {
  const logbook = new Logbook(systemClock, 'error', () => undefined);
  const leftovers = new Leftovers({ contents, logbook, startedAtMs, startDelayMs: 0 });
  const report = await leftovers.done;
  await leftovers.close();
  return report;
}

const noProblem = (problem: { readonly message: string }): void => assert.fail(problem.message);

test('what has neither row nor mark goes, content with a mark comes back, the rest stays', async () => {
  using directory = temporaryDirectory();
  const at = (id: number): string => contentPath(directory.path, id);
  const before = openCache(directory.path);
  const kept = before.add('kept', 3 * chunkBytes);
  const unmarked = before.add('unmarked', chunkBytes);
  const named = before.add('named', 2 * chunkBytes);
  const nameless = before.add('nameless', 2 * chunkBytes);
  for (const content of [kept, named, nameless]) await before.fill(content);
  await before.store.log.flush();
  before.catalog.removeNode(nameless.id);
  before.catalog.deleteContent(nameless.id);
  for (const { id } of [named, unmarked]) before.catalog.deleteContent(id);
  const stub = before.add('stub', chunkBytes);
  before.abandon();
  const copied = kept.id + 1_000;
  const strangers = [
    path.join(directory.path, 'tree/notes'),
    path.join(directory.path, 'tree/0/x'),
  ];
  assert.equal(spawnSync('cp', ['-a', at(kept.id), at(copied)]).status, 0);
  for (const file of strangers) writeFileSync(file, 'not of Ebb');
  mkdirSync(at(copied + 1));
  await sleep(20);

  const contents = await Contents.open(directory.path, remote, noProblem);
  try {
    assert.deepEqual(await clean(contents), { removed: 2, restored: 2 });
    for (const id of [copied, unmarked.id]) assert.ok(!existsSync(at(id)), `${id} is gone`);
    for (const id of [kept, named, nameless, stub].map((content) => content.id)) {
      assert.ok(existsSync(at(id)), `${id} stays`);
    }
    for (const file of [...strangers, at(copied + 1)]) assert.ok(existsSync(file));
    assert.equal(contents.get(named.id)?.residency.complete, true);
    assert.deepEqual(
      contents.catalog.orphans(0, 10).map(({ id, key, complete }) => [id, key, complete]),
      [[nameless.id, 'nameless', true]],
    );
    assert.deepEqual(await clean(contents), { removed: 0, restored: 0 });
  } finally {
    await contents.close();
  }
});

test('what this daemon made itself is left alone', async () => {
  using directory = temporaryDirectory();
  const contents = await Contents.open(directory.path, remote, noProblem);
  try {
    const startedAtMs = Date.now();
    await sleep(20);
    const file = contentPath(directory.path, 77);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, '');
    assert.deepEqual(await clean(contents, startedAtMs), { removed: 0, restored: 0 });
    assert.ok(existsSync(file));
  } finally {
    await contents.close();
  }
});
