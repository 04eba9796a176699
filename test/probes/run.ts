/**
 * Runs the probes by hand over something that is mounted already:
 *
 *   node test/probes/run.ts prepare SOURCE [http|directory]           makes the source
 *   node test/probes/run.ts probe MOUNT SOURCE [http|directory] [PROBE...]
 *
 * Exit code 1 when a probe failed. Used to see which other file systems are wrong, and where.
 */
import { allProbes, directoryTraits, httpTraits, prepareSource, runProbes } from './all.ts';
import { compileHelper } from './probe.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const [verb, first = '', second = '', ...more] = process.argv.slice(2);
const traitsOf = (name: string | undefined): typeof httpTraits =>
  name === 'http' ? { ...httpTraits, executable: false, claimsBlocks: false } : directoryTraits;

if (verb === 'prepare') {
  await prepareSource(first, traitsOf(second));
} else if (verb === 'probe') {
  await using directory = await temporaryDirectory('probes');
  const wanted = more.slice(1);
  const results = await runProbes({
    mount: first,
    source: second,
    scratch: directory.path,
    helper: await compileHelper(directory.path),
    traits: traitsOf(more[0]),
    probes: allProbes.filter((probe) => wanted.length === 0 || wanted.includes(probe.name)),
  });
  for (const { name, error, tookMs } of results) {
    const message = error === undefined ? 'ok' : `FAILS ${error.message.slice(0, 300)}`;
    process.stdout.write(`${name.padEnd(24)} ${tookMs.toFixed(0).padStart(6)} ms  ${message}\n`);
  }
  process.exitCode = results.some((result) => result.error !== undefined) ? 1 : 0;
} else {
  process.stderr.write('usage: run.ts prepare SOURCE KIND | probe MOUNT SOURCE KIND [PROBE...]\n');
  process.exitCode = 2;
}
