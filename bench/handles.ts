/** Names and handles that the kernel has forgotten: what one LOOKUP costs, beside libfuse's own example. */
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { mountEbb } from '../test/support/mount.ts';
import { killAtExit, killGroup, runOk } from '../test/support/run.ts';
import { detachMountsBelow, mountsBelow, temporaryDirectory } from '../test/support/temporary.ts';
import { waitFor } from '../test/support/wait-for.ts';
import { cpuSeconds } from './measure.ts';
import type { BenchContext, Sample, Scenario } from './scenario.ts';

/** Few: the example looks for each name in a list of all that it knows. */
const fileCount = 1_000;
/** Of Debian's libfuse3-dev: the example that mirrors a directory, one descriptor for each name. */
const examples = '/usr/share/doc/libfuse3-dev/examples';

const lookup: Scenario = {
  name: 'lookup',
  title: 'Names and file handles that the kernel has forgotten (1,000 files, median of each)',
  metrics: [
    { key: 'lookup', label: 'LOOKUP and GETATTR, µs', better: 'lower', digits: 1 },
    { key: 'cpu', label: 'daemon CPU for both, µs', better: 'lower', digits: 1 },
    { key: 'libfuse', label: 'libfuse passthrough_ll, µs', better: 'lower', digits: 1 },
    { key: 'libfuseCpu', label: 'its CPU for both, µs', better: 'lower', digits: 1 },
    { key: 'handle', label: 'opening a handle (O_PATH), µs', better: 'lower', digits: 1 },
  ],
  peers: ['ebb'],
  runs: 5,
  async run(context): Promise<Sample> {
    await using directory = await temporaryDirectory('lookup');
    const source = path.join(directory.path, 'source');
    mkdirSync(source);
    for (let index = 0; index < fileCount; index += 1) writeFileSync(`${source}/f${index}`, '');
    const beside = await libfuse(context, source, directory.path);
    await using mount = await mountEbb({ remote: source, options: ['--ttl', '1h'] });
    await context.reader.run('lookups', mount.path, fileCount);
    const before = cpuSeconds(mount.pid);
    const { seconds } = await context.reader.run('lookups', mount.path, fileCount);
    const cpu = cpuSeconds(mount.pid) - before;
    const handle = await context.reader.run('handles', mount.path, fileCount);
    return {
      lookup: seconds * 1e6,
      cpu: (cpu / fileCount) * 1e6,
      handle: handle.seconds * 1e6,
      ...beside,
    };
  },
};

async function libfuse(context: BenchContext, source: string, directory: string): Promise<Sample> {
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
    await context.reader.run('lookups', mountPoint, fileCount);
    const before = cpuSeconds(child.pid ?? 0);
    const { seconds } = await context.reader.run('lookups', mountPoint, fileCount);
    const cpu = cpuSeconds(child.pid ?? 0) - before;
    return { libfuse: seconds * 1e6, libfuseCpu: (cpu / fileCount) * 1e6 };
  } finally {
    await detachMountsBelow(mountPoint);
    killGroup(child);
  }
}

export const handleScenarios: readonly Scenario[] = [lookup];
