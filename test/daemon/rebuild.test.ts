/** `ebb rebuild` on what is no cache, and on a cache that is in use. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { rebuild } from '../../src/daemon/rebuild.ts';
import { catalogPath, identifyTree, lockCache, makeDirectories } from '../../src/tree/layout.ts';
import { scratch } from '../cli/support.ts';

test('a directory that is no cache stays as it is', async () => {
  using directory = scratch();
  const result = await rebuild(directory.path, false);
  assert.equal(result.ok, false);
  assert.match(result.ok ? '' : result.error, /is not a cache of Ebb/);
  assert.deepEqual(readdirSync(directory.path), []);
  const file = `${directory.path}/file`;
  writeFileSync(file, 'mine');
  const ofFile = await rebuild(file, false);
  assert.equal(ofFile.ok ? '' : ofFile.error, `${file} is no directory.`);
});

test('a cache that somebody holds is refused; an empty one gets an empty catalog', async () => {
  using directory = scratch();
  makeDirectories(directory.path);
  {
    using lock = lockCache(directory.path);
    identifyTree(directory.path, 'http://x/');
    const result = await rebuild(directory.path, false);
    assert.ok(!result.ok && result.exitCode === 3, JSON.stringify(result));
    assert.ok(lock.fd >= 0);
  }
  const dry = await rebuild(directory.path, true);
  assert.ok(dry.ok && !existsSync(catalogPath(directory.path)));
  const done = await rebuild(directory.path, false);
  assert.deepEqual(done, { ok: true, files: 0, residentBytes: 0, skipped: 0 });
  assert.ok(existsSync(catalogPath(directory.path)));
  assert.ok(!existsSync(`${catalogPath(directory.path)}.new`));
  assert.ok((await rebuild(directory.path, false)).ok);
  assert.ok(existsSync(`${catalogPath(directory.path)}.old`));
});
