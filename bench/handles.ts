/** Names and handles that the kernel has forgotten: what one LOOKUP costs, beside libfuse's own example. */
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { cpuSeconds } from '../test/support/process-costs.ts';
import { mountEbb } from '../test/support/mount.ts';
import { killAtExit, killGroup, runOk } from '../test/support/run.ts';
import { detachMountsBelow, mountsBelow, temporaryDirectory } from '../test/support/temporary.ts';
import { waitFor } from '../test/support/wait-for.ts';
import { callerProcessor, pinProcess, processorPlaces } from './measure.ts';
import type { BenchContext, Sample, Scenario } from './scenario.ts';

/** `libfuse`: its example that mirrors a directory (passthrough_ll). */
export type HandlePeer = 'ebb' | 'libfuse';

/** Few: the example looks for each name in a list of all that it knows. */
const fileCount = 1_000;
/** Of Debian's libfuse3-dev: the example that mirrors a directory, one descriptor for each name. */
const examples = '/usr/share/doc/libfuse3-dev/examples';

const lookup: Scenario<HandlePeer> = {
  name: 'lookup',
  title: 'Names and file handles that the kernel has forgotten (1,000 files, median of each)',
  metrics: [
    { key: 'lookup', label: 'LOOKUP and GETATTR, one processor, µs', better: 'lower', digits: 1 },
    { key: 'lookupApart', label: 'the same, on two processors, µs', better: 'lower', digits: 1 },
    { key: 'cpu', label: 'daemon CPU for both requests, µs', better: 'lower', digits: 1 },
    { key: 'handle', label: 'opening a handle (O_PATH), µs', better: 'lower', digits: 1 },
  ],
  peers: ['ebb', 'libfuse'],
  runs: 5,
  async run(context, peer): Promise<Sample> {
    await using directory = await temporaryDirectory('lookup');
    const source = path.join(directory.path, 'source');
    mkdirSync(source);
    for (let index = 0; index < fileCount; index += 1) writeFileSync(`${source}/f${index}`, '');
    if (peer === 'libfuse') {
      return await libfuse(source, directory.path, (mount) => lookups(context, mount));
    }
    await using mount = await mountEbb({ remote: source, options: ['--ttl', '1h'] });
    const sample = await lookups(context, mount);
    const processor = callerProcessor;
    const handle = await context.reader.run('handles', mount.path, fileCount, { processor });
    return { ...sample, handle: handle.seconds * 1e6 };
  },
};

interface Served {
  readonly path: string;
  readonly pid: number;
}

/** Ends with the server on the reader's processor. */
async function lookups({ reader }: BenchContext, mount: Served): Promise<Sample> {
  const processor = callerProcessor;
  const sample: Record<string, number> = {};
  await reader.run('lookups', mount.path, fileCount);
  const before = cpuSeconds(mount.pid);
  for (const { place, server } of processorPlaces) {
    pinProcess(mount.pid, server);
    const { seconds } = await reader.run('lookups', mount.path, fileCount, { processor });
    sample[`lookup${place}`] = seconds * 1e6;
  }
  const cpu = (cpuSeconds(mount.pid) - before) / processorPlaces.length / fileCount;
  return { ...sample, cpu: cpu * 1e6 };
}

async function libfuse(
  source: string,
  directory: string,
  measure: (mount: Served) => Promise<Sample>,
): Promise<Sample> {
  const program = path.join(directory, 'passthrough_ll');
  const mountPoint = path.join(directory, 'mnt');
  const script = 'mkdir "$2" && gcc -O2 -o "$1" "$0" $(pkg-config --cflags --libs fuse3)';
  await runOk('/bin/sh', ['-c', script, `${examples}/passthrough_ll.c`, program, mountPoint], {
    debianPackage: 'libfuse3-dev',
  });
  const options = ['-f', '-o', `source=${source},timeout=3600`, mountPoint];
  const child = spawn(program, options, { stdio: 'ignore', detached: true });
  killAtExit(child);
  try {
    const mounted = async (): Promise<boolean> => (await mountsBelow(mountPoint)).length > 0;
    await waitFor(mounted, { what: 'libfuse to mount' });
    return await measure({ path: mountPoint, pid: child.pid ?? 0 });
  } finally {
    await detachMountsBelow(mountPoint);
    killGroup(child);
  }
}

export const handleScenarios: readonly Scenario<HandlePeer>[] = [lookup];
