/**
 * The native front end: what a tree costs to make, to read cold, to read once it is here, to release. `native` is an
 * unmanaged directory on the same file system.
 */
import { cp } from 'node:fs/promises';
import path from 'node:path';
import {
  cpuSeconds,
  eventReads,
  peakMebibytes,
  residentMebibytes,
} from '../test/support/process-costs.ts';
import { AttachedTree } from '../test/support/attached-tree.ts';
import { runOk } from '../test/support/run.ts';
import { loopFilesystem, temporaryDirectory } from '../test/support/temporary.ts';
import { waitFor } from '../test/support/wait-for.ts';
import { fewBytes, writeManyFiles } from './many-files.ts';
import { descriptorCount, dropCaches, median, timeCommand } from './measure.ts';
import { content } from './origin.ts';
import type { BenchContext, Sample, Scenario } from './scenario.ts';
import type { OriginPeer } from './peer.ts';
import { eventTimes, measureTreeProgram } from './tree-program.ts';
import type { TreePeer } from './tree-program.ts';

const gibibyte = 2 ** 30;
const megabyte = 1e6;
const filesystems = ['ext4', 'xfs', 'btrfs'] as const;
const imageBytes = 16 * gibibyte;
/** A million names, a build on a busy machine. */
const longMs = 1_200_000;

async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return (performance.now() - startedMs) / 1_000;
}

const populate: Scenario = {
  name: 'tree-populate',
  title: 'A native tree: stubs made, small files recalled and released (20,000 files, a directory)',
  metrics: filesystems.flatMap((type) => [
    { key: `${type}-made`, label: `${type}: stubs/s`, better: 'higher' as const, digits: 0 },
    { key: `${type}-got`, label: `${type}: recalled/s`, better: 'higher' as const, digits: 0 },
    { key: `${type}-freed`, label: `${type}: released/s`, better: 'higher' as const, digits: 0 },
  ]),
  peers: ['ebb'],
  runs: 3,
  async run(context): Promise<Sample> {
    const files = context.quick ? 5_000 : 20_000;
    await using directory = await temporaryDirectory('populate');
    writeManyFiles(directory.path, files, fewBytes);
    const sample: Record<string, number> = {};
    for (const type of filesystems) {
      const startedMs = performance.now();
      await using tree = await AttachedTree.attach({
        type,
        remote: directory.path,
        timeoutMs: longMs,
      });
      sample[`${type}-made`] = (files * 1_000) / (performance.now() - startedMs);
      sample[`${type}-got`] =
        files / (await secondsOf(() => tree.ebbOk(['get', tree.path], { timeoutMs: longMs })));
      sample[`${type}-freed`] =
        files / (await secondsOf(() => tree.ebbOk(['release', tree.path], { timeoutMs: longMs })));
    }
    return sample;
  },
};

const firstByteRuns = 20;

const cold: Scenario<TreePeer> = {
  name: 'tree-cold',
  title: 'Cold reads of 1 GiB in a native tree on xfs (c, node: programs that do only the work)',
  metrics: [
    { key: 'first', label: 'first byte, right after attaching, ms', better: 'lower', digits: 2 },
    { key: 'firsts', label: 'first byte later (median of 19), ms', better: 'lower', digits: 2 },
    { key: 'event', label: 'event without a fetch, one processor, µs', better: 'lower', digits: 0 },
    { key: 'eventApart', label: 'the same, on two processors, µs', better: 'lower', digits: 0 },
    { key: 'directory', label: 'sequential, a directory, MB/s', better: 'higher', digits: 0 },
    { key: 'directoryCpu', label: 'the same, processor s/GiB', better: 'lower', digits: 2 },
    {
      key: 'directoryAgain',
      label: 'again right after its release, MB/s',
      better: 'higher',
      digits: 0,
    },
    { key: 'directoryAgainCpu', label: 'the same, processor s/GiB', better: 'lower', digits: 2 },
    { key: 'web', label: 'sequential, HTTP, MB/s', better: 'higher', digits: 0 },
    { key: 'webCpu', label: 'the same, processor s/GiB', better: 'lower', digits: 2 },
    { key: 'webAgain', label: 'again right after its release, MB/s', better: 'higher', digits: 0 },
    { key: 'webAgainCpu', label: 'the same, processor s/GiB', better: 'lower', digits: 2 },
  ],
  peers: ['ebb', 'c', 'node'],
  runs: 3,
  async run(context, peer): Promise<Sample> {
    if (peer !== 'ebb') return measureTreeProgram(context, { peer, imageBytes, firstByteRuns });
    const { origin, reader } = context;
    const sample: Record<string, number> = {};
    for (const [key, remote] of [
      ['directory', origin.native],
      ['web', origin.url(0)],
    ] as const) {
      await using tree = await AttachedTree.attach({ type: 'xfs', remote, sizeBytes: imageBytes });
      const { pid } = await tree.status();
      const file = path.join(tree.path, content.large);
      if (key === 'directory') {
        const firsts: number[] = [];
        for (let run = 0; run < firstByteRuns; run += 1) {
          firsts.push((await reader.run('first', file)).seconds * 1_000);
          if (run === 0) Object.assign(sample, await eventTimes(reader, pid, file));
          await tree.ebbOk(['release', file]);
        }
        // The first of all is what a user meets right after attaching.
        sample['first'] = firsts[0] ?? Number.NaN;
        sample['firsts'] = median(firsts.slice(1));
      }
      dropCaches();
      // The second one meets memory that the host has just backed, and a program that has run.
      for (const name of [key, `${key}Again`]) {
        const before = cpuSeconds(pid);
        const reading = await reader.run('sequential', file);
        sample[name] = reading.bytes / reading.seconds / megabyte;
        sample[`${name}Cpu`] = ((cpuSeconds(pid) - before) / reading.bytes) * gibibyte;
        await tree.ebbOk(['release', file]);
      }
    }
    return sample;
  },
};

