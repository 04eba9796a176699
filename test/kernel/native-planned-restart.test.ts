/** `ebb daemon restart` of an attached tree, under users of all kinds: nobody's call fails. */
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { runFiles } from '../../src/base/run-directory.ts';
import { compileHelper } from '../probes/probe.ts';
import { AttachedTree } from '../support/attached-tree.ts';
import { CorpusWriter } from '../support/corpus.ts';
import { startStress } from '../support/hammer.ts';
import { Holder } from '../support/holder.ts';
import { daemonsOf, processLives } from '../support/processes.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { startTreeUsers, writeSharedAndOwn } from '../support/tree-users.ts';
import { waitFor } from '../support/wait-for.ts';

const rounds = Number(process.env['EBB_RESTART_ROUNDS'] ?? 1);
const seed = Number(process.env['EBB_SEED'] ?? 1);
const readers = 2;
const answerMaxMs = 60_000;
const failing = path.join(import.meta.dirname, '../support/failing-native-main.ts');
const names = Array.from({ length: 16 }, (_unused, index) => `shared/file-${index}.bin`);
const userDirectories = ['user-0'];

let directory: TemporaryDirectory;
let source: string;
let helper: string;

before(async () => {
  directory = await temporaryDirectory('native-replaced');
  source = path.join(directory.path, 'source');
  const writer = new CorpusWriter(source);
  writeSharedAndOwn(writer, 'native replaced', names, userDirectories);
  writer.bytes('held.bin', 9_000_000);
  helper = await compileHelper(directory.path, 'hammer');
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

function logOf(tree: AttachedTree): string {
  const { log } = runFiles(tree.path, path.dirname(tree.runRecord().socketPath));
  return readFileSync(log, 'utf8');
}

test('ebb daemon restart of a tree under load: no call fails; when none starts, this one stays', async (context) => {
  const flag = path.join(directory.path, 'fails');
  const env = { EBB_FAIL_WHILE: flag, EBB_NATIVE_MAIN: failing };
  const options = ['--limit-rate', '60M', '--whole-max', '64K'];
  await using tree = await AttachedTree.attach({
    type: 'xfs',
    remote: source,
    options,
    env,
    standby: true,
  });
  const restart = ['daemon', 'restart', '--json', tree.path];
  let { pid, supervisorPid } = await tree.status();
  const waiting = await waitFor(
    () => {
      const others = daemonsOf(supervisorPid).filter((one) => one !== pid);
      return others.length === 1 ? others : undefined;
    },
    { what: 'a daemon that waits', timeoutMs: answerMaxMs },
  );
  using holder = new Holder(path.join(tree.path, 'held.bin'));
  assert.equal(await holder.said(), 'open');
  const place = { helper, mount: tree.path, source, names };
  await using stress = startStress({ ...place, readers, seconds: 86_400, seed });
  await using working = await startTreeUsers(tree.path, source, userDirectories, seed);

  writeFileSync(flag, '');
  const refused = await tree.ebb(restart, { timeoutMs: 2 * answerMaxMs });
  assert.equal(refused.code, 1);
  assert.match(refused.stderr.toString(), /no other daemon can be started; this one goes on/);
  assert.ok(!waiting.some(processLives), 'who waited has the code of before');
  assert.ok(processLives(pid));
  rmSync(flag);

  for (let round = 1; round <= rounds; round += 1) {
    const replaced = await tree.ebb(restart, { timeoutMs: 3 * answerMaxMs });
    assert.equal(replaced.code, 0, replaced.stderr.toString());
    const said = JSON.parse(replaced.stdout.toString()) as { pid: number; restarts: number };
    assert.equal(said.restarts, round);
    assert.notEqual(said.pid, pid);
    ({ pid } = said);
    assert.equal(await holder.read(round * 1_000_000), 'ok');
    assert.ok(!working.hasEnded && !stress.hasEnded, `round ${round} (seed ${seed})`);
    // What is clean and not open becomes cold again.
    await tree.ebb(['release', '-q', tree.path]);
  }
  let reads = 0;
  for (const report of await stress.stop(answerMaxMs)) {
    assert.equal(report.wrong, undefined);
    assert.deepEqual(report.errors, {});
    reads += report.reads;
  }
  let calls = 0;
  for (const report of await working.stop(answerMaxMs)) {
    assert.equal(report.wrong, undefined, await tree.logTail());
    assert.equal(report.denied, 0);
    calls += report.calls;
  }
  assert.ok(reads > 0 && calls > 0);
  assert.doesNotMatch(logOf(tree), /waiting calls got EIO/);
  assert.equal((await tree.status()).supervisorPid, supervisorPid);
  context.diagnostic(`${rounds} restarts: ${reads} reads, ${calls} calls of users, none failed`);
});
