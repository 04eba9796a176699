/**
 * A tree as a service whose manager keeps its descriptors (systemd's descriptor store; here a program that speaks the
 * same protocol): whatever dies, the tree stays where it is, and no byte that anybody reads is wrong (I9).
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { mountAt, readMountInfo } from '../../src/base/mount-info.ts';
import { compileHelper } from '../probes/probe.ts';
import type { AttachedTree } from '../support/attached-tree.ts';
import type { LoopFilesystemType, TemporaryDirectory } from '../support/temporary.ts';
import { CorpusWriter } from '../support/corpus.ts';
import { startStress } from '../support/hammer.ts';
import { killTogether, processLives } from '../support/processes.ts';
import { attachAsService } from '../support/kept-service.ts';
import { patience } from '../support/patience.ts';
import { run } from '../support/run.ts';
import { mountsBelow, temporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const readers = 2;
const endMaxMs = 30_000;
/** EIO of what the dead ones had taken; EINTR of a call that was cut short. */
const honestErrors = new Set(['5', '4']);
const keptNames = [
  'ebb-access',
  'ebb-change-journal',
  'ebb-changes',
  'ebb-facts',
  'ebb-lock',
  'ebb-mount',
  'ebb-open',
];
const names = Array.from({ length: 12 }, (_unused, index) => `d${index % 3}/file-${index}.bin`);

let directory: TemporaryDirectory;
let source: string;
let helper: string;

before(async () => {
  directory = await temporaryDirectory('native-kept');
  source = path.join(directory.path, 'source');
  const writer = new CorpusWriter(source);
  for (const [index, name] of names.entries()) writer.bytes(name, 1_000 * 2 ** index + 7);
  helper = await compileHelper(directory.path, 'hammer');
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

function shownMount(tree: AttachedTree): number | undefined {
  return mountAt(readMountInfo(), tree.path)?.mountId;
}

async function assertSame(tree: AttachedTree, said: string): Promise<void> {
  const script = 'cd "$0" && for f; do cmp -- "$f" "$SOURCE/$f" || exit 1; done';
  const compared = await run('/bin/sh', ['-c', script, tree.path, ...names], {
    timeoutMs: 60_000,
    env: { SOURCE: source },
  });
  assert.equal(compared.code, 0, `${said}: ${compared.stderr.toString()}`);
}

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
      await using service = await attachAsService(type, source, { standby: true });
      const { tree, manager } = service;
      const mount = shownMount(tree);
      let status = await tree.status();
      for (const [round, victims] of deaths.entries()) {
        const said = `${type}: ${victims.join(' and ')} killed`;
        const place = { helper, mount: tree.path, source, names };
        await using stress = startStress({ ...place, readers, seconds: 600, seed: round + 1 });
        await waitFor(async () => (await tree.status()).recalledBytes > 0, {
          what: `${said}: somebody to read`,
          timeoutMs: endMaxMs,
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
        const reports = await stress.stop(endMaxMs);
        assert.ok(
          reports.some(({ reads }) => reads > 0),
          said,
        );
        for (const report of reports) {
          assert.equal(report.wrong, undefined, said);
          for (const errno of Object.keys(report.errors)) {
            assert.ok(honestErrors.has(errno), `${said}: a reader got errno ${errno}`);
          }
        }
        await assertSame(tree, said);
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
  await using service = await attachAsService('xfs', source, { storeMax: 3 });
  const { manager } = service;
  assert.deepEqual((await manager.until('ready', 1)).stored, []);
  await assertTakenAway(service, async () => {
    manager.release();
    await manager.until('released', 1);
  });
});

test('a manager that lets go instead of starting another supervisor: the daemon takes the tree away', async () => {
  await using service = await attachAsService('xfs', source);
  const { tree, manager } = service;
  // Nobody starts again what does not run.
  const main = manager.pids.at(-1) ?? 0;
  process.kill(main, 'SIGSTOP');
  await assertTakenAway(service, async () => {
    await assertSame(tree, 'served by the daemon alone');
    assert.notEqual(shownMount(tree), undefined);
    manager.release();
    await manager.until('released', 1);
    process.kill(main, 'SIGKILL');
  });
});
