/** `ebb daemon restart` and the daemon that waits, which may be of an older Ebb (load: successor.test.ts). */
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { CorpusWriter } from '../support/corpus.ts';
import { mountEbb } from '../support/mount.ts';
import { childrenOf, processLives } from '../support/processes.ts';
import type { EbbMount } from '../support/mount.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const answerMaxMs = 60_000;
const failing = path.join(import.meta.dirname, '../support/failing-mount-main.ts');

/** The daemons that wait: at least one. */
async function untilOneWaits(mount: EbbMount): Promise<number[]> {
  const serving = await mount.currentPid();
  return await waitFor(
    () => {
      const others = childrenOf(mount.supervisorPid).filter((pid) => pid !== serving);
      return others.length > 0 ? others : undefined;
    },
    { what: 'a daemon that waits', timeoutMs: answerMaxMs },
  );
}

test('ebb daemon restart starts a daemon for it; when none starts, the one that serves stays', async () => {
  await using directory = await temporaryDirectory('planned-restart');
  const source = path.join(directory.path, 'source');
  new CorpusWriter(source).bytes('cold.bin', 5_000_000);
  const flag = path.join(directory.path, 'fails');
  const env = { EBB_MOUNT_MAIN: failing, EBB_FAIL_WHILE: flag };
  await using mount = await mountEbb({ remote: source, env, standby: true });
  const restart = ['daemon', 'restart', '--json', mount.path];

  const before = await untilOneWaits(mount);
  const replaced = await mount.ebb(restart, { timeoutMs: 2 * answerMaxMs });
  assert.equal(replaced.code, 0, replaced.stderr.toString());
  const { pid } = JSON.parse(replaced.stdout.toString()) as { pid: number };
  assert.ok(!before.includes(pid), 'who waited before has the code of before');

  const waiting = await untilOneWaits(mount);
  writeFileSync(flag, '');
  const replacing = mount.ebb(restart, { timeoutMs: 4 * answerMaxMs });
  await waitFor(() => !waiting.some(processLives), { what: 'its end', timeoutMs: answerMaxMs });
  await waitFor(() => childrenOf(mount.supervisorPid).length === 1, {
    what: 'the end of the new one',
    timeoutMs: answerMaxMs,
  });
  await runOk('cmp', [path.join(mount.path, 'cold.bin'), path.join(source, 'cold.bin')]);
  assert.equal(await mount.currentPid(), pid);
  // Its death makes room for another one, which is what the command waits for.
  rmSync(flag);
  await mount.kill();
  assert.equal((await replacing).code, 0);
});

test('--no-standby: none waits, and a daemon that dies or is to be replaced is replaced all the same', async () => {
  await using directory = await temporaryDirectory('no-standby');
  const source = path.join(directory.path, 'source');
  new CorpusWriter(source).bytes('cold.bin', 5_000_000);
  await using mount = await mountEbb({ remote: source });
  // After a death two would be started at once.
  await mount.kill();
  await runOk('cmp', [path.join(mount.path, 'cold.bin'), path.join(source, 'cold.bin')]);
  const successor = await mount.currentPid();
  const isAlone = (pid: number): Promise<unknown> =>
    waitFor(() => isDeepStrictEqual(childrenOf(mount.supervisorPid), [pid]), {
      what: 'nobody but the daemon that serves',
      timeoutMs: answerMaxMs,
    });
  await isAlone(successor);
  const replaced = await mount.ebb(['daemon', 'restart', mount.path], {
    timeoutMs: 2 * answerMaxMs,
  });
  assert.equal(replaced.code, 0, replaced.stderr.toString());
  const last = await mount.currentPid();
  assert.notEqual(last, successor);
  await isAlone(last);
});
