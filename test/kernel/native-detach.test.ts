/** A tree becomes an ordinary directory, or was never quite one: no stub may be left in it as a file of zeros. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { openSqliteStubCatalog } from '../../src/catalog/stubs-sqlite/catalog.ts';
import { ControlClient } from '../../src/cli/client.ts';
import { waitForExit } from '../../src/cli/service-end.ts';
import { AttachedTree } from '../support/attached-tree.ts';
import { CorpusWriter } from '../support/corpus.ts';
import { startDelayProxyProcess } from '../support/delay-proxy.ts';
import { runEbb } from '../support/mount.ts';
import { run, runOk } from '../support/run.ts';
import { startNginx } from '../support/servers.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

let directory: TemporaryDirectory;

before(async () => {
  directory = await temporaryDirectory('native-detach');
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

/** A remote that is a directory of its own. */
function sourceOf(name: string, files: readonly string[]): string {
  const source = path.join(directory.path, name);
  const writer = new CorpusWriter(source);
  for (const file of files) writer.bytes(file, 100_000);
  return source;
}

function assertSame(file: string, source: string): void {
  assert.ok(readFileSync(file).equals(readFileSync(source)), `${file} is not ${source}`);
}

test('a stub that the catalog lost is recalled; one of which nobody knows what it is keeps the tree', async () => {
  const source = sourceOf('lost', ['kept', 'moved', 'touched']);
  await using tree = await AttachedTree.attach({ type: 'ext4', remote: source });
  const { stateDirectory } = await tree.status();
  await runOk('/bin/sh', ['-ec', 'cd "$0"; mkdir mine; mv moved touched mine', tree.path]);
  await tree.stop();
  {
    using catalog = openSqliteStubCatalog(path.join(stateDirectory, 'catalog.sqlite'));
    catalog.delete(['moved', 'touched'].map((key) => catalog.byKey(key)?.id ?? 0));
  }
  await tree.attach();
  const at = (name: string): string => path.join(tree.path, name);
  await runOk('touch', [at('mine/touched')]);
  const refused = await tree.ebb(['detach', '--recall', tree.path]);
  assert.equal(refused.code, 1, refused.stderr.toString());
  assert.match(refused.stderr.toString(), /mine\/touched: .*delete it, or move it out of the tree/);
  assert.equal((await tree.status()).mountPoint, tree.path);
  await runOk('rm', [at('mine/touched')]);
  await runOk('mkdir', [at('.ebb')]);
  const taken = await tree.ebb(['detach', '--recall', tree.path]);
  assert.equal(taken.code, 1);
  assert.match(taken.stderr.toString(), /\.ebb: .*rename it first/);
  await runOk('rmdir', [at('.ebb')]);
  await tree.ebbUnshared(['detach', '--recall', tree.path]);
  assertSame(at('kept'), path.join(source, 'kept'));
  assertSame(at('mine/moved'), path.join(source, 'moved'));
  assert.ok(!existsSync(at('.ebb')));
  const marks = await run('getfattr', ['-R', '-m', 'trusted.ebb', tree.path]);
  assert.equal(marks.stdout.toString(), '');
});

test('what a refresh brings in while the tree is detached is whole, or not there', async () => {
  const names = Array.from({ length: 30 }, (_unused, index) => `d${index}`);
  const source = sourceOf(
    'racing',
    names.map((name) => `${name}/old`),
  );
  await using server = await startNginx({ root: source });
  const targetPort = Number(new URL(server.url).port);
  await using slow = await startDelayProxyProcess({ targetPort, roundTripMs: 100 });
  await using tree = await AttachedTree.attach({
    type: 'ext4',
    remote: `http://127.0.0.1:${slow.port}/`,
    options: ['--connections', '1'],
  });
  await tree.ebbOk(['get', '-q', tree.path]);
  for (const name of names) writeFileSync(path.join(source, name, 'new'), `new in ${name}`);
  const refreshing = tree.ebb(['refresh', tree.path]);
  const brought = (): string[] =>
    names.filter((name) => existsSync(path.join(tree.path, name, 'new')));
  const record = tree.runRecord();
  await waitFor(() => brought().length > 0, { what: 'the first new name', intervalMs: 1 });
  // Without a process of ebb: until that has started on a slow machine, all may have been brought.
  const said = await Array.fromAsync(new ControlClient(record).detach({ recall: true }));
  const last = said.at(-1);
  assert.ok(last !== undefined && 'done' in last);
  if (last.done.outcome === 'ordinary') await waitForExit(record);
  else await tree.ebbUnshared(['detach', '--recall', tree.path]);
  const refreshed = await refreshing;
  assert.notEqual(refreshed.code, 0);
  assert.match(refreshed.stderr.toString(), /the tree is being detached/);
  for (const name of brought()) {
    assertSame(path.join(tree.path, name, 'new'), path.join(source, name, 'new'));
  }
  assert.ok(!existsSync(path.join(tree.path, '.ebb')));
});

test('the daemon that detaches a tree is not replaced', async () => {
  const source = sourceOf('stalled', ['file']);
  await using server = await startNginx({ root: source });
  await using tree = await AttachedTree.attach({ type: 'ext4', remote: server.url });
  process.kill(-server.pid, 'SIGSTOP');
  const detaching = tree.ebbUnshared(['detach', '--recall', tree.path]);
  try {
    const isRefused = async (): Promise<boolean> => {
      const got = await tree.ebb(['get', '-n', tree.path]);
      return got.stderr.toString().includes('the tree is being detached');
    };
    await waitFor(isRefused, { what: 'the beginning of it' });
    const restart = await tree.ebb(['daemon', 'restart', tree.path]);
    assert.equal(restart.code, 1);
    assert.match(restart.stderr.toString(), /the tree is being detached/);
  } finally {
    process.kill(-server.pid, 'SIGCONT');
  }
  assert.equal((await detaching).code, 0);
  assertSame(path.join(tree.path, 'file'), path.join(source, 'file'));
});

test('attaching fails with stubs made that cannot be recorded: it stays a tree, which is gone on with', async () => {
  const names = Array.from({ length: 300 }, (_unused, index) => `${index}-${'x'.repeat(200)}`);
  const source = path.join(directory.path, 'many');
  mkdirSync(source);
  for (const name of names) writeFileSync(path.join(source, name), `real ${name}`);
  await using filesystem = await loopFilesystem({ type: 'ext4' });
  const tree = path.join(filesystem.path, 'tree');
  const state = path.join(directory.path, 'little-state');
  for (const made of [tree, state]) mkdirSync(made);
  await runOk('mount', ['-t', 'tmpfs', '-o', 'size=192k', 'tmpfs', state]);
  try {
    const failed = await runEbb(['attach', '--state', state, tree, source]);
    assert.equal(failed.code, 1, failed.stderr.toString());
    assert.match(failed.stderr.toString(), /no space|ENOSPC/i);
    assert.deepEqual(readdirSync(tree), ['.ebb']);
    assert.ok(readdirSync(path.join(tree, '.ebb/data')).length > 0, 'nothing was made');
    await runOk('mount', ['-o', 'remount,size=64m', state]);
    const attached = await runEbb(['attach', tree]);
    assert.equal(attached.code, 0, attached.stderr.toString());
    await runOk('diff', ['-r', source, tree], { timeoutMs: 60_000 });
  } finally {
    await runEbb(['umount', '--lazy', tree]);
    await waitFor(async () => (await run('umount', [state])).code === 0, {
      what: 'the end of the daemon',
    });
  }
});
