/** Reading data: the first byte, all of it, here and there; cold and warm. */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cpuSeconds } from '../test/support/process-costs.ts';
import { dropCaches, touchMemory } from './measure.ts';
import { content } from './origin.ts';
import type { DelayMs } from './origin.ts';
import { mountPeer } from './peer.ts';
import type { MountedPeer, OriginPeer } from './peer.ts';
import { everybody, remoteOnly } from './scenario.ts';
import type { BenchContext, Sample, Scenario } from './scenario.ts';

const gibibyte = 2 ** 30;
const megabyte = 1e6;
/** nginx writes its log line after the last byte has left. */
const accessLogLagMs = 300;

function mountOn(context: BenchContext, peer: OriginPeer, delayMs: DelayMs): Promise<MountedPeer> {
  const { origin } = context;
  return mountPeer(peer, { url: origin.url(delayMs), native: origin.native });
}

const largeIn = (mounted: MountedPeer): string => path.join(mounted.path, content.large);

/**
 * Mounted, file read once: whatever the peer does to be fast from then on has happened. Its page cache is then filled
 * anew by reading, for everybody alike: pages that were read ahead from a disk lie in larger pieces of memory than
 * pages that were written, and a mapped file is faster for it.
 */
async function warm(context: BenchContext, peer: OriginPeer): Promise<MountedPeer> {
  const mounted = await mountOn(context, peer, 0);
  try {
    await context.reader.run('sequential', largeIn(mounted));
    dropCaches();
    await context.reader.run('sequential', largeIn(mounted));
    return mounted;
  } catch (error) {
    await mounted[Symbol.asyncDispose]();
    throw error;
  }
}

const randomReads = 100_000;

const warmReads: Scenario = {
  name: 'warm',
  title: 'Warm reads of a file that is wholly here',
  metrics: [
    { key: 'sequential', label: 'sequential, MB/s', better: 'higher', digits: 0 },
    { key: 'cpu', label: 'daemon CPU, s/GiB', better: 'lower', digits: 2 },
    { key: 'mmap', label: 'mmap, MB/s', better: 'higher', digits: 0 },
    { key: 'random', label: 'random 4 KiB, reads/s', better: 'higher', digits: 0 },
  ],
  peers: everybody,
  runs: 3,
  async run(context, peer) {
    await using mounted = await warm(context, peer);
    const file = largeIn(mounted);
    const before = cpuSeconds(mounted.pid);
    const sequential = await context.reader.run('sequential', file);
    const cpu = cpuSeconds(mounted.pid) - before;
    const mapped = await context.reader.run('mmap', file);
    const random = await context.reader.run('random', file, randomReads);
    return {
      sequential: sequential.bytes / sequential.seconds / megabyte,
      cpu: (cpu / sequential.bytes) * gibibyte,
      mmap: mapped.bytes / mapped.seconds / megabyte,
      random: randomReads / random.seconds,
    };
  },
};

async function firstByte(context: BenchContext, peer: OriginPeer, delay: DelayMs): Promise<number> {
  await using mounted = await mountOn(context, peer, delay);
  const reading = await context.reader.run('first', largeIn(mounted));
  return reading.seconds * 1000;
}

/** The content is in the origin's page cache again: a virtual machine may give cold pages back to its host. */
async function warmOrigin(context: BenchContext): Promise<void> {
  await context.reader.run('sequential', path.join(context.origin.native, content.large));
}

async function coldSequential(
  context: BenchContext,
  peer: OriginPeer,
  delay: DelayMs,
): Promise<{ rate: number; cpu: number }> {
  await using mounted = await mountOn(context, peer, delay);
  await warmOrigin(context);
  touchMemory();
  const before = cpuSeconds(mounted.pid);
  const reading = await context.reader.run('sequential', largeIn(mounted));
  const cpu = cpuSeconds(mounted.pid) - before;
  return {
    rate: reading.bytes / reading.seconds / megabyte,
    cpu: (cpu / reading.bytes) * gibibyte,
  };
}

const coldRandomReads = 200;

async function coldRandom(
  context: BenchContext,
  peer: OriginPeer,
  delay: DelayMs,
): Promise<{ ms: number; fetched: number }> {
  await using mounted = await mountOn(context, peer, delay);
  await warmOrigin(context);
  const count = context.quick ? coldRandomReads / 4 : coldRandomReads;
  const before = await context.origin.servedBytes();
  const reading = await context.reader.run('random', largeIn(mounted), count);
  await sleep(accessLogLagMs);
  const fetched = (await context.origin.servedBytes()) - before;
  return { ms: (reading.seconds / count) * 1000, fetched: fetched / count / 1024 };
}

const cold: Scenario = {
  name: 'cold',
  title: 'Cold: the first byte and the whole of a large file',
  metrics: [
    { key: 'first', label: 'first byte, ms', better: 'lower', digits: 1 },
    { key: 'first20', label: 'first byte at 20 ms, ms', better: 'lower', digits: 1 },
    { key: 'rate', label: 'sequential, MB/s', better: 'higher', digits: 0 },
    { key: 'cpu', label: 'daemon CPU, s/GiB', better: 'lower', digits: 2 },
    { key: 'rate20', label: 'sequential at 20 ms, MB/s', better: 'higher', digits: 0 },
    { key: 'cpu20', label: 'daemon CPU at 20 ms, s/GiB', better: 'lower', digits: 2 },
  ],
  peers: remoteOnly,
  runs: 3,
  async run(context, peer): Promise<Sample> {
    const near = await coldSequential(context, peer, 0);
    const far = await coldSequential(context, peer, 20);
    return {
      first: await firstByte(context, peer, 0),
      first20: await firstByte(context, peer, 20),
      rate: near.rate,
      cpu: near.cpu,
      rate20: far.rate,
      cpu20: far.cpu,
    };
  },
};

const random: Scenario = {
  name: 'random',
  title: 'Cold random reads of 4 KiB',
  metrics: [
    { key: 'ms', label: 'each, ms', better: 'lower', digits: 2 },
    { key: 'fetched', label: 'fetched for each, KiB', better: 'lower', digits: 0 },
    { key: 'ms20', label: 'each at 20 ms, ms', better: 'lower', digits: 2 },
    { key: 'fetched20', label: 'fetched for each at 20 ms, KiB', better: 'lower', digits: 0 },
  ],
  peers: remoteOnly,
  runs: 3,
  async run(context, peer): Promise<Sample> {
    const near = await coldRandom(context, peer, 0);
    const far = await coldRandom(context, peer, 20);
    return { ms: near.ms, fetched: near.fetched, ms20: far.ms, fetched20: far.fetched };
  },
};

const diskCold: Scenario = {
  name: 'uncached',
  title: 'Content that is here, page cache dropped',
  metrics: [{ key: 'rate', label: 'sequential, MB/s', better: 'higher', digits: 0 }],
  peers: everybody,
  runs: 3,
  async run(context, peer): Promise<Sample> {
    await using mounted = await warm(context, peer);
    dropCaches();
    const reading = await context.reader.run('sequential', largeIn(mounted));
    return { rate: reading.bytes / reading.seconds / megabyte };
  },
};

export const dataScenarios: readonly Scenario[] = [warmReads, cold, random, diskCold];
