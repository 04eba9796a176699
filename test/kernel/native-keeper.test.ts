/**
 * Trees that no service manager keeps: a shell does (src/supervisor/keeper.ts). Whichever of supervisor, daemon and
 * keeper are killed, but for all three together, nobody reads a byte that is not the source's (I9), and nothing stays
 * behind.
 */
import assert from 'node:assert/strict';
import {
  existsSync,
  readFileSync,
  readdirSync,
  realpathSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { TreeStatus } from '../../src/daemon/api.ts';
import { AttachedTree } from '../support/attached-tree.ts';
import { noise } from '../support/corpus.ts';
import { assertHonest, attachInVain, deathScene, shownMount } from '../support/deaths.ts';
import type { DeathScene } from '../support/deaths.ts';
import { patience } from '../support/patience.ts';
import {
  childrenOf,
  daemonsOf,
  killTogether,
  processLives,
  stopProcess,
} from '../support/processes.ts';
import { run, runOk } from '../support/run.ts';
import { mountsBelow } from '../support/temporary.ts';
import type { LoopFilesystemType } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const asked = process.env['EBB_KILL_ROUNDS'];
const rounds = Number(asked ?? 1);
const seed = Number(process.env['EBB_SEED'] ?? 1);
const readers = 4;
const endMaxMs = 60_000;
const timeout = patience * 300_000;

let scene: DeathScene;

before(async () => {
  scene = await deathScene('native-keeper');
});

after(async () => {
  await scene[Symbol.asyncDispose]();
});

function keeperOf({ keeperPid }: AttachedTree): number {
  assert.ok(processLives(keeperPid), 'nobody keeps the tree');
  return keeperPid;
}

/** Once all that were killed have successors. */
async function settled(tree: AttachedTree, killed: ReadonlySet<number>): Promise<TreeStatus> {
  return await waitFor(
    async () => {
      const status = await tree.status();
      const all = [status.pid, status.supervisorPid, tree.keeperPid];
      return all.every((one) => processLives(one) && !killed.has(one)) ? status : undefined;
    },
    { what: 'successors of those that were killed', timeoutMs: endMaxMs },
  );
}

/** Everybody who has a descriptor of a group or of the memory that goes with it. */
async function assertEnded(tree: AttachedTree, pids: readonly number[]): Promise<void> {
  await waitFor(() => !pids.some(processLives), { what: 'the end of all', timeoutMs: endMaxMs });
  assert.deepEqual(await mountsBelow(tree.path), []);
  assert.deepEqual(readdirSync(tree.path), ['.ebb']);
  // Nobody is asked any more, and nobody holds the file system.
  const own = path.join(tree.filesystem.path, 'own');
  await runOk('sh', ['-c', 'echo mine >"$0" && cat "$0"', own], { timeoutMs: endMaxMs });
  await runOk('umount', [tree.filesystem.path], { timeoutMs: endMaxMs });
}

type Part = 'daemon' | 'supervisor' | 'keeper';
const both: readonly Part[] = ['supervisor', 'daemon'];
const victimsOn: readonly (readonly [LoopFilesystemType, readonly (readonly Part[])[]])[] = [
  ['ext4', [['supervisor'], ['keeper', 'daemon']]],
  // The keeper is the child of a supervisor, then the parent of the next, then a child again.
  ['xfs', [['keeper'], both, ['keeper'], both]],
  ['btrfs', [both]],
];
const everyDeath = victimsOn.flatMap(([, deaths]) => deaths);

for (const [type, someDeaths] of victimsOn) {
  const deaths = asked === undefined ? someDeaths : everyDeath;
  describe(`a tree on ${type}, kept by a shell`, { timeout: timeout + rounds * 60_000 }, () => {
    test('supervisor, daemon or keeper are killed under readers: the tree stays, no byte is wrong', async (context) => {
      const options = ['--limit-rate', '20M', '--whole-max', '64K'];
      await using tree = await AttachedTree.attach({ type, remote: scene.source, options });
      const mount = shownMount(tree);
      const random = noise(`native keeper ${seed} ${type}`, rounds * deaths.length * 2);
      let status = await killUnderWaiting(tree);
      await tree.ebbOk(['release', tree.path]);
      const seen = { reads: 0, denied: 0 };
      const all = Array.from({ length: rounds }, () => deaths).flat();
      for (const [round, victims] of all.entries()) {
        const said = `${type}, round ${round} (seed ${seed}): ${victims.join(' and ')} killed`;
        await using stress = await scene.read(tree, {
          readers,
          seed: seed + round,
          untilMoreThanBytes: random.readUInt16LE(round * 2) * 20,
        });
        const pids = {
          daemon: status.pid,
          supervisor: status.supervisorPid,
          keeper: keeperOf(tree),
        };
        const killed = victims.map((victim) => pids[victim]);
        killTogether(killed);
        status = await settled(tree, new Set(killed));
        assert.equal(shownMount(tree), mount, `${said}: another mount`);
        const { reads, denied } = assertHonest(await stress.stop(endMaxMs), said);
        seen.reads += reads;
        seen.denied += denied;
        await scene.assertSame(tree, said);
        await tree.ebbOk(['release', tree.path]);
      }
      const keeper = keeperOf(tree);
      context.diagnostic(
        `${type}: ${all.length} rounds, ${seen.reads} reads, ${seen.denied} denied`,
      );
      await tree.stop();
      await assertEnded(tree, [keeper, status.pid, status.supervisorPid]);
    });
  });
}

/** Both are killed while readers wait in the kernel's queue: they get their bytes. */
async function killUnderWaiting(tree: AttachedTree): Promise<TreeStatus> {
  const { pid, supervisorPid } = await tree.status();
  // So what is asked from now on is asked of nobody.
  await stopProcess(pid);
  const waiting = scene.names.map((name) =>
    run('cmp', [path.join(tree.path, name), path.join(scene.source, name)], {
      timeoutMs: endMaxMs,
    }),
  );
  await waitFor(async () => (await waitingIn('fanotify_')) >= scene.names.length, {
    what: 'all to wait for an answer',
    timeoutMs: endMaxMs,
  });
  killTogether([supervisorPid, pid]);
  for (const { code, stderr } of await Promise.all(waiting)) {
    assert.equal(code, 0, stderr.toString());
  }
  return await settled(tree, new Set([pid, supervisorPid]));
}

/** How many of the programs that this process has started wait in such a function of the kernel. */
async function waitingIn(called: string): Promise<number> {
  const { stdout } = await run('grep', [
    '-ls',
    called,
    ...childrenOf(process.pid).map((pid) => `/proc/${pid}/wchan`),
  ]);
  return stdout.toString().split('\n').filter(Boolean).length;
}

test('no supervisor can be started: readers wait until one can', { timeout }, async () => {
  const script = path.join(scene.directory, 'supervisor.ts');
  const real = path.join(import.meta.dirname, '../../src/supervisor/main.ts');
  writeFileSync(script, `import ${JSON.stringify(real)};\n`);
  const env = { EBB_SUPERVISOR_MAIN: script };
  await using tree = await AttachedTree.attach({ type: 'ext4', remote: scene.source, env });
  const { pid, supervisorPid } = await tree.status();
  const keeper = keeperOf(tree);
  // Not what somebody means who kills by such names.
  assert.doesNotMatch(readFileSync(`/proc/${keeper}/cmdline`, 'latin1'), /ebb|node/);
  renameSync(script, `${script}.away`);
  killTogether([supervisorPid, pid]);
  const large = scene.names.at(-1) ?? '';
  const cold = [path.join(tree.path, large), path.join(scene.source, large)];
  const reading = run('cmp', cold, { timeoutMs: endMaxMs });
  // After a start in vain it sleeps for a while.
  await waitFor(() => childrenOf(keeper).some((child) => runs(child, 'sleep')), {
    what: 'a start in vain',
    timeoutMs: endMaxMs,
  });
  await waitFor(async () => (await waitingIn('fanotify_')) > 0, { what: 'the reader to wait' });
  const { stdout, stderr, code } = await tree.ebb(['status', tree.path]);
  assert.equal(code, 1);
  const said = stdout.toString() + stderr.toString();
  assert.match(said, new RegExp(`is dead. Process ${keeper} keeps what makes readers wait`));
  renameSync(`${script}.away`, script);
  const { code: compared, stderr: differs } = await reading;
  assert.equal(compared, 0, differs.toString());
  await settled(tree, new Set([supervisorPid, pid]));
});

function runs(pid: number, command: string): boolean {
  const place = `/proc/${pid}/exe`;
  return existsSync(place) && path.basename(realpathSync(place)) === command;
}

test(
  'both are killed and the tree is taken away at once: nothing is left',
  { timeout },
  async () => {
    await using tree = await AttachedTree.attach({ type: 'xfs', remote: scene.source });
    for (const verb of ['umount', 'mount'] as const) {
      const { pid, supervisorPid } = await tree.status();
      const keeper = keeperOf(tree);
      killTogether([supervisorPid, pid]);
      // By hand, too: whoever comes next finds that there is nothing to go on with.
      if (verb === 'umount') await runOk('umount', ['--lazy', tree.path]);
      else await tree.ebbUnshared(['umount', tree.path]);
      await waitFor(() => ![keeper, supervisorPid, pid].some(processLives), {
        what: 'the end of all',
        timeoutMs: endMaxMs,
      });
      assert.deepEqual(await mountsBelow(tree.path), []);
      await tree.attach();
      await scene.assertSame(tree, 'attached again');
    }
  },
);

test('both are killed while the tree is being attached: nothing is left', { timeout }, async () => {
  await using vain = await attachInVain(scene.source, "process.on('message', () => undefined);\n");
  // The keeper is there before the daemon.
  const found = await waitFor(
    () =>
      childrenOf(vain.pid)
        .map((pid) => ({ pid, children: childrenOf(pid) }))
        .find(({ pid, children }) => children.length === 2 && daemonsOf(pid).length === 1),
    { what: 'supervisor, keeper and daemon', timeoutMs: endMaxMs },
  );
  killTogether([found.pid, ...daemonsOf(found.pid)]);
  assert.equal(await vain.ended, 1);
  await waitFor(() => ![found.pid, ...found.children].some(processLives), {
    what: 'the end of all',
    timeoutMs: endMaxMs,
  });
  assert.deepEqual(await mountsBelow(vain.tree), []);
  await runOk('umount', [vain.filesystem], { timeoutMs: endMaxMs });
});
