/** The power fails while names are placed in a tree that users see: what is on the disk then has a record for each. */
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { Populator } from '../../src/attach/populate.ts';
import { openSqliteStubCatalog } from '../../src/catalog/stubs-sqlite/catalog.ts';
import { MemoryRemote } from '../../src/remote/memory/memory-remote.ts';
import { encodeHandle, handleOf } from '../../src/sys/handle.ts';
import { runOk } from '../support/run.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';
import { newTree, openStubs } from '../tree/support/stubs.ts';

test('a stub that has its name has its record on the disk', async () => {
  const remote = new MemoryRemote();
  remote.putFile('b', Buffer.from('old'));
  using tree = newTree('xfs');
  await using state = await loopFilesystem({ type: 'ext4', sizeBytes: 32 * 1024 ** 2 });
  await using directory = await temporaryDirectory('cut');
  const image = path.join(directory.path, 'image');
  using stubs = openStubs({ ...tree, catalogPath: path.join(state.path, 'catalog.sqlite') });
  let placed: Uint8Array | undefined;
  const populator = new Populator({
    remote,
    store: stubs.store,
    catalog: stubs.catalog,
    defaults: { fileMode: 0o644, directoryMode: 0o755, uid: undefined, gid: undefined },
    parallel: 4,
    nowMs: Date.now,
    // Asked before the old name goes, and the new one was placed before that.
    usersRecorded: () => {
      placed = encodeHandle(handleOf(path.join(tree.data, 'a')).handle);
      copyFileSync(state.imagePath, image);
      return Promise.resolve(() => true);
    },
  });
  const { signal } = new AbortController();
  await populator.run({ mode: 'resume', isExposed: false, signal });
  remote.putFile('a', Buffer.from('new'));
  remote.remove('b');
  const { stubs: made, removed } = await populator.run({
    mode: 'refresh',
    isExposed: true,
    signal,
  });
  assert.deepEqual([made, removed], [1, 1]);
  assert.ok(placed !== undefined);
  const mountPoint = path.join(directory.path, 'mnt');
  mkdirSync(mountPoint);
  await runOk('mount', ['-o', 'loop', image, mountPoint]);
  try {
    using catalog = openSqliteStubCatalog(path.join(mountPoint, 'catalog.sqlite'));
    assert.equal(catalog.byHandle(placed)?.key, 'a');
  } finally {
    await runOk('umount', [mountPoint]);
  }
});
