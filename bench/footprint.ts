/** What the daemon costs the machine: memory after much reading, with many names known, and descriptors. */
import { chmodSync } from 'node:fs';
import { lstat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { residentMebibytes } from '../test/support/process-costs.ts';
import { mountEbb } from '../test/support/mount.ts';
import type { EbbMount } from '../test/support/mount.ts';
import { runOk } from '../test/support/run.ts';
import { temporaryDirectory } from '../test/support/temporary.ts';
import { writeManyFiles } from './many-files.ts';
import { descriptorCount, dropCaches, median, timeCommand } from './measure.ts';
import { content } from './origin.ts';
import { mountPeer } from './peer.ts';
import type { MountedPeer } from './peer.ts';
import { remoteOnly } from './scenario.ts';
import type { Sample, Scenario } from './scenario.ts';

const restartRounds = 10;
const settleMs = 5_000;

/** Times that the large file is read cold (released in between): 10 GiB, or 1 GiB for those that cannot release. */
const passes = 10;

/** Gives the local copy up, and what the page cache still has of it. */
async function makeCold(mounted: MountedPeer, file: string): Promise<void> {
  await mounted.release?.(file);
  dropCaches();
}

const memory: Scenario = {
  name: 'memory',
  title:
    'Memory and descriptors of the daemon (Ebb: after 10 cold reads of the large file, others: after 1)',
  metrics: [
    { key: 'idle', label: 'RSS idle, MiB', better: 'lower', digits: 0 },
    { key: 'read', label: 'RSS after reading, MiB', better: 'lower', digits: 0 },
    { key: 'random', label: 'RSS after random reads, MiB', better: 'lower', digits: 0 },
    { key: 'walked', label: 'RSS after find, MiB', better: 'lower', digits: 0 },
    { key: 'descriptors', label: 'open descriptors', better: 'lower', digits: 0 },
  ],
  peers: remoteOnly,
  runs: 1,
  async run(context, peer): Promise<Sample> {
    const { origin, reader } = context;
    await using mounted = await mountPeer(peer, { url: origin.url(0), native: origin.native });
    const file = path.join(mounted.path, content.large);
    const idle = residentMebibytes(mounted.pid);
    for (let pass = 0; pass < (peer === 'ebb' ? passes : 1); pass += 1) {
      if (pass > 0) await makeCold(mounted, file);
      await reader.run('sequential', file);
    }
    const read = residentMebibytes(mounted.pid);
    await makeCold(mounted, file);
    await reader.run('random', file, 500);
    const random = residentMebibytes(mounted.pid);
    const descriptors = descriptorCount(mounted.pid);
    // It needs half a second for every directory.
    if (peer === 'httpdirfs') return { idle, read, random, descriptors };
    await timeCommand('find . > /dev/null', path.join(mounted.path, content.tree));
    return { idle, read, random, walked: residentMebibytes(mounted.pid), descriptors };
  },
};

const million: Scenario = {
  name: 'million',
  title: 'A directory remote with 1,000,000 files, all listed (quick: 50,000)',
  metrics: [
    { key: 'seconds', label: 'find, cold, s', better: 'lower', digits: 1 },
    { key: 'again', label: 'find, warm, s', better: 'lower', digits: 1 },
    { key: 'rss', label: 'RSS, MiB', better: 'lower', digits: 0 },
    { key: 'catalog', label: 'cache directory, bytes per file', better: 'lower', digits: 0 },
    { key: 'descriptors', label: 'open descriptors', better: 'lower', digits: 0 },
    { key: 'restart', label: 'kill -9 to the first answer, ms', better: 'lower', digits: 0 },
    { key: 'restartMax', label: 'the longest of 10, ms', better: 'lower', digits: 0 },
  ],
  peers: ['ebb'],
  runs: 1,
  async run(context): Promise<Sample> {
    await using directory = await temporaryDirectory('million');
    chmodSync(directory.path, 0o755);
    const root = path.join(directory.path, 'many');
    const files = context.quick ? 50_000 : 1_000_000;
    writeManyFiles(root, files, () => '');
    // As users mount: a second daemon waits.
    await using mount = await mountEbb({ remote: root, standby: true });
    const seconds = await timeCommand('find . -type f -size 0 | wc -l', mount.path);
    const again = await timeCommand('find . -type f -size 0 | wc -l', mount.path);
    const used = await runOk('du', ['-s', '-B1', mount.cacheDirectory]);
    const bytes = Number(used.stdout.toString().split('\t')[0]);
    const rss = residentMebibytes(mount.pid);
    const descriptors = descriptorCount(mount.pid);
    const restarts = await killAndAsk(mount);
    return {
      seconds,
      again,
      rss,
      catalog: bytes / files,
      descriptors,
      restart: median(restarts),
      restartMax: Math.max(...restarts),
    };
  },
};

/** From SIGKILL of the daemon to the answer to stat(2) of a name that the kernel does not know, in ms. */
async function killAndAsk(mount: EbbMount): Promise<number[]> {
  const taken: number[] = [];
  for (let round = 0; round < restartRounds; round += 1) {
    dropCaches();
    // Two wait for a minute after a death, loaded one after the other.
    await setTimeout(settleMs);
    const pid = await mount.currentPid();
    const startedMs = performance.now();
    process.kill(pid, 'SIGKILL');
    await lstat(path.join(mount.path, `d${round}`, `f${round}`));
    taken.push(performance.now() - startedMs);
  }
  return taken;
}

export const footprintScenarios: readonly Scenario[] = [memory, million];
