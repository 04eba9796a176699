/**
 * A tree as a service whose manager keeps its descriptors (systemd's descriptor store; here a program that speaks the
 * same protocol): whatever dies, the tree stays where it is, and no byte that anybody reads is wrong (I9).
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import type { AttachedTree } from '../support/attached-tree.ts';
import type { LoopFilesystemType } from '../support/temporary.ts';
import { assertHonest, deathScene, shownMount } from '../support/deaths.ts';
import type { DeathScene } from '../support/deaths.ts';
import { killTogether, processLives } from '../support/processes.ts';
import { attachAsService } from '../support/kept-service.ts';
import { patience } from '../support/patience.ts';
import { mountsBelow } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const readers = 2;
const endMaxMs = 30_000;
const keptNames = [
  'ebb-access',
  'ebb-change-journal',
  'ebb-changes',
  'ebb-facts',
  'ebb-lock',
  'ebb-mount',
  'ebb-open',
];

let scene: DeathScene;

before(async () => {
  scene = await deathScene('native-kept');
});

after(async () => {
  await scene[Symbol.asyncDispose]();
});

type Victim = 'daemon' | 'supervisor' | 'main';
type Deaths = readonly (readonly Victim[])[];
const everything = ['main', 'supervisor', 'daemon'] as const;
const deathsOn: readonly (readonly [LoopFilesystemType, Deaths])[] = [
  ['xfs', [['supervisor', 'daemon'], ['supervisor'], ['main'], everything]],
  ['ext4', [everything]],
];

for (const [type, deaths] of deathsOn) {
  describe(`a tree on ${type} whose descriptors are kept`, { timeout: patience * 300_000 }, () => {
    test('supervisor, daemon, or all are killed under readers: the tree stays, no byte is wrong', async () => {
      await using service = await attachAsService(type, scene.source, { standby: true });
      const { tree, manager } = service;
      const mount = shownMount(tree);
      let status = await tree.status();
      for (const [round, victims] of deaths.entries()) {
        const said = `${type}: ${victims.join(' and ')} killed`;
        await using stress = await scene.read(tree, {
          readers,
          seed: round + 1,
          untilMoreThanBytes: 0,
        });
        const pids: Readonly<Record<Victim, number>> = {
          daemon: status.pid,
          supervisor: status.supervisorPid,
          main: manager.pids.at(-1) ?? 0,
        };
        killTogether(victims.map((victim) => pids[victim]));
        const { stored } = await manager.until('ready', round + 2);
        const pledges = stored.filter((name) => name.startsWith('ebb-pledge-'));
        assert.deepEqual([...stored].sort(), [...keptNames, ...pledges].sort(), said);
        assert.equal(pledges.length, 1, said);
        status = await waitFor(() => tree.status(), { what: said, timeoutMs: endMaxMs });
        assert.equal(shownMount(tree), mount, `${said}: another mount`);
        for (const victim of ['supervisor', 'daemon'] as const) {
          assert.ok(!processLives(pids[victim]), `${said}: the ${victim} lives on`);
        }
        assertHonest(await stress.stop(endMaxMs), said);
        await scene.assertSame(tree, said);
        await tree.ebbOk(['release', tree.path]);
      }
      assert.ok(status.restarts >= deaths.length);
      await tree.stop();
      const { code, stored } = await manager.until('ended', 1);
      assert.deepEqual([code, stored], [0, []]);
      assert.equal(
        manager.events.findLast(({ event }) => event === 'removed')?.stored.length,
        0,
        'the supervisor took everything back itself',
      );
      assert.deepEqual(readdirSync(tree.path), ['.ebb']);
    });
  });
}

/** Kills the supervisor under readers; the daemon ends with the tree as if nothing kept anything. */
async function assertTakenAway(
  { tree }: { readonly tree: AttachedTree },
  afterDeath: () => Promise<void>,
): Promise<void> {
  const { pid, supervisorPid } = await tree.status();
  process.kill(supervisorPid, 'SIGKILL');
  await afterDeath();
  await waitFor(() => !processLives(pid), { what: 'the daemon to end', timeoutMs: endMaxMs });
  assert.deepEqual(await mountsBelow(tree.path), []);
  assert.deepEqual(readdirSync(tree.path), ['.ebb']);
}

test('a manager that keeps nothing promises nothing: the daemon takes the tree away', async () => {
  await using service = await attachAsService('xfs', scene.source, { storeMax: 3 });
  const { manager } = service;
  assert.deepEqual((await manager.until('ready', 1)).stored, []);
  await assertTakenAway(service, async () => {
    manager.release();
    await manager.until('released', 1);
  });
});

test('a manager that lets go instead of starting another supervisor: the daemon takes the tree away', async () => {
  await using service = await attachAsService('xfs', scene.source);
  const { tree, manager } = service;
  // Nobody starts again what does not run.
  const main = manager.pids.at(-1) ?? 0;
  process.kill(main, 'SIGSTOP');
  await assertTakenAway(service, async () => {
    await scene.assertSame(tree, 'served by the daemon alone');
    assert.notEqual(shownMount(tree), undefined);
    manager.release();
    await manager.until('released', 1);
    process.kill(main, 'SIGKILL');
  });
});
