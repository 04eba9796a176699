/** The kernel tells of the making of a stub as of what users do to it (ext4). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Populator } from '../../src/attach/populate.ts';
import { StubChange } from '../../src/base/stub-facts.ts';
import type { ToMain } from '../../src/native/messages.ts';
import { patternBytes } from '../support/pattern.ts';
import { nativeScene } from './native-scene.ts';

const sizeBytes = 300_000;

test('a stub that is all here before it is told that it was made is not taken for changed', async () => {
  await using scene = await nativeScene('ext4');
  const { server, store, catalog, memory, engine } = scene;
  memory.putFile('f', patternBytes(1, sizeBytes), { version: 'v-f' });
  // The event thread is slow: it tells of changes when it is asked to, or at the end.
  const waiting: ToMain[] = [];
  const take = server.take.bind(server);
  const tell = (): void => waiting.splice(0).forEach(take);
  server.take = (message) => {
    if (message.kind === 'changed' || message.kind === 'changesTold') waiting.push(message);
    else {
      if (message.kind === 'synced') tell();
      take(message);
    }
  };
  const populator = new Populator({
    remote: memory,
    store,
    catalog,
    defaults: { fileMode: 0o644, directoryMode: 0o755, uid: undefined, gid: undefined },
    parallel: 1,
    nowMs: Date.now,
    usersRecorded: (id) => server.recorded(id),
    changesTakenIn: () => server.changesTakenIn(),
  });
  const { signal } = new AbortController();
  const { stubs } = await populator.run({ mode: 'refresh', isExposed: true, signal });
  assert.equal(stubs, 1);
  const id = catalog.byKey('f')?.id ?? 0;
  const file = store.get(id);
  assert.ok(file);
  const requester = { pid: 0, uid: 0, gid: 0 };
  await engine.ensure(file, 0, sizeBytes, { intent: 'get', requester });
  assert.ok(file.residency.complete);
  tell();
  await server.recorded(id);
  assert.equal(file.change, StubChange.clean);
  assert.equal((await scene.release(file)).released, true);
  assert.deepEqual(scene.problems, []);
});
