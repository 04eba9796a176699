/**
 * A tree is a plain directory: random things are done to files of an attached tree and to copies of them on the same
 * file system, while content is released and brought here, the remote gets new versions, the daemon is killed, and the
 * tree is stopped and attached again. Whatever a program sees must be the same on both sides.
 */
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { AttachedTree, treeFilesystems } from '../support/attached-tree.ts';
import { CorpusWriter, noise } from '../support/corpus.ts';
import { startModelActor } from '../support/model-actor.ts';
import type { Act } from '../support/model-actor.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

/** Per file system. */
const steps = Number(process.env['EBB_PROPERTY_STEPS'] ?? 150);
const seed = Number(process.env['EBB_SEED'] ?? 1);
const sizes = [0, 1, 5_000, 262_144, 700_001, 1_300_003, 5_000_017] as const;
const reading =
  'read read map-read size hold held-read let-go link all clone-out clone-all-out copy-out dedupe'.split(
    ' ',
  );
const writing = (
  'write append map-write copy-within empty empty-grow truncate ftruncate punch zero allocate collapse insert ' +
  'clone-in clone-all-in copy-in touch-read open-write'
).split(' ');
const attachedAgainMaxMs = 30_000;

function randomOf(name: string): (below: number) => number {
  const bytes = noise(name, steps * 64 + 4_096);
  let at = 0;
  return (below) => {
    at = (at + 4) % (bytes.length - 4);
    return bytes.readUInt32LE(at) % below;
  };
}

for (const type of treeFilesystems) {
  test(`${type}: ${steps} random steps over an attached tree and a plain directory`, async (context) => {
    await using directory = await temporaryDirectory('native-property');
    const source = path.join(directory.path, 'source');
    const corpus = new CorpusWriter(source);
    const names = sizes.flatMap((_size, index) => [`a${index}`, `b${index}`]);
    for (const [index, name] of names.entries()) corpus.bytes(name, sizes[index >> 1] ?? 0);
    await using tree = await AttachedTree.attach({ type, remote: source });
    const plain = path.join(tree.filesystem.path, 'plain');
    mkdirSync(plain);
    for (const name of names) copyFileSync(path.join(source, name), path.join(plain, name));
    using other = startModelActor('/');
    const random = randomOf(`native property ${type} ${seed}`);
    /** Nobody had these open for writing: a new version takes their place. */
    const untouched = new Set(names);
    const done: Record<string, number> = {};
    const both = (name: string, what: Act): Promise<string> =>
      other.does(path.join(tree.path, name), path.join(plain, name), what);
    const letGo = async (): Promise<void> => {
      for (const name of names) await both(name, ['let-go', 0, 0, 0]);
    };

    const special: Record<string, (name: string) => Promise<unknown>> = {
      release: () => tree.ebb(['release', tree.path]),
      get: (name) => tree.ebb(['get', path.join(tree.path, name)]),
      newVersion: async (name) => {
        if (!untouched.has(name)) return;
        await letGo();
        const bytes = noise(`${name} ${random(1_000_000)}`, random(800_000));
        for (const at of [source, plain]) {
          // Another inode, on both sides.
          writeFileSync(path.join(at, 'new'), bytes);
          renameSync(path.join(at, 'new'), path.join(at, name));
        }
        await tree.ebbOk(['refresh', tree.path]);
      },
      kill: async () => {
        const { pid } = await tree.status();
        process.kill(pid, 'SIGKILL');
        await waitFor(async () => (await tree.status()).pid !== pid, {
          what: 'another daemon',
          timeoutMs: attachedAgainMaxMs,
        });
      },
      again: async () => {
        await letGo();
        await tree.stop();
        await tree.attach();
      },
    };
    const kinds = Object.keys(special);

    for (let step = 0; step < steps; step += 1) {
      const name = names[random(names.length)] ?? '';
      const dice = random(100);
      const rare = dice < 12 ? 'release' : dice < 18 ? kinds[random(kinds.length)] : undefined;
      let act: Act = ['size', 0, 0, 0];
      if (rare === undefined) {
        const whats = dice < 75 ? reading : writing;
        const what = whats[random(whats.length)] ?? 'all';
        act = [what, random(1_400_000), random(300_000), random(200)];
        if (writing.includes(what) || (what === 'hold' && act[3] % 2 === 1)) untouched.delete(name);
      } else {
        await special[rare]?.(name);
      }
      const said = await both(name, act);
      const told = `step ${step} (seed ${seed}): ${rare ?? ''} ${act.join(' ')} of ${name}: ${said}`;
      if (!/^(same|refused)$/.test(said)) assert.fail(`${told}\n${await tree.logTail()}`);
      const key = rare ?? act[0];
      done[key] = (done[key] ?? 0) + 1;
    }
    await letGo();
    await tree.ebb(['release', tree.path]);
    for (const name of names) assert.equal(await both(name, ['all', 0, 0, 0]), 'same', name);
    context.diagnostic(`${type}: ${JSON.stringify(done)}`);
  });
}
