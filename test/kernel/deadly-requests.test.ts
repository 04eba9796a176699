/**
 * A request that kills or stops every daemon that it is given to costs three of them and is EIO then, and nobody else
 * notices. A daemon that does nothing any more is replaced.
 */
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { after, before, test } from 'node:test';
import { runFiles } from '../../src/base/run-directory.ts';
import { deathsMax } from '../../src/mount/request-journal.ts';
import { compileHelper } from '../probes/probe.ts';
import { CorpusWriter } from '../support/corpus.ts';
import { deadlyInMain, deadlyInThread, endless } from '../support/deadly-names.ts';
import { startStress } from '../support/hammer.ts';
import { withEbb } from '../support/mount.ts';
import { processLives } from '../support/processes.ts';
import type { EbbMount } from '../support/mount.ts';
import { run } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

/** Daemons start and die meanwhile, on a machine that may do much else. */
const answerMaxMs = 120_000;
/** Twelve of these are what a silent daemon gets (src/supervisor/watchdog.ts). */
const aliveMs = '250';
const preload = pathToFileURL(path.join(import.meta.dirname, '../support/deadly-names.ts')).href;

let directory: TemporaryDirectory;
let source: string;
let helper: string;
/** The watchdog needs its time, three times. */
const isThorough = Number(process.env['EBB_KILL_ROUNDS'] ?? 0) >= 50;
const deadlyNames = [deadlyInThread, deadlyInMain, ...(isThorough ? [endless] : [])];
const failing = path.join(import.meta.dirname, '../support/failing-mount-main.ts');
const names = ['a/one.bin', 'a/two.bin', 'b/three.bin'];

before(async () => {
  directory = await temporaryDirectory('deadly');
  source = path.join(directory.path, 'source');
  const writer = new CorpusWriter(source);
  for (const [index, name] of names.entries()) writer.bytes(name, 300_000 * (index + 1));
  for (const name of [deadlyInMain, deadlyInThread, endless]) writer.bytes(`${name}/${name}`, 10);
  helper = await compileHelper(directory.path, 'hammer');
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

async function assertWorks(mount: EbbMount): Promise<void> {
  for (const name of names) {
    const same = await run('cmp', [path.join(mount.path, name), path.join(source, name)], {
      timeoutMs: answerMaxMs,
    });
    assert.equal(same.code, 0, same.stderr.toString());
  }
}

test(`a request that kills or hangs each daemon: EIO after ${deathsMax}, and nobody else notices`, async () => {
  // Only where one is to be found silent: a busy machine keeps others silent for so long, too.
  const watched: Record<string, string> = isThorough ? { EBB_ALIVE_MS: aliveMs } : {};
  const env = { NODE_OPTIONS: `--import=${preload}`, ...watched };
  await withEbb({ remote: source, env, standby: true, timeoutMs: answerMaxMs }, async (mount) => {
    const place = { helper, mount: mount.path, source, names };
    await using stress = startStress({ ...place, readers: 2, seconds: 86_400, seed: 1 });
    for (const name of deadlyNames) {
      const { restarts } = await mount.status();
      const asked = await run('stat', [path.join(mount.path, name, name)], {
        timeoutMs: answerMaxMs,
      });
      assert.equal(asked.timedOut, false, `${name} hangs`);
      assert.match(asked.stderr.toString(), /Input\/output error/, name);
      const costs = (await mount.status()).restarts - restarts;
      assert.ok(costs >= deathsMax, `${name}: ${costs} daemons`);
      const isLogged = async (): Promise<boolean> => {
        const { stdout } = await mount.ebb(['log', '-n', '1000', mount.path]);
        return /LOOKUP.*daemons died with this request of node \d+/.test(stdout.toString());
      };
      await waitFor(isLogged, { what: `a line about ${name}` });
    }
    for (const report of await stress.stop(answerMaxMs)) {
      assert.equal(report.wrong, undefined);
      assert.deepEqual(report.errors, {});
    }
    await assertWorks(mount);
  });
});

test('daemons that crash as they take over: started ever more slowly, and one that does not serves', async () => {
  const flag = path.join(directory.path, 'crashes');
  const env = { EBB_MOUNT_MAIN: failing, EBB_CRASH_WHILE: flag };
  await withEbb({ remote: source, env, standby: true }, async (mount) => {
    const { log } = runFiles(mount.path, mount.runDirectory);
    writeFileSync(flag, '');
    await mount.kill();
    const slow = (): boolean =>
      /starts in 250 ms[^]*starts in 1000 ms/.test(readFileSync(log, 'utf8'));
    await waitFor(slow, { what: 'a pause that grows', timeoutMs: answerMaxMs });
    const status = await mount.ebb(['status', mount.path]);
    assert.equal(status.code, 1);
    assert.match(
      `${status.stdout.toString()}${status.stderr.toString()}`,
      /another one may be started after a while/,
    );
    rmSync(flag);
    await assertWorks(mount);
  });
});

test('a daemon that was stopped for good is replaced, and no call fails', async () => {
  await withEbb(
    { remote: source, env: { EBB_ALIVE_MS: aliveMs }, standby: true },
    async (mount) => {
      const { pid } = mount;
      process.kill(pid, 'SIGSTOP');
      await assertWorks(mount);
      await waitFor(() => !processLives(pid), { what: 'the end of the stopped daemon' });
      assert.ok((await mount.status()).restarts > 0);
    },
  );
});