const randomReads = 100_000;

async function warmFile(context: BenchContext, file: string): Promise<Sample> {
  const { reader } = context;
  await reader.run('sequential', file);
  await reader.run('sequential', file);
  const sequential = await reader.run('sequential', file);
  const mapped = await reader.run('mmap', file);
  const random = await reader.run('random', file, randomReads);
  return {
    sequential: sequential.bytes / sequential.seconds / megabyte,
    mmap: mapped.bytes / mapped.seconds / megabyte,
    random: randomReads / random.seconds,
  };
}

const warm: Scenario = {
  name: 'tree-warm',
  title: 'A native tree on xfs: reads of what is here (native: an unmanaged directory beside it)',
  metrics: [
    { key: 'sequential', label: 'sequential, MB/s', better: 'higher', digits: 0 },
    { key: 'mmap', label: 'mmap, MB/s', better: 'higher', digits: 0 },
    { key: 'random', label: 'random 4 KiB, reads/s', better: 'higher', digits: 0 },
    { key: 'events', label: 'events raised', better: 'lower', digits: 0 },
  ],
  peers: ['native', 'ebb'],
  runs: 5,
  async run(context: BenchContext, peer: OriginPeer): Promise<Sample> {
    const { origin } = context;
    if (peer === 'native') {
      await using filesystem = await loopFilesystem({ type: 'xfs', sizeBytes: imageBytes });
      const file = path.join(filesystem.path, 'large.bin');
      await cp(path.join(origin.native, content.large), file);
      return await warmFile(context, file);
    }
    await using tree = await AttachedTree.attach({
      type: 'xfs',
      remote: origin.native,
      sizeBytes: imageBytes,
    });
    const file = path.join(tree.path, content.large);
    await tree.ebbOk(['get', file]);
    await waitFor(async () => (await eventsOf(tree, context, file)) === 0, {
      what: 'reads without events',
      timeoutMs: 20_000,
      intervalMs: 500,
    });
    const { pid } = await tree.status();
    const before = eventReads(pid);
    const sample = await warmFile(context, file);
    return { ...sample, events: eventReads(pid) - before };
  },
};

/** How often events are read from the kernel while the whole file is read once. */
async function eventsOf(tree: AttachedTree, context: BenchContext, file: string): Promise<number> {
  const { pid } = await tree.status();
  const before = eventReads(pid);
  await context.reader.run('sequential', file);
  return eventReads(pid) - before;
}

const build: Scenario = {
  name: 'tree-build',
  title: 'Building a part of Linux (tinyconfig; prepare lib/ mm/) in a cold tree on xfs',
  metrics: [
    { key: 'first', label: 'first build, s', better: 'lower', digits: 1 },
    { key: 'firstDaemon', label: 'daemon CPU in it, s', better: 'lower', digits: 2 },
    { key: 'second', label: 'second build, s', better: 'lower', digits: 1 },
    { key: 'secondDaemon', label: 'daemon CPU in it, s', better: 'lower', digits: 2 },
    { key: 'used', label: 'on disk afterwards, MiB', better: 'lower', digits: 0 },
  ],
  peers: ['native', 'ebb'],
  runs: 3,
  async run(_context, peer): Promise<Sample> {
    await using directory = await temporaryDirectory('linux');
    const source = await linuxSource(directory.path);
    if (peer === 'native') {
      await using filesystem = await loopFilesystem({ type: 'xfs', sizeBytes: imageBytes });
      const copy = path.join(filesystem.path, 'linux');
      await runOk('cp', ['-a', source, copy], { timeoutMs: 300_000 });
      return await buildTwice(copy, 0);
    }
    await using tree = await AttachedTree.attach({
      type: 'xfs',
      remote: source,
      sizeBytes: imageBytes,
    });
    return await buildTwice(tree.path, (await tree.status()).pid);
  },
};

