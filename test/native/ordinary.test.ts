/** The marks come off when a tree becomes an ordinary directory. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeOrdinary } from '../../src/daemon/native/detach.ts';
import { patternBytes } from '../support/pattern.ts';
import { waitFor } from '../support/wait-for.ts';
import { nativeScene } from './native-scene.ts';

const sizeBytes = 100_000;

test('a file whose version the remote has no more keeps its mark; one that was deleted is forgotten', async () => {
  await using scene = await nativeScene('ext4');
  const parts = { ...scene, recall: scene.engine };
  const gone = scene.add('a gone', sizeBytes);
  const kept = scene.add('b kept', sizeBytes);
  const { id } = scene.add('c changed', sizeBytes);
  await scene.shellOk('rm "a gone"');
  scene.memory.putFile('c changed', patternBytes(2, sizeBytes), { version: 'another' });
  await assert.rejects(makeOrdinary(parts), { code: 'ESTALE' });
  assert.equal(scene.catalog.get(gone.id), undefined);
  assert.equal(scene.catalog.get(kept.id), undefined);
  assert.notEqual(scene.catalog.get(id), undefined);
  const { stdout } = await scene.shell('getfattr -m trusted.ebb *');
  assert.equal(stdout.toString(), '# file: c changed\ntrusted.ebb\n\n');
  const { code } = await scene.shell('cmp "b kept" - < "b kept"; cat "c changed"');
  assert.notEqual(code, 0);
  scene.memory.putFile('c changed', patternBytes(1, sizeBytes), { version: 'v-c changed' });
  await waitFor(async () => (await makeOrdinary(parts)).files === 1, { what: 'the last one' });
  assert.ok((await scene.shell('cat "c changed"')).stdout.equals(patternBytes(1, sizeBytes)));
  assert.equal((await scene.shell('getfattr -m trusted.ebb *')).stdout.toString(), '');
});
