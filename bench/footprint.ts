/** What the daemon costs the machine: memory after much reading, with many names known, and descriptors. */
import { chmodSync } from 'node:fs';
import path from 'node:path';
import { mountEbb } from '../test/support/mount.ts';
import { runOk } from '../test/support/run.ts';
import { temporaryDirectory } from '../test/support/temporary.ts';
import { writeManyFiles } from './many-files.ts';
import { descriptorCount, dropCaches, residentMebibytes, timeCommand } from './measure.ts';
import { content } from './origin.ts';
import { mountPeer } from './peer.ts';
import type { MountedPeer } from './peer.ts';
import { remoteOnly } from './scenario.ts';
import type { Sample, Scenario } from './scenario.ts';

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
  ],
  peers: ['ebb'],
  runs: 1,
  async run(context): Promise<Sample> {
    await using directory = await temporaryDirectory('million');
    chmodSync(directory.path, 0o755);
    const root = path.join(directory.path, 'many');
    const files = context.quick ? 50_000 : 1_000_000;
    writeManyFiles(root, files, () => '');
    await using mount = await mountEbb({ remote: root });
    const seconds = await timeCommand('find . -type f -size 0 | wc -l', mount.path);
    const again = await timeCommand('find . -type f -size 0 | wc -l', mount.path);
    const used = await runOk('du', ['-s', '-B1', mount.cacheDirectory]);
    const bytes = Number(used.stdout.toString().split('\t')[0]);
    return {
      seconds,
      again,
      rss: residentMebibytes(mount.pid),
      catalog: bytes / files,
      descriptors: descriptorCount(mount.pid),
    };
  },
};

export const footprintScenarios: readonly Scenario[] = [memory, million];
