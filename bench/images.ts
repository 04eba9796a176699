/** ext4 images: reading, walking and mounting them, beside the kernel's own driver and fuse2fs. */
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { cpuSeconds } from '../test/support/process-costs.ts';
import { runOk } from '../test/support/run.ts';
import { imageContent, imagePeers, mountImagePeer } from './image-peer.ts';
import type { ImagePeer } from './image-peer.ts';
import { dropCaches, timeCommand, touchMemory } from './measure.ts';
import type { BenchContext, Sample, Scenario } from './scenario.ts';

const megabyte = 1e6;
const gibibyte = 2 ** 30;
const randomColdReads = 10_000;
const randomWarmReads = 100_000;
const longMs = 600_000;
const settleMs = 1_000;

/** The image is in the page cache afterwards, and nothing else is. */
async function cacheImageAlone(context: BenchContext, image: string): Promise<void> {
  dropCaches();
  await context.reader.run('sequential', image);
  touchMemory();
}

const read: Scenario<ImagePeer> = {
  name: 'image-read',
  title: 'An image: reading a file of 512 MiB',
  metrics: [
    { key: 'cold', label: 'sequential, cold, MB/s', better: 'higher', digits: 0 },
    { key: 'first', label: 'first touch, image in memory, MB/s', better: 'higher', digits: 0 },
    { key: 'cpu', label: 'server CPU for it, s/GiB', better: 'lower', digits: 2 },
    { key: 'again', label: 'again, MB/s', better: 'higher', digits: 0 },
    { key: 'randomCold', label: 'random 4 KiB, cold, reads/s', better: 'higher', digits: 0 },
    { key: 'random', label: 'random 4 KiB, warm, reads/s', better: 'higher', digits: 0 },
  ],
  peers: imagePeers,
  runs: 5,
  async run(context, peer): Promise<Sample> {
    const image = await context.images.filled();
    const { reader } = context;
    const sample: Record<string, number> = {};
    {
      await using mounted = await mountImagePeer(peer, image);
      const file = path.join(mounted.path, imageContent.large);
      const options = { user: mounted.user };
      dropCaches();
      const cold = await reader.run('sequential', file, undefined, options);
      sample['cold'] = cold.bytes / cold.seconds / megabyte;
      dropCaches();
      const random = await reader.run('random', file, randomColdReads, options);
      sample['randomCold'] = randomColdReads / random.seconds;
    }
    await cacheImageAlone(context, image);
    await using mounted = await mountImagePeer(peer, image);
    const file = path.join(mounted.path, imageContent.large);
    const options = { user: mounted.user };
    const before = cpuSeconds(mounted.pid);
    const first = await reader.run('sequential', file, undefined, options);
    sample['first'] = first.bytes / first.seconds / megabyte;
    sample['cpu'] = ((cpuSeconds(mounted.pid) - before) / first.bytes) * gibibyte;
    const again = await reader.run('sequential', file, undefined, options);
    sample['again'] = again.bytes / again.seconds / megabyte;
    const random = await reader.run('random', file, randomWarmReads, options);
    sample['random'] = randomWarmReads / random.seconds;
    return sample;
  },
};

const programs = {
  find: 'find . > /dev/null',
  list: 'ls -lR > /dev/null',
  tar: 'tar -c . | cat > /dev/null',
} as const;

const walk: Scenario<ImagePeer> = {
  name: 'image-walk',
  title: 'An image: walking and packing 20,000 files in 1,840 directories',
  metrics: [
    { key: 'find', label: 'find, cold, s', better: 'lower', digits: 3 },
    { key: 'findWarm', label: 'again, s', better: 'lower', digits: 3 },
    { key: 'list', label: 'ls -lR, cold, s', better: 'lower', digits: 3 },
    { key: 'listWarm', label: 'again, s', better: 'lower', digits: 3 },
    { key: 'tar', label: 'tar c, cold, s', better: 'lower', digits: 3 },
    { key: 'tarWarm', label: 'again, s', better: 'lower', digits: 3 },
    { key: 'cpu', label: 'server CPU for all of it, s', better: 'lower', digits: 2 },
  ],
  peers: imagePeers,
  runs: 3,
  async run(context, peer): Promise<Sample> {
    const image = await context.images.filled();
    const sample: Record<string, number> = { cpu: 0 };
    for (const [key, script] of Object.entries(programs)) {
      await using mounted = await mountImagePeer(peer, image);
      const { user, pid } = mounted;
      const before = cpuSeconds(pid);
      dropCaches();
      const tree = path.join(mounted.path, imageContent.tree);
      sample[key] = await timeCommand(script, tree, { timeoutMs: longMs, user });
      sample[`${key}Warm`] = await timeCommand(script, tree, { timeoutMs: longMs, user });
      sample['cpu'] = (sample['cpu'] ?? 0) + cpuSeconds(pid) - before;
    }
    return sample;
  },
};

async function millisecondsToList(peer: ImagePeer, image: string): Promise<number> {
  // Processes, a loop device and caches of the mount before may still be going away, on both processors.
  await setTimeout(settleMs);
  const startedMs = performance.now();
  await using mounted = await mountImagePeer(peer, image);
  await runOk('ls', [mounted.path], { ...mounted.user });
  return performance.now() - startedMs;
}

const mount: Scenario<ImagePeer> = {
  name: 'image-mount',
  title: 'An image: from the start of the mount to the end of the first ls (image in memory)',
  metrics: [
    { key: 'million', label: '1,000,000 inodes, ms', better: 'lower', digits: 0 },
    { key: 'filled', label: '20,000 files, ms', better: 'lower', digits: 0 },
  ],
  peers: imagePeers,
  runs: 7,
  async run(context, peer): Promise<Sample> {
    const million = await context.images.million();
    const filled = await context.images.filled();
    return {
      // A map holds at most a million nodes, and is not what starts fast.
      ...(peer === 'ebb-native' ? {} : { million: await millisecondsToList(peer, million) }),
      filled: await millisecondsToList(peer, filled),
    };
  },
};

export const imageScenarios: readonly Scenario<ImagePeer>[] = [read, walk, mount];
