/**
 * SIGKILL under readers of a native tree: of the daemon, of keeper and supervisor, of all three (of others:
 * native-keeper.test.ts). Nobody ever reads a byte that is not the source's (I9), but when all three are killed; who
 * was waiting gets bytes or an errno soon after the daemon is back.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { before, after, describe, test } from 'node:test';
import { ControlClient } from '../../src/cli/client.ts';
import type { TreeStatus } from '../../src/daemon/api.ts';
import { compileHelper } from '../probes/probe.ts';
import { AttachedTree, treeFilesystems } from '../support/attached-tree.ts';
import { compareFiles } from '../support/compare.ts';
import { CorpusWriter, noise } from '../support/corpus.ts';
import { assertHonest, assertSameFiles, honestErrors } from '../support/deaths.ts';
import { ServingHammer, startStress } from '../support/hammer.ts';
import { patience } from '../support/patience.ts';
import { killTogether, processLives, stopProcess } from '../support/processes.ts';
import { run } from '../support/run.ts';
import { mountsBelow, temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const rounds = Number(process.env['EBB_KILL_ROUNDS'] ?? 4);
/** More of them until somebody was waiting at such a moment. */
const roundsMax = rounds + 30;
const seed = Number(process.env['EBB_SEED'] ?? 1);
const readers = 8;
const killAfterMaxMs = 400;
/** Every reader has ended so long after the daemon is back. */
const readersEndMaxMs = 10_000;
const latecomerRounds = 3;
/** On a busy machine; how long it took is reported. */
const restartMaxMs = 30_000;
/** While the tree is being taken away: also ENOENT, and ENOTDIR of what is below. */
const honestWithoutTree = new Set([...honestErrors, '2', '20']);

const names = Array.from({ length: 24 }, (_unused, index) => `d${index % 3}/file-${index}.bin`);

let directory: TemporaryDirectory;
let source: string;
let helper: string;