async function buildTwice(directory: string, daemonPid: number): Promise<Sample> {
  dropCaches();
  const make = 'make -j2 prepare lib/ mm/ > /dev/null 2>&1';
  const timed = async (script: string): Promise<readonly [number, number]> => {
    const before = cpuSeconds(daemonPid);
    const seconds = await timeCommand(script, directory, { timeoutMs: longMs });
    return [seconds, cpuSeconds(daemonPid) - before];
  };
  const [first, firstDaemon] = await timed(`make tinyconfig > /dev/null && ${make}`);
  await timeCommand('make clean > /dev/null', directory);
  const [second, secondDaemon] = await timed(make);
  const used = await runOk('df', ['--output=used', '-B1M', directory]);
  return {
    first,
    firstDaemon,
    second,
    secondDaemon,
    used: Number(used.stdout.toString().trim().split('\n')[1]),
  };
}

/** Unpacked below `directory`: Debian's package linux-source-6.1, which `make` needs bc, bison and flex for. */
async function linuxSource(directory: string): Promise<string> {
  await runOk('tar', ['-xf', '/usr/src/linux-source-6.1.tar.xz', '-C', directory], {
    timeoutMs: 300_000,
    debianPackage: 'linux-source-6.1',
  });
  return path.join(directory, 'linux-source-6.1');
}

const million: Scenario = {
  name: 'tree-million',
  title: 'A native tree on xfs with 1,000,000 stubs (quick: 50,000)',
  metrics: [
    { key: 'attach', label: 'attach, s', better: 'lower', digits: 1 },
    { key: 'ls', label: 'ls of 1,000 of them, s', better: 'lower', digits: 2 },
    { key: 'find', label: 'ebb find --state OFL, s', better: 'lower', digits: 1 },
    { key: 'restart', label: 'stop and attach again, s', better: 'lower', digits: 1 },
    { key: 'peak', label: 'peak RSS of the first daemon, MiB', better: 'lower', digits: 0 },
    { key: 'rss', label: 'RSS after that, MiB', better: 'lower', digits: 0 },
    { key: 'descriptors', label: 'open descriptors', better: 'lower', digits: 0 },
    { key: 'marks', label: 'kernel marks', better: 'lower', digits: 0 },
  ],
  peers: ['ebb'],
  runs: 1,
  async run(context): Promise<Sample> {
    await using directory = await temporaryDirectory('tree-million');
    writeManyFiles(directory.path, context.quick ? 50_000 : 1_000_000, fewBytes);
    const startedMs = performance.now();
    await using tree = await AttachedTree.attach({
      type: 'xfs',
      remote: directory.path,
      sizeBytes: imageBytes,
      timeoutMs: longMs,
    });
    const attach = (performance.now() - startedMs) / 1_000;
    const ls = await secondsOf(() => tree.ebbOk(['ls', path.join(tree.path, 'd7')]));
    const find = await secondsOf(() =>
      tree.ebbOk(['find', tree.path, '--state', 'OFL'], { timeoutMs: longMs }),
    );
    const peak = peakMebibytes((await tree.status()).pid);
    const restart = await secondsOf(async () => {
      await tree.stop();
      await tree.attach();
    });
    const { pid } = await tree.status();
    return {
      attach,
      ls,
      find,
      restart,
      peak,
      rss: residentMebibytes(pid),
      descriptors: descriptorCount(pid),
      marks: await marksOf(pid),
    };
  },
};

/** Lines of fdinfo that are marks (proc_pid_fdinfo(5)). */
async function marksOf(pid: number): Promise<number> {
  const script =
    'cat /proc/"$0"/fdinfo/* 2> /dev/null | grep -cE "^fanotify (ino|sdev|mnt_id)" || :';
  const counted = await runOk('/bin/sh', ['-c', script, String(pid)]);
  return Number(counted.stdout.toString());
}

export const nativeScenarios: readonly Scenario<OriginPeer | TreePeer>[] = [
  populate,
  cold,
  warm,
  build,
  million,
];
