/** What a daemon of a tree had read of users' changes, and not recorded, when it ended. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { AttachedTree } from '../support/attached-tree.ts';
import { CorpusWriter } from '../support/corpus.ts';
import { processLives } from '../support/processes.ts';
import { run, runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const forgetful = path.join(import.meta.dirname, '../support/forgetful-native-main.ts');
const names = ['killed.bin', 'replaced.bin', 'last.bin', 'open.bin'] as const;
const sizeBytes = 1_000_000;
const answerMaxMs = 60_000;

let directory: TemporaryDirectory;
let source: string;

before(async () => {
  directory = await temporaryDirectory('native-unrecorded');
  source = path.join(directory.path, 'source');
  const writer = new CorpusWriter(source);
  for (const name of names) writer.bytes(name, sizeBytes);
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

/** Writes as any program may: size and mtime are as before. When it holds the file open it waits for a line first. */
const writer = (file: string, holds = false): string => `
import os
before = os.stat("${file}")
fd = os.open("${file}", os.O_RDWR)
${holds ? 'print(flush=True); input()' : ''}
os.pwrite(fd, b"the user's", 500000)
os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
os.close(fd)`;

/** All of it is here, for certain: nobody is asked any more when it is opened. */
async function settle(tree: AttachedTree, name: string): Promise<void> {
  await tree.ebbOk(['get', path.join(tree.path, name)]);
  await runOk('cmp', [path.join(tree.path, name), path.join(source, name)]);
}

async function expectKept(tree: AttachedTree, name: string): Promise<void> {
  const file = path.join(tree.path, name);
  const released = await tree.ebb(['release', file]);
  const said = `${released.stdout.toString()}${released.stderr.toString()}`;
  const found = await run('/bin/sh', ['-c', 'tail -c +500001 "$0" | head -c 10', file], {
    timeoutMs: answerMaxMs,
  });
  assert.equal(found.stdout.toString(), "the user's", said);
}

test('who writes and sets the old time keeps what he wrote, also when the daemon ends before it knows', async () => {
  const flag = path.join(directory.path, 'forgets');
  const told = `${flag}.told`;
  const env = { EBB_FORGET_FROM: flag, EBB_NATIVE_MAIN: forgetful };
  await using tree = await AttachedTree.attach({ type: 'xfs', remote: source, env, standby: true });
  const [killed, replaced] = names;
  for (const name of names) await settle(tree, name);

  const { pid } = await tree.status();
  writeFileSync(flag, '');
  await runOk('python3', ['-c', writer(path.join(tree.path, killed))]);
  await waitFor(() => existsSync(told), { what: 'the daemon to be told' });
  rmSync(flag);
  process.kill(pid, 'SIGKILL');
  await waitFor(async () => (await tree.status()).pid !== pid, {
    what: 'another daemon',
    timeoutMs: answerMaxMs,
  });
  await expectKept(tree, killed);

  rmSync(told);
  writeFileSync(`${flag}.held`, writer(path.join(tree.path, replaced)));
  await tree.ebbOk(['daemon', 'restart', tree.path], { timeoutMs: answerMaxMs });
  assert.ok(existsSync(told), 'the daemon was told before it was killed');
  await expectKept(tree, replaced);
});

test('nor does he lose it when the daemon is killed as soon as the tree was taken away', async () => {
  const flag = path.join(directory.path, 'ends');
  const told = `${flag}.told`;
  const env = { EBB_FORGET_FROM: flag, EBB_NATIVE_MAIN: forgetful };
  await using tree = await AttachedTree.attach({ type: 'xfs', remote: source, env });
  const [, , name] = names;
  await settle(tree, name);
  writeFileSync(flag, '');
  await runOk('python3', ['-c', writer(path.join(tree.path, name))]);
  await waitFor(() => existsSync(told), { what: 'the daemon to be told' });
  rmSync(flag);
  writeFileSync(`${flag}.killed`, '');
  await tree.stop();
  assert.ok(!existsSync(`${flag}.killed`), 'it was killed');
  await tree.attach();
  await expectKept(tree, name);
});

test('nor when he has the file open as the tree is taken away, and writes then', async () => {
  await using tree = await AttachedTree.attach({ type: 'ext4', remote: source });
  const [, , , name] = names;
  await settle(tree, name);
  const { pid, supervisorPid } = await tree.status();
  const user = spawn('python3', ['-c', writer(path.join(tree.path, name), true)]);
  const ended = once(user, 'exit');
  await once(user.stdout, 'data');
  await tree.ebbOk(['umount', '--lazy', tree.path]);
  await waitFor(() => !processLives(pid), { what: 'the daemon to end' });
  assert.ok(processLives(supervisorPid));
  user.stdin.write('\n');
  assert.deepEqual(await ended, [0, null]);
  await waitFor(() => !processLives(supervisorPid), {
    what: 'nobody to be left',
    timeoutMs: answerMaxMs,
  });
  await tree.attach();
  await expectKept(tree, name);
});
