/** Names and attributes: walking a tree, packing it, a path of forty directories, the price of one GETATTR. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { cpuSeconds } from '../test/support/process-costs.ts';
import { killAtExit, killGroup, runOk } from '../test/support/run.ts';
import { detachMountsBelow, mountsBelow, temporaryDirectory } from '../test/support/temporary.ts';
import { waitFor } from '../test/support/wait-for.ts';
import { timeCommand } from './measure.ts';
import { content } from './origin.ts';
import type { DelayMs } from './origin.ts';
import { mountPeer } from './peer.ts';
import type { MountedPeer, OriginPeer } from './peer.ts';
import { everybody, remoteOnly } from './scenario.ts';
import type { BenchContext, Sample, Scenario } from './scenario.ts';

function mountOn(context: BenchContext, peer: OriginPeer, delayMs: DelayMs): Promise<MountedPeer> {
  const { origin } = context;
  return mountPeer(peer, { url: origin.url(delayMs), native: origin.native });
}

const treeIn = (mounted: MountedPeer): string => path.join(mounted.path, content.tree);
/** Names only; and a stat of every file, as a backup tool does. */
const findNames = 'find . > /dev/null';
const findAll = 'find . -type f -size -1000000 > /dev/null';

const walk: Scenario = {
  name: 'walk',
  title: 'Walking 7,639 files in 405 directories',
  metrics: [
    { key: 'cold', label: 'find, cold, s', better: 'lower', digits: 2 },
    { key: 'cold20', label: 'find, cold at 20 ms, s', better: 'lower', digits: 2 },
    { key: 'stat', label: 'find -size after it, s', better: 'lower', digits: 2 },
    { key: 'stat20', label: 'find -size after it at 20 ms, s', better: 'lower', digits: 2 },
    { key: 'warm', label: 'find -size, warm, s', better: 'lower', digits: 3 },
    { key: 'list', label: 'ls -lR, warm, s', better: 'lower', digits: 3 },
  ],
  peers: everybody,
  runs: 3,
  async run(context, peer): Promise<Sample> {
    const sample: Record<string, number> = {};
    {
      await using near = await mountOn(context, peer, 0);
      sample['cold'] = await timeCommand(findNames, treeIn(near));
      sample['stat'] = await timeCommand(findAll, treeIn(near));
      sample['warm'] = await timeCommand(findAll, treeIn(near));
      sample['list'] = await timeCommand('ls -lR > /dev/null', treeIn(near));
    }
    if (peer === 'native') return sample;
    await using far = await mountOn(context, peer, 20);
    sample['cold20'] = await timeCommand(findNames, treeIn(far));
    sample['stat20'] = await timeCommand(findAll, treeIn(far));
    return sample;
  },
};

const pack: Scenario = {
  name: 'pack',
  title: 'tar c of the same tree',
  metrics: [
    { key: 'cold', label: 'cold, s', better: 'lower', digits: 2 },
    { key: 'cpu', label: 'daemon CPU, s', better: 'lower', digits: 2 },
    { key: 'warm', label: 'warm, s', better: 'lower', digits: 2 },
  ],
  peers: everybody,
  runs: 1,
  async run(context, peer): Promise<Sample> {
    await using mounted = await mountOn(context, peer, 0);
    const before = cpuSeconds(mounted.pid);
    const cold = await timeCommand('tar -c . | cat > /dev/null', treeIn(mounted));
    const cpu = cpuSeconds(mounted.pid) - before;
    const warm = await timeCommand('tar -c . | cat > /dev/null', treeIn(mounted));
    return { cold, cpu, warm };
  },
};

const deep: Scenario = {
  name: 'deep',
  title: 'stat of a file 40 directories down, cold',
  metrics: [
    { key: 'near', label: 'ms', better: 'lower', digits: 1 },
    { key: 'far', label: 'at 20 ms, ms', better: 'lower', digits: 0 },
  ],
  peers: remoteOnly,
  runs: 3,
  async run(context, peer): Promise<Sample> {
    const sample: Record<string, number> = {};
    for (const [key, delayMs] of [
      ['near', 0],
      ['far', 20],
    ] as const) {
      await using mounted = await mountOn(context, peer, delayMs);
      const reading = await context.reader.run('stat', path.join(mounted.path, content.deep));
      sample[key] = reading.seconds * 1000;
    }
    return sample;
  },
};

const getattrCalls = 50_000;

const getattr: Scenario = {
  name: 'getattr',
  title: 'One GETATTR round trip (statx with AT_STATX_FORCE_SYNC, median)',
  metrics: [
    { key: 'micros', label: 'µs', better: 'lower', digits: 2 },
    { key: 'cpu', label: 'daemon CPU, µs', better: 'lower', digits: 2 },
    { key: 'libfuse', label: 'libfuse passthrough, µs', better: 'lower', digits: 2 },
  ],
  peers: everybody,
  runs: 3,
  async run(context, peer): Promise<Sample> {
    if (peer === 'native') {
      const file = path.join(context.origin.native, content.large);
      const reading = await context.reader.run('getattr', file, getattrCalls);
      return { micros: reading.seconds * 1e6, libfuse: await libfuseMicros(context) };
    }
    await using mounted = await mountOn(context, peer, 0);
    const file = path.join(mounted.path, content.large);
    await context.reader.run('getattr', file, getattrCalls / 10);
    const before = cpuSeconds(mounted.pid);
    const reading = await context.reader.run('getattr', file, getattrCalls);
    const cpu = cpuSeconds(mounted.pid) - before;
    return { micros: reading.seconds * 1e6, cpu: (cpu / getattrCalls) * 1e6 };
  },
};

/** The least that libfuse can do (bench/peers/passthrough.c). */
async function libfuseMicros(context: BenchContext): Promise<number> {
  await using directory = await temporaryDirectory('libfuse');
  const program = path.join(directory.path, 'passthrough');
  const mountPoint = path.join(directory.path, 'mnt');
  const source = path.join(import.meta.dirname, 'peers/passthrough.c');
  const script = `mkdir "$2" && gcc -O2 -o "$1" "$0" $(pkg-config --cflags --libs fuse3)`;
  await runOk('/bin/sh', ['-c', script, source, program, mountPoint], {
    debianPackage: 'libfuse3-dev',
  });
  const native = path.dirname(path.join(context.origin.native, content.large));
  const child = spawn(program, [native, mountPoint], { stdio: 'ignore', detached: true });
  killAtExit(child);
  try {
    const mounted = async (): Promise<boolean> => (await mountsBelow(mountPoint)).length > 0;
    await waitFor(mounted, { what: 'libfuse to mount' });
    const file = path.join(mountPoint, path.basename(content.large));
    await context.reader.run('getattr', file, getattrCalls / 10);
    return (await context.reader.run('getattr', file, getattrCalls)).seconds * 1e6;
  } finally {
    await detachMountsBelow(mountPoint);
    killGroup(child);
  }
}

export const metadataScenarios: readonly Scenario[] = [walk, pack, deep, getattr];
