/** What `ebb refresh` and `ebb get` say of a tree is what they did. */
import assert from 'node:assert/strict';
import { appendFile, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { AttachedTree } from '../support/attached-tree.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';

test('refresh says what it found, get what it brought', async () => {
  await using directory = await temporaryDirectory('counts');
  const at = (name: string): string => path.join(directory.path, name);
  for (const name of ['gone', 'mine', 'other', 'same']) await writeFile(at(name), `${name}!`);
  await symlink('same', at('link'));
  await using tree = await AttachedTree.attach({ type: 'ext4', remote: directory.path });
  const said = async (...words: string[]): Promise<string> => {
    const { stdout, stderr } = await tree.ebb([...words, tree.path]);
    return `${stdout.toString()}${stderr.toString()}`.replaceAll(tree.path, '');
  };
  assert.match(await said('refresh'), /^: refreshed, no changes seen\n1 entry refreshed, no/);
  // Another size each, whatever the time.
  for (const name of ['mine', 'other']) await appendFile(at(name), ' more');
  await rm(at('gone'));
  await rm(at('link'));
  await symlink('other', at('link'));
  await runOk('mkfifo', [at('pipe')]);
  await mkdir(at('new'));
  await writeFile(at('new/file'), 'new');
  await runOk('sh', ['-c', 'echo user >"$0/mine"', tree.path]);
  const refreshed = await said('refresh');
  assert.match(
    refreshed,
    /2 new, 2 updated, 1 gone, 1 kept as they are here, 1 left out, 1 refused\n/,
  );
  assert.match(refreshed, /mine: it was changed here; the remote has a new version, too/);
  await runOk('cat', [path.join(tree.path, 'same')]);
  assert.match(await said('get'), /^2 files fetched \(1 here already\), 14 B in /m);
  assert.match(await said('get'), /^0 files fetched \(3 here already\), 0 B in /m);
  const partly = await said('get', path.join(tree.path, 'none'));
  assert.match(partly, /^0 files fetched .*, 1 failed in /m);
  assert.match(partly, /none: no such file or directory/);
  await appendFile(at('same'), ' more');
  await rm(at('new'), { recursive: true });
  await mkdir(at('other.new'));
  assert.match(
    await said('refresh'),
    /, 1 new, 1 updated, 2 kept as they are here, 1 left out, 1 refused\n/,
  );
});
