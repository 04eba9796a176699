/** All probes, and running them: over anything mounted, a few at a time, each failure with its name. */
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { CorpusWriter } from '../support/corpus.ts';
import { copyingProbes } from './copying.ts';
import { metadataProbes } from './metadata.ts';
import type { Probe, RemoteTraits } from './probe.ts';
import { programProbes } from './programs.ts';
import { readingProbes } from './reading.ts';

/** Every probe, each with its own directory in the source. */
export const allProbes: readonly Probe[] = [
  ...metadataProbes,
  ...readingProbes,
  ...copyingProbes,
  ...programProbes,
];

/** Traits of a native copy: it keeps everything, and can be written. */
export const copyTraits: RemoteTraits = {
  dotfiles: true,
  everyByte: true,
  executable: true,
  exactTimes: true,
  claimsBlocks: false,
  readOnly: false,
  stableChangeTime: true,
  tellsHoles: true,
};

/** A directory as remote: everything there is. */
export const directoryTraits: RemoteTraits = {
  ...copyTraits,
  claimsBlocks: true,
  readOnly: true,
};

/** A web server's listing: no dotfiles, whole seconds; executable through --file-mode. */
export const httpTraits: RemoteTraits = {
  ...directoryTraits,
  dotfiles: false,
  everyByte: false,
  exactTimes: false,
};

/** Makes the source: one directory for each probe (all probes, so that one source serves every mount). */
export async function prepareSource(
  root: string,
  traits: RemoteTraits,
  probes: readonly Probe[] = allProbes,
): Promise<void> {
  for (const probe of probes) {
    await probe.prepare(new CorpusWriter(path.join(root, probe.name)), traits);
  }
}

export interface ProbeRun {
  readonly mount: string;
  readonly source: string;
  /** Existing native directory; each probe gets a fresh one inside, removed after it. */
  readonly scratch: string;
  readonly helper: string;
  readonly traits: RemoteTraits;
  readonly probes?: readonly Probe[];
  /** Default 3. */
  readonly parallel?: number;
  /** Called before each probe, for mounts that must be made cold again. Default: nothing (own files are cold). */
  readonly coldMount?: (probe: Probe) => Promise<string>;
}

export interface ProbeResult {
  readonly name: string;
  readonly error: Error | undefined;
  readonly tookMs: number;
}

/** Runs the probes that apply; never throws for a failing probe. Results are in the probes' order. */
export async function runProbes(options: ProbeRun): Promise<ProbeResult[]> {
  const waiting = (options.probes ?? allProbes).filter(
    (probe) => probe.when === undefined || probe.when(options.traits),
  );
  const order = waiting.map((probe) => probe.name);
  const results = new Map<string, ProbeResult>();
  const worker = async (): Promise<void> => {
    for (let probe = waiting.shift(); probe !== undefined; probe = waiting.shift()) {
      results.set(probe.name, await runOne(probe, options));
    }
  };
  await Promise.all(Array.from({ length: options.parallel ?? 3 }, worker));
  return order.map((name) => results.get(name)).filter((result) => result !== undefined);
}

async function runOne(probe: Probe, options: ProbeRun): Promise<ProbeResult> {
  const startedMs = performance.now();
  const scratch = path.join(options.scratch, probe.name);
  mkdirSync(scratch, { recursive: true });
  let error: Error | undefined;
  try {
    const mount = (await options.coldMount?.(probe)) ?? options.mount;
    await probe.run({
      mount: path.join(mount, probe.name),
      source: path.join(options.source, probe.name),
      scratch,
      helper: options.helper,
      traits: options.traits,
    });
  } catch (thrown) {
    error = thrown instanceof Error ? thrown : new Error(String(thrown));
  }
  rmSync(scratch, { recursive: true, force: true });
  return { name: probe.name, error, tookMs: performance.now() - startedMs };
}
