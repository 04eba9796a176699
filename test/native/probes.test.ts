/**
 * Every system call that reads or writes, over a served native tree with cold files: the same probes as over a mount.
 * (Programs: test/kernel, over a tree that a daemon serves.)
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { directoryTraits, prepareSource, runProbes } from '../probes/all.ts';
import { compileHelper } from '../probes/probe.ts';
import type { Probe } from '../probes/probe.ts';
import { readingProbes } from '../probes/reading.ts';
import { writingProbes } from '../probes/writing.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { nativeScene } from './native-scene.ts';
import type { NativeScene } from './native-scene.ts';

const traits = { ...directoryTraits, readOnly: false };

/** Programs look for holes by these; on trees without poison only those that are known to do so are helped. */
const holeCalls = new Set(['call-seek', 'call-fiemap']);
/** Compare with a native copy on another file system, which offers other calls. */
const unlike = new Set(
  'replace-by-cp collapse insert clone-range-into clone-range-out'
    .split(' ')
    .map((call) => `write-${call}`),
);
/** Whole programs, which take long. */
const programs = new Set([
  'write-git',
  'write-sqlite',
  'write-gcc',
  'write-edit',
  'write-rsync-into',
  'write-qemu-img',
  'write-exec-200m',
]);

const probes: readonly Probe[] = [...readingProbes, ...writingProbes].filter(
  ({ name }) => /^(call|write)-/.test(name) && !unlike.has(name) && !programs.has(name),
);

function applies(probe: Probe, scene: NativeScene): boolean {
  return scene.store.hasPoison || !holeCalls.has(probe.name);
}

let source: TemporaryDirectory;

before(async () => {
  source = await temporaryDirectory('probes');
  await prepareSource(source.path, traits, probes);
});

after(() => source[Symbol.asyncDispose]());

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`${type}: every call that reads or writes meets the source's bytes`, async () => {
    await using scene = await nativeScene(type);
    scene.addTree(source.path);
    const results = await runProbes({
      mount: scene.path,
      source: source.path,
      scratch: scene.scratch,
      helper: await compileHelper(scene.scratch),
      traits,
      probes: probes.filter((probe) => applies(probe, scene)),
    });
    const failed = results.filter(({ error }) => error !== undefined);
    assert.deepEqual(
      failed.map(({ name, error }) => `${name}: ${error?.message}`),
      [],
    );
    assert.deepEqual(scene.problems, []);
  });
}
