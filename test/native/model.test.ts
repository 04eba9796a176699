/**
 * A stub is a plain file: random things are done to both, by another process on the same file system, and whatever is
 * seen must be the same; between them the stub's content is released, recalled, and the remote fails.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { patternBytes } from '../support/pattern.ts';
import { startModelActor } from '../support/model-actor.ts';
import type { Act } from '../support/model-actor.ts';
import { nativeScene } from './native-scene.ts';

const KiB = 1024;
const sizes = [0, 1, 5000, 256 * KiB, 700_001, 1024 * KiB, 1_300_003] as const;

const harmless = ['read', 'map-read', 'size', 'open-write', 'hold', 'held-read', 'let-go'] as const;
const copying = ['clone-out', 'clone-all-out', 'copy-out', 'dedupe'] as const;
const renaming = ['link', 'rename'] as const;
const writing = (
  'write append map-write copy-within empty empty-grow truncate ftruncate punch zero allocate collapse insert ' +
  'clone-in clone-all-in copy-in touch-read'
).split(' ');

const place = fc.oneof(fc.nat(1_400_000), fc.constantFrom(0, 1, 4095, 4096, 262_144, 700_001));
const length = fc.oneof(fc.nat(9000), fc.nat(300_000));
const act = (whats: readonly string[]): fc.Arbitrary<Act> =>
  fc.tuple(fc.constantFrom(...whats), place, length, fc.nat(200));

const step = fc.oneof(
  { weight: 6, arbitrary: act(harmless) },
  { weight: 2, arbitrary: act(copying) },
  { weight: 2, arbitrary: act(renaming) },
  { weight: 3, arbitrary: act(writing) },
  { weight: 4, arbitrary: fc.constant<Act>(['release', 0, 0, 0]) },
  { weight: 1, arbitrary: fc.constant<Act>(['get', 0, 0, 0]) },
);

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(
    `${type}: a stub is a plain file, whatever is done to it`,
    { timeout: 600_000 },
    async () => {
      await using scene = await nativeScene(type);
      using other = startModelActor(scene.path);
      let runs = 0;
      let released = 0;
      await fc.assert(
        fc.asyncProperty(
          fc.constantFrom(...sizes),
          fc.array(step, { minLength: 3, maxLength: 25 }),
          async (sizeBytes, steps) => {
            runs += 1;
            const [stub, plain] = [`stub-${runs}`, `plain-${runs}`];
            const file = scene.add(stub, sizeBytes, { seed: runs });
            await scene.shellOk(`cat > ${plain}`, { input: patternBytes(runs, sizeBytes) });
            for (const one of [...steps, ['let-go', 0, 0, 0], ['all', 0, 0, 0]] as const) {
              const said = await doStep(one, stub, plain);
              assert.match(said, /^(same|refused)$/, `${one.join(' ')}: ${said}`);
            }
            await scene.shellOk(`rm ${stub} ${plain}`);

            async function doStep(one: Act, from: string, to: string): Promise<string> {
              if (one[0] === 'release') {
                if ((await scene.release(file)).released) released += 1;
              } else if (one[0] === 'get') {
                // As `ebb get`: of no use any more for a file that users have changed.
                await scene.engine
                  .ensure(file, 0, sizeBytes, { intent: 'get', requester: nobody })
                  .catch(() => undefined);
              } else {
                return await other.does(from, to, one);
              }
              return 'same';
            }
          },
        ),
        { numRuns: Number(process.env['MODEL_RUNS'] ?? 60), endOnFailure: true },
      );
      assert.ok(released > 20, `${released} releases`);
      assert.deepEqual(scene.problems, []);
    },
  );
}

const nobody = { pid: 0, uid: 0, gid: 0 };
