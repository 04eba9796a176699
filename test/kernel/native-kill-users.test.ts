/**
 * SIGKILL of a tree's daemon under users of all kinds: who writes, creates, renames, links and removes files of his
 * own, cold, half-cold and resident ones, and who only reads. No call fails but with the EIO that is documented, no
 * operation is lost or done twice, and all bytes are those of a model.
 */
import assert from 'node:assert/strict';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, test } from 'node:test';
import { ControlClient } from '../../src/cli/client.ts';
import { compileHelper } from '../probes/probe.ts';
import { AttachedTree, treeFilesystems } from '../support/attached-tree.ts';
import { CorpusWriter, noise } from '../support/corpus.ts';
import { assertHonest } from '../support/deaths.ts';
import { ServingHammer, startStress } from '../support/hammer.ts';
import { releaseAll } from '../support/releases.ts';
import { startTreeUsers, writeSharedAndOwn } from '../support/tree-users.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const asked = process.env['EBB_KILL_ROUNDS'];
const rounds = Number(asked ?? 3);
/** Two minutes of a quiet machine for each 100 rounds: all of them only when somebody asks. */
const types = asked === undefined ? (['ext4'] as const) : treeFilesystems;
const seed = Number(process.env['EBB_SEED'] ?? 1);
const users = 3;
const readers = 3;
const killAfterMaxMs = 1_000;
/** After it was asked for: it takes some hundredths of a second. */
const killInReleaseMaxMs = 60;
/** On a busy machine. How long it took is reported. */
const answerMaxMs = 60_000;

const names = Array.from({ length: 16 }, (_unused, index) => `shared/file-${index}.bin`);
const userDirectories = Array.from({ length: users }, (_unused, index) => `user-${index}`);

let directory: TemporaryDirectory;
let source: string;
let helper: string;

before(async () => {
  directory = await temporaryDirectory('native-users');
  source = path.join(directory.path, 'source');
  const writer = new CorpusWriter(source);
  writeSharedAndOwn(writer, 'native users', names, userDirectories);
  for (let round = 0; round < rounds; round += 1) writer.bytes(`probes/${round}`, 5_000);
  helper = await compileHelper(directory.path, 'hammer');
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

/** Opens and reads a file that was never here: how long until somebody had it served. Denials are tried again. */
async function served(hammer: ServingHammer, tree: string, round: number): Promise<number> {
  const startedAtMs = performance.now();
  const files = `${path.join(tree, `probes/${round}`)} ${path.join(source, `probes/${round}`)}`;
  for (;;) {
    const opened = await hammer.ask(`open 0 ${files}`, answerMaxMs);
    const read = opened === 'ok 0' ? await hammer.ask('pread 0 0 5000', answerMaxMs) : opened;
    if (opened === 'ok 0') await hammer.ask('close 0', answerMaxMs);
    if (read === 'ok 5000') return performance.now() - startedAtMs;
    assert.equal(read, 'errno 5');
  }
}

for (const type of types) {
  test(`${type}: killed ${rounds} times under users who change files: all is as in the model`, async (context) => {
    const options = ['--limit-rate', '60M', '--whole-max', '64K'];
    await using tree = await AttachedTree.attach({ type, remote: source, options, standby: true });
    const client = new ControlClient(tree.runRecord());
    const random = noise(`native users ${seed} ${type}`, rounds * 4);
    using hammer = new ServingHammer(helper);
    const place = { helper, mount: tree.path, source, names };
    await using stress = startStress({ ...place, readers, seconds: 86_400, seed });
    await using working = await startTreeUsers(tree.path, source, userDirectories, seed);
    const waitsMs: number[] = [];
    for (let round = 0; round < rounds; round += 1) {
      await sleep(random.readUInt32LE(round * 4) % killAfterMaxMs);
      // Readers are served before commands are taken.
      const status = await waitFor(() => client.status().catch(() => undefined), {
        what: 'a daemon that can be asked',
        timeoutMs: answerMaxMs,
      });
      // Half of them while it releases what they do not have open.
      const releasing = round % 2 === 1 ? releaseAll(client) : undefined;
      if (releasing !== undefined) await sleep(random.readUInt8(round * 4) % killInReleaseMaxMs);
      process.kill(status.pid, 'SIGKILL');
      await releasing;
      waitsMs.push(await served(hammer, tree.path, round));
      assert.ok(!working.hasEnded && !stress.hasEnded, `round ${round} (seed ${seed})`);
      // What is clean and not open becomes cold again.
      if (round % 4 === 3) await tree.ebb(['release', '-q', tree.path]);
    }
    // On a slow machine all rounds may be over by then.
    await working.haveWorked();
    let { denied } = assertHonest(await stress.stop(answerMaxMs), type);
    const reports = await working.stop(answerMaxMs);
    let calls = 0;
    for (const report of reports) {
      assert.equal(report.wrong, undefined, `${type} (seed ${seed})\n${await tree.logTail()}`);
      calls += report.calls;
      denied += report.denied;
    }
    assert.ok((await tree.status()).restarts >= rounds);
    assert.ok(calls > 100, `only ${calls} calls`);
    waitsMs.sort((left, right) => left - right);
    const at = (part: number): string => (waitsMs[Math.floor(part * (rounds - 1))] ?? 0).toFixed(0);
    context.diagnostic(
      `${type}: served again after ${at(0.5)} ms (median; 90 %: ${at(0.9)}, at most ${at(1)}); ` +
        `${calls} calls of users, ${denied} denied`,
    );
  });
}
