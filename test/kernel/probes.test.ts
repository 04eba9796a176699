/**
 * Every probe over every kind of remote and both ways of mounting. Each probe has files of its own, so all of them
 * meet cold files although they share one mount; a second round over the same mount then meets resident ones.
 */
import { chmod, mkdir } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { allProbes, directoryTraits, httpTraits, prepareSource, runProbes } from '../probes/all.ts';
import { compileHelper } from '../probes/probe.ts';
import { metadataProbes } from '../probes/metadata.ts';
import type { Probe, RemoteTraits } from '../probes/probe.ts';
import { mountEbb } from '../support/mount.ts';
import type { EbbMount } from '../support/mount.ts';
import { startApache, startNginx } from '../support/servers.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';

interface Origin {
  readonly name: string;
  /** Contents do not come in another way than from one of the others: through fusermount3 names and facts suffice. */
  readonly isLikeOthers?: boolean;
  readonly traits: RemoteTraits;
  /** Serves `root`; what it returns is mounted. */
  start(root: string): Promise<{ remote: string; stop: () => Promise<void> }>;
}

const origins: readonly Origin[] = [
  {
    name: 'nginx with HTML listings',
    traits: httpTraits,
    async start(root) {
      const server = await startNginx({ root });
      return { remote: server.url, stop: () => server.stop() };
    },
  },
  {
    name: 'nginx with JSON listings',
    isLikeOthers: true,
    traits: httpTraits,
    async start(root) {
      const server = await startNginx({ root, autoindex: 'json' });
      return { remote: server.url, stop: () => server.stop() };
    },
  },
  {
    name: 'Apache',
    isLikeOthers: true,
    traits: httpTraits,
    async start(root) {
      const server = await startApache({ root, indexOptions: 'NameWidth=* Charset=UTF-8' });
      return { remote: server.url, stop: () => server.stop() };
    },
  },
  {
    name: 'a directory',
    traits: directoryTraits,
    start: async (root) => ({ remote: root, stop: async () => {} }),
  },
];

const waysToMount: readonly { readonly name: string; readonly options: readonly string[] }[] = [
  { name: 'privileged, with passthrough', options: [] },
  { name: 'through fusermount3', options: ['--unprivileged'] },
];

const onlyProbe = process.env['EBB_PROBE'];

let directory: TemporaryDirectory;
let helper: string;
const sources = new Map<RemoteTraits, string>();

before(async () => {
  directory = await temporaryDirectory('probes');
  await chmod(directory.path, 0o755);
  helper = await compileHelper(directory.path);
  for (const [name, traits] of [
    ['http', httpTraits],
    ['directory', directoryTraits],
  ] as const) {
    const source = path.join(directory.path, name);
    await mkdir(source, { mode: 0o755 });
    await prepareSource(source, traits);
    sources.set(traits, source);
  }
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

for (const origin of origins) {
  for (const way of waysToMount) {
    describe(`${origin.name}, ${way.name}`, () => {
      let mount: EbbMount;
      let stop = async (): Promise<void> => {};
      before(async () => {
        const started = await origin.start(sources.get(origin.traits) ?? '');
        stop = started.stop;
        const options = [...way.options, ...(origin.traits === httpTraits ? httpOptions : [])];
        mount = await mountEbb({ remote: started.remote, options });
      });
      after(async () => {
        await mount?.[Symbol.asyncDispose]();
        await stop();
      });
      for (const round of ['cold', 'again']) {
        test(`probes, ${round}`, async (context) => {
          const probes =
            origin.isLikeOthers === true && way.options.length > 0 ? metadataProbes : allProbes;
          await probeAll(context, mount, { traits: origin.traits, round, probes });
        });
      }
    });
  }
}

const httpOptions = ['--file-mode', '0555'];
/** Probes worth a second round over resident files: those that may then be served another way (passthrough). */
const again = /^(call-|cp-default|exec-|sqlite|git|attributes|blocks|names)/;

interface Reporter {
  test(name: string, body: () => void): Promise<void>;
}

async function probeAll(
  context: Reporter,
  mount: EbbMount,
  { traits, round, probes }: { traits: RemoteTraits; round: string; probes: readonly Probe[] },
): Promise<void> {
  const scratch = path.join(directory.path, 'scratch');
  await mkdir(scratch, { recursive: true });
  const results = await runProbes({
    mount: mount.path,
    source: sources.get(traits) ?? '',
    scratch,
    helper,
    traits,
    probes: probes.filter(
      ({ name }) =>
        (onlyProbe === undefined || name === onlyProbe) && (round === 'cold' || again.test(name)),
    ),
  });
  const failures = results.filter((result) => result.error !== undefined);
  const log = failures.length === 0 ? '' : await mount.logTail();
  for (const { name, error } of results) {
    await context.test(name, () => {
      if (error === undefined) return;
      throw new Error(`${error.message}\n--- daemon's log\n${log}`, { cause: error });
    });
  }
  if (!mount.alive()) throw new Error('the daemon is gone');
}
