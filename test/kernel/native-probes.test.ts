/**
 * Every probe over native trees: what programs read and what they leave after writing is what a native copy has. Each
 * probe has files of its own, so all of them meet cold files.
 */
import { chmod, mkdir } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { allProbes, directoryTraits, httpTraits, prepareSource, runProbes } from '../probes/all.ts';
import type { ProbeResult } from '../probes/all.ts';
import { compileHelper } from '../probes/probe.ts';
import type { Probe, RemoteTraits } from '../probes/probe.ts';
import { writingProbes } from '../probes/writing.ts';
import { AttachedTree, treeFilesystems } from '../support/attached-tree.ts';
import { startNginx } from '../support/servers.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { LoopFilesystemType, TemporaryDirectory } from '../support/temporary.ts';

const probes: readonly Probe[] = [...allProbes, ...writingProbes];
const onlyProbe = process.env['EBB_PROBE'];
/** Servers differ for the remote, not for the tree: one file system is enough. */
const webFilesystem: LoopFilesystemType = 'xfs';
const treeBytes = 8 * 1024 ** 3;

/** What a native tree shows of a remote with these traits: it can be written; holes only where there is no poison. */
function traitsOf(remote: RemoteTraits, type: LoopFilesystemType): RemoteTraits {
  return {
    ...remote,
    readOnly: false,
    claimsBlocks: type !== 'ext4',
    stableChangeTime: type === 'xfs',
    tellsHoles: type !== 'ext4',
  };
}

let directory: TemporaryDirectory;
let helper: string;
const sources = new Map<RemoteTraits, string>();

before(async () => {
  directory = await temporaryDirectory('native-probes');
  await chmod(directory.path, 0o755);
  helper = await compileHelper(directory.path);
  for (const [name, traits] of [
    ['directory', directoryTraits],
    ['http', httpTraits],
  ] as const) {
    const source = path.join(directory.path, name);
    await mkdir(source, { mode: 0o755 });
    await prepareSource(source, { ...traits, readOnly: false }, probes);
    sources.set(traits, source);
  }
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

for (const type of treeFilesystems) {
  describe(`a tree on ${type}`, () => {
    test('probes over a directory', async (context) => {
      const source = sources.get(directoryTraits) ?? '';
      await probeAll(context, type, { traits: directoryTraits, source, remote: source });
    });
    if (type !== webFilesystem) return;
    test('probes over nginx', async (context) => {
      const source = sources.get(httpTraits) ?? '';
      await using server = await startNginx({ root: source, autoindex: 'json' });
      await probeAll(context, type, { traits: httpTraits, source, remote: server.url });
    });
  });
}

interface Reporter {
  test(name: string, body: () => void): Promise<void>;
}

interface Origin {
  readonly traits: RemoteTraits;
  readonly source: string;
  readonly remote: string;
}

async function probeAll(
  context: Reporter,
  type: LoopFilesystemType,
  { traits, source, remote }: Origin,
): Promise<void> {
  const options = traits === httpTraits ? ['--file-mode', '0755', '--dir-mode', '0755'] : [];
  await using tree = await AttachedTree.attach({ type, remote, options, sizeBytes: treeBytes });
  const wanted = (all: readonly Probe[]): Probe[] =>
    all.filter(({ name }) => onlyProbe === undefined || name === onlyProbe);
  const results: ProbeResult[] = [];
  // What writing does depends on the file system: there it is compared with a native copy on the same one.
  for (const [where, which] of [
    [directory.path, allProbes],
    [tree.filesystem.path, writingProbes],
  ] as const) {
    const scratch = path.join(where, 'scratch');
    await mkdir(scratch, { recursive: true });
    results.push(
      ...(await runProbes({
        mount: tree.path,
        source,
        scratch,
        helper,
        traits: traitsOf(traits, type),
        probes: wanted(which),
      })),
    );
  }
  const failures = results.filter((result) => result.error !== undefined);
  const log = failures.length === 0 ? '' : await tree.logTail();
  for (const { name, error } of results) {
    await context.test(name, () => {
      if (error === undefined) return;
      throw new Error(`${error.message}\n--- daemon's log\n${log}`, { cause: error });
    });
  }
}