before(async () => {
  directory = await temporaryDirectory('native-kill');
  source = path.join(directory.path, 'source');
  const writer = new CorpusWriter(source);
  const sizes = noise('native kill sizes', names.length * 4);
  for (const [index, name] of names.entries()) {
    const magnitude = 2 ** (9 + (index % 14));
    writer.bytes(name, magnitude + (sizes.readUInt16LE(index * 4) % magnitude));
  }
  helper = await compileHelper(directory.path, 'hammer');
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

function kill(pid: number): void {
  process.kill(pid, 'SIGKILL');
}

async function restarted(tree: AttachedTree, before_: TreeStatus): Promise<TreeStatus> {
  return await waitFor(
    async () => {
      const status = await tree.status();
      return status.pid === before_.pid ? undefined : status;
    },
    { what: 'another daemon', timeoutMs: restartMaxMs, intervalMs: 50 },
  );
}

function median(values: readonly number[]): number {
  return values.toSorted((left, right) => left - right)[Math.floor(values.length / 2)] ?? NaN;
}

for (const type of treeFilesystems) {
  describe(`a tree on ${type}`, { timeout: patience * 300_000 + roundsMax * 20_000 }, () => {
    test(`the daemon is killed ${rounds} times under ${readers} readers: no byte is wrong`, async (context) => {
      // Slow enough that readers wait when the daemon dies.
      const options = ['--limit-rate', '40M', '--whole-max', '64K'];
      await using tree = await AttachedTree.attach({
        type,
        remote: source,
        options,
        standby: true,
      });
      const random = noise(`native kill ${seed} ${type}`, roundsMax * 4);
      const tookMs: number[] = [];
      const errors = { denied: 0, reads: 0 };
      let status = await tree.status();
      const client = new ControlClient(tree.runRecord());
      const isEnough = (done: number): boolean =>
        done >= roundsMax || (done >= rounds && errors.denied > 0);
      for (let round = 0; !isEnough(round); round += 1) {
        const afterMs = random.readUInt32LE(round * 4) % killAfterMaxMs;
        const said = `${type}, round ${round} (seed ${seed}), killed after ${afterMs} ms`;
        const place = { helper, mount: tree.path, source, names };
        const { recalledBytes } = await client.status();
        await using stress = startStress({ ...place, readers, seconds: 600, seed: seed + round });
        // Somebody has come so far that he may be waiting.
        await waitFor(async () => (await client.status()).recalledBytes > recalledBytes, {
          what: `${said}: somebody to read`,
          timeoutMs: restartMaxMs,
          intervalMs: 1,
        });
        await sleep(afterMs);
        const diedAtMs = performance.now();
        kill(status.pid);
        status = await restarted(tree, status);
        tookMs.push(performance.now() - diedAtMs);
        // On a busy machine one that starts too slowly is itself replaced, so it may be more.
        assert.ok(status.restarts > round, said);
        const { reads, denied } = assertHonest(await stress.stop(readersEndMaxMs), said);
        errors.reads += reads;
        errors.denied += denied;
        await assertSameFiles(tree, source, names, said);
        await tree.ebb(['release', tree.path]);
      }
      await assertSameFiles(tree, source, names, `${type}, at the end`);
      assert.ok(
        errors.denied > 0,
        'no reader was waiting when the daemon died: nothing was tested',
      );
      const ms = Math.round(median(tookMs));
      context.diagnostic(
        `${type}: back after ${ms} ms (median, with ebb status), at most ${Math.round(Math.max(...tookMs))}; ` +
          `${errors.reads} reads, ${errors.denied} denied`,
      );
    });

    test('who comes while there is no daemon waits for the next one, and gets his bytes', async () => {
      await using tree = await AttachedTree.attach({ type, remote: source, standby: true });
      let status = await tree.status();
      for (let round = 0; round < latecomerRounds; round += 1) {
        const { pid } = status;
        kill(pid);
        await waitFor(() => !processLives(pid), { what: 'the daemon to be gone', intervalMs: 1 });
        const script =
          'for f; do cmp -- "$0/$f" "$SOURCE/$f" & all="$all $!"; done; for p in $all; do wait $p || exit 1; done';
        const read = await run('/bin/sh', ['-c', script, tree.path, ...names], {
          timeoutMs: 30_000,
          env: { SOURCE: source },
        });
        assert.equal(read.code, 0, `${type}, round ${round}: ${read.stderr.toString()}`);
        status = await restarted(tree, status);
        await tree.ebb(['release', tree.path]);
        // A daemon that has served for a second is replaced at once.
        await sleep(1_000);
      }
    });

    test('keeper and supervisor are killed: the daemon takes the tree away, and it can be attached again', async () => {
      const options = ['--limit-rate', '20M'];
      await using tree = await AttachedTree.attach({
        type,
        remote: source,
        options,
        standby: true,
      });
      const status = await tree.status();
      const place = { helper, mount: tree.path, source, names };
      await using stress = startStress({ ...place, readers, seconds: 600, seed });
      await sleep(killAfterMaxMs / 2);
      killTogether([tree.keeperPid, status.supervisorPid]);
      await waitFor(async () => (await mountsBelow(tree.path)).length === 0, {
        what: 'the tree to be taken away',
        timeoutMs: readersEndMaxMs,
      });
      assert.deepEqual(readdirSync(tree.path), ['.ebb']);
      assertHonest(await stress.stop(readersEndMaxMs), type, honestWithoutTree);
      await waitFor(() => !processLives(status.pid), {
        what: 'the daemon to end once nobody has the tree open',
        timeoutMs: readersEndMaxMs,
      });
      await tree.attach();
      await assertSameFiles(tree, source, names, `${type}, attached again`);
    });

    test('all three are killed: what is mounted is replaced when the tree is attached again', async () => {
      await using tree = await AttachedTree.attach({ type, remote: source });
      await run('/bin/sh', [
        '-c',
        'head -c 100000 "$0" >/dev/null',
        path.join(tree.path, names[13] ?? ''),
      ]);
      const status = await tree.status();
      const all = [tree.keeperPid, status.supervisorPid, status.pid];
      killTogether(all);
      await waitFor(() => !all.some(processLives), { what: 'the end of all' });
      assert.equal((await mountsBelow(tree.path)).length, 1);
      const { stdout, stderr } = await tree.ebb(['status', tree.path]);
      const said = stdout.toString() + stderr.toString();
      assert.match(said, /[Ss]upervisor .* is dead.* serve the tree again with: ebb attach/);
      // What is opened now raises no event as long as it is open.
      using unguarded = new ServingHammer(helper);
      const cold = [tree.path, source].map((place) => path.join(place, names[12] ?? ''));
      assert.equal(await unguarded.ask(`open 0 ${cold.join(' ')}`), 'ok 0');
      assert.match(await unguarded.ask('pread 0 0 4096'), /^wrong/, 'nobody guards it');
      await tree.attach();
      assert.equal((await mountsBelow(tree.path)).length, 1);
      await waitFor(async () => (await unguarded.ask('pread 0 0 4096')) === 'ok 4096', {
        what: `${type}: the bytes of who opened it meanwhile`,
      });
      await assertSameFiles(tree, source, names, type);
    });
  });
}

test('a daemon that is stopped for good is replaced; who waited for it gets EIO or his bytes', async () => {
  process.env['EBB_ALIVE_MS'] = '500';
  try {
    await using tree = await AttachedTree.attach({ type: 'xfs', remote: source });
    const status = await tree.status();
    await stopProcess(status.pid);
    const areRight = async (): Promise<boolean> => {
      const compared = await compareFiles(tree.path, source, names, { timeoutMs: 120_000 });
      for (const { name, errno, wrong } of compared) {
        assert.equal(wrong, -1, name);
        assert.ok(errno === 0 || honestErrors.has(String(errno)), `${name}: errno ${errno}`);
      }
      return compared.every(({ errno }) => errno === 0);
    };
    await areRight();
    await waitFor(() => !processLives(status.pid), { what: 'the end of the stopped daemon' });
    await restarted(tree, status);
    // A busy machine may keep a daemon silent for so long, too: that one is replaced as well.
    await waitFor(areRight, { what: 'all to be right', timeoutMs: restartMaxMs });
  } finally {
    delete process.env['EBB_ALIVE_MS'];
  }
});

test('stubs are not zeros while nobody guards them, where there is poison', async () => {
  for (const type of ['xfs', 'btrfs'] as const) {
    await using tree = await AttachedTree.attach({ type, remote: source });
    await tree.stop();
    const hidden = path.join(tree.path, '.ebb', 'data', names[20] ?? '');
    const bytes = readFileSync(hidden);
    assert.equal(bytes.subarray(0, 4).toString(), 'Ebb:', type);
    assert.ok(!bytes.subarray(0, 1024 * 1024).includes(0), type);
  }
});
