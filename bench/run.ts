/**
 * Measures Ebb beside other tools on the same origin in one run:
 *
 *   node bench/run.ts [--quick] [--peers ebb,rclone] [--out FILE] [SCENARIO...]
 *
 * Prints each scenario's table; `--out FILE` writes them all with the machine, the date and the versions. What is
 * quoted is docs/benchmarks.md and the pages behind it, into which such tables go by hand.
 *
 * Needs root (mounting, dropping caches) and the Debian packages nginx-light, httpdirfs, rclone, gcc, libfuse3-dev,
 * pkg-config; for images e2fsprogs, fuse2fs, fuse3; for tree-build linux-source-6.1, make, bc, bison, flex, libelf-dev.
 * Samples of the peers alternate, so that a noisy minute hits all of them.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { temporaryDirectory } from '../test/support/temporary.ts';
import { dataScenarios } from './data.ts';
import { footprintScenarios } from './footprint.ts';
import { Reader } from './measure.ts';
import { handleScenarios } from './handles.ts';
import { metadataScenarios } from './metadata.ts';
import { nativeScenarios } from './native.ts';
import { startOrigin } from './origin.ts';
import { BenchImages } from './image-peer.ts';
import { imageScenarios } from './images.ts';
import { document, section } from './report.ts';
import type { ScenarioResult } from './report.ts';
import type { BenchContext, PeerName, Sample, Scenario } from './scenario.ts';

const scenarios: readonly Scenario<PeerName>[] = [
  ...dataScenarios,
  ...metadataScenarios,
  ...handleScenarios,
  ...footprintScenarios,
  ...nativeScenarios,
  ...imageScenarios,
];

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    peers: { type: 'string' },
    out: { type: 'string' },
  },
});

const failureCharactersMax = 300;

async function measure(
  context: BenchContext,
  scenario: Scenario<PeerName>,
): Promise<ScenarioResult> {
  const samples = new Map<PeerName, Sample[]>();
  const failures = new Map<PeerName, string>();
  const runs = options.quick ? 1 : scenario.runs;
  for (let run = 0; run < runs; run += 1) {
    for (const peer of scenario.peers) {
      if (failures.has(peer) || !wanted(peer)) continue;
      process.stderr.write(`${scenario.name} ${peer} ${run + 1}/${runs}\n`);
      try {
        samples.set(peer, [...(samples.get(peer) ?? []), await scenario.run(context, peer)]);
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        failures.set(peer, message.replaceAll(/\s+/g, ' ').slice(0, failureCharactersMax));
      }
    }
  }
  return { scenario, samples, failures };
}

function wanted(peer: PeerName): boolean {
  return options.peers === undefined || options.peers.split(',').includes(peer);
}

const chosen = scenarios.filter(
  ({ name }) => positionals.length === 0 || positionals.includes(name),
);
const unknown = positionals.filter((name) => !scenarios.some((each) => each.name === name));
if (unknown.length > 0) {
  const names = scenarios.map(({ name }) => name).join(', ');
  process.stderr.write(`unknown: ${unknown.join(', ')}; there are: ${names}\n`);
  process.exit(2);
}

await using directory = await temporaryDirectory('bench-tools');
const reader = await Reader.compile(directory.path);
await using origin = await startOrigin(options.quick);
await using images = new BenchImages(options.quick);
const results: ScenarioResult[] = [];
for (const scenario of chosen) {
  const result = await measure({ origin, images, reader, quick: options.quick }, scenario);
  results.push(result);
  process.stdout.write(`${section(result)}\n`);
  // After each scenario, so that a run that is cut short leaves what it has measured.
  if (options.out !== undefined) writeFileSync(options.out, document(results, options.quick));
}
