/**
 * SIGKILL of a tree's daemon in the middle of a release of everything, at any of its steps, while others read, and
 * somebody changes files in place and sets their old times again. Afterwards all bytes are the source's, or his.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, test } from 'node:test';
import { ControlClient } from '../../src/cli/client.ts';
import { compileHelper } from '../probes/probe.ts';
import { AttachedTree, treeFilesystems } from '../support/attached-tree.ts';
import { compareFiles } from '../support/compare.ts';
import { CorpusWriter, noise } from '../support/corpus.ts';
import { assertHonest } from '../support/deaths.ts';
import { startStress } from '../support/hammer.ts';
import { releaseAll } from '../support/releases.ts';
import { patience } from '../support/patience.ts';
import { killAtExit, killGroup, runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const asked = process.env['EBB_KILL_ROUNDS'];
const rounds = Number(asked ?? 2);
/** More of them until a release was cut off: this process may come too late for it. */
const roundsMax = rounds + 20;
/** All of them only when somebody asks. */
const types = asked === undefined ? (['btrfs'] as const) : treeFilesystems;
const seed = Number(process.env['EBB_SEED'] ?? 1);
const readers = 2;
const changedPerRound = 4;
/** After its first file has gone; a release of all takes a few times that. */
const killAfterMaxMs = 40;
/** On a busy machine. */
const answerMaxMs = 60_000;

const names = Array.from({ length: 240 }, (_unused, index) => `d${index % 4}/file-${index}.bin`);
const readNames = names.filter((_name, index) => index % 10 === 0);
/** Nobody else uses these. */
const changedIn = (round: number): string[] =>
  Array.from({ length: changedPerRound }, (_unused, index) => `changed/${round}-${index}.bin`);

let directory: TemporaryDirectory;
let source: string;
let helper: string;

before(async () => {
  directory = await temporaryDirectory('kill-release');
  source = path.join(directory.path, 'source');
  const writer = new CorpusWriter(source);
  const sizes = noise('kill release sizes', names.length * 2);
  for (const [index, name] of names.entries()) {
    const large = index % 40 === 0 ? 3_000_000 + index * 1_000 : 300;
    writer.bytes(name, large + (sizes.readUInt16LE(index * 2) % 30_000));
  }
  for (let round = 0; round < roundsMax; round += 1) {
    for (const [index, name] of changedIn(round).entries())
      writer.bytes(name, 20_000 * (index + 1));
  }
  helper = await compileHelper(directory.path, 'hammer');
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

interface User extends Disposable {
  /** Changes these in the tree and in the model. */
  change(names: readonly string[]): Promise<void>;
}

function startUser(tree: string, model: string): User {
  const script = path.join(import.meta.dirname, '../probes/release-user.py');
  const child = spawn('python3', [script, tree, model], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  });
  killAtExit(child);
  const said = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    async change(changed) {
      child.stdin.write(`${changed.join(' ')}\n`);
      assert.equal((await said.next()).value, 'ok');
    },
    [Symbol.dispose]: () => killGroup(child),
  };
}

async function assertAsModel(tree: AttachedTree, model: string, said: string): Promise<void> {
  const all = [
    ...names,
    ...Array.from({ length: roundsMax }, (_unused, round) => changedIn(round)).flat(),
  ];
  const compared = await compareFiles(tree.path, model, all);
  const bad = compared.filter(({ errno, wrong }) => errno !== 0 || wrong !== -1);
  assert.deepEqual(bad, [], bad.length === 0 ? said : `${said}\n${await tree.logTail()}`);
}

for (const type of types) {
  describe(`a tree on ${type}`, { timeout: patience * 300_000 + roundsMax * 20_000 }, () => {
    test(`the daemon is killed in ${rounds} releases: no byte is wrong, none of a user is lost`, async (context) => {
      const model = path.join(directory.path, `model-${type}`);
      await runOk('cp', ['-a', source, model]);
      await using tree = await AttachedTree.attach({ type, remote: source, standby: true });
      const client = new ControlClient(tree.runRecord());
      const random = noise(`kill release ${seed} ${type}`, roundsMax * 4);
      using user = startUser(tree.path, model);
      const place = { helper, mount: tree.path, source, names: readNames };
      await using stress = startStress({ ...place, readers, seconds: 86_400, seed });
      let [cutOff, released] = [0, 0];
      const isEnough = (done: number): boolean =>
        done >= roundsMax || (done >= rounds && cutOff > 0);
      for (let round = 0; !isEnough(round); round += 1) {
        // Once at once: then most of the others are still to come.
        const afterMs = cutOff === 0 ? 0 : random.readUInt32LE(round * 4) % killAfterMaxMs;
        const said = `${type}, round ${round} (seed ${seed}), killed ${afterMs} ms after the first`;
        const { pid } = await waitFor(() => client.status().catch(() => undefined), {
          what: `${said}: a daemon that can be asked`,
          timeoutMs: answerMaxMs,
        });
        for await (const _line of client.act('get', { paths: [''] }));
        // Nobody is asked about these any more when they are changed.
        await compareFiles(tree.path, model, changedIn(round));
        const first = Promise.withResolvers<void>();
        const releasing = releaseAll(client, first.resolve);
        const changing = user.change(changedIn(round));
        await Promise.race([first.promise, releasing]);
        await sleep(afterMs);
        process.kill(pid, 'SIGKILL');
        const run = await releasing;
        released += run.released;
        if (run.isCutOff) cutOff += 1;
        await changing;
        assert.ok(!stress.hasEnded, said);
        await assertAsModel(tree, model, said);
      }
      await tree.ebb(['release', '-q', tree.path]);
      await assertAsModel(tree, model, `${type}, at the end`);
      assertHonest(await stress.stop(answerMaxMs), type);
      assert.ok(cutOff > 0, 'no release was under way when the daemon died: nothing was tested');
      context.diagnostic(`${type}: ${cutOff} releases cut off, ${released} files released before`);
    });
  });
}
