/** Which copies of a remote image go before its mount: no more than the limits need, the last copies last. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseCopies } from '../../src/daemon/image/copy-choice.ts';
import type { SpaceLimits } from '../../src/policy/release-policy.ts';

const imageBytes = 100;
/** `p5` is a part of 5 bytes, `w9` a whole copy, `own3` and `pinned4` what they say. */
type Row = `${'p' | 'w' | 'own' | 'pinned'}${number}`;

function chosen(
  words: readonly Row[],
  limits: SpaceLimits,
  freeBytes: number,
): { readonly gone: readonly Row[]; readonly isMinFreeOutOfReach: boolean } {
  const rows = words.map((word, id) => ({
    id,
    residentBytes: Number(/\d+$/.exec(word)?.[0]),
    complete: /^(w|own100)/.test(word),
    pinned: word.startsWith('pinned'),
  }));
  const allocatedBytes = rows.reduce((sum, { residentBytes }) => sum + residentBytes, 0);
  const id = words.findIndex((word) => word.startsWith('own'));
  const own = { id, sizeBytes: imageBytes };
  const { ids, isMinFreeOutOfReach } = chooseCopies(
    rows,
    { allocatedBytes, freeBytes },
    limits,
    own,
  );
  return { gone: ids.map((index) => words[index] as Row), isMinFreeOutOfReach };
}

for (const [what, words, limits, freeBytes, expected] of [
  ['without limits nothing goes', ['w100', 'p50', 'own50'], {}, 0, []],
  ['with room nothing goes', ['p4', 'own30'], { cacheSizeBytes: 60, minFreeBytes: 10 }, 10, []],
  ['a quarter of the limit is made free', ['p4', 'own42'], { cacheSizeBytes: 60 }, 0, ['p4']],
  ['parts go before this version', ['own50', 'p9'], { cacheSizeBytes: 67 }, 0, ['p9']],
  ['this version goes before whole ones', ['w90', 'own60'], { cacheSizeBytes: 120 }, 0, ['own60']],
  ['no room for what is all here', ['own100'], { cacheSizeBytes: 100 }, 0, []],
  ['no whole one goes for that', ['w100', 'own100'], { cacheSizeBytes: 200 }, 0, []],
  ['room for the rest is enough', ['w90', 'own95'], { cacheSizeBytes: 190 }, 0, []],
  ['more than the limit goes', ['own100'], { cacheSizeBytes: 99 }, 0, ['own100']],
  ['this version stays where it is no help', ['w90', 'own9'], { minFreeBytes: 60 }, 0, ['w90']],
  ['one whole one is enough', ['w90', 'w91', 'own0'], { minFreeBytes: 60 }, 0, ['w90']],
  ['the smaller one would not help', ['w9', 'w91', 'own9'], { minFreeBytes: 60 }, 0, ['w91']],
  [
    'as much as is missing goes',
    ['w30', 'w31', 'own3'],
    { minFreeBytes: 64 },
    0,
    ['own3', 'w30', 'w31'],
  ],
  ['what is pinned stays', ['pinned50', 'w20', 'own9'], { minFreeBytes: 25 }, 0, ['own9', 'w20']],
] as const satisfies readonly (readonly [
  string,
  readonly Row[],
  SpaceLimits,
  number,
  readonly Row[],
])[]) {
  test(`${what}: ${words.join(' ')}`, () => {
    assert.deepEqual(chosen(words, limits, freeBytes), {
      gone: expected,
      isMinFreeOutOfReach: false,
    });
  });
}

test('for a --min-free out of reach parts go, and no whole copy nor this version', () => {
  const words = ['w100', 'p5', 'w90', 'own60', 'pinned900'] as const;
  assert.deepEqual(chosen(words, { minFreeBytes: 1000 }, 500), {
    gone: ['p5'],
    isMinFreeOutOfReach: true,
  });
  // Within reach of --cache-size it is as always.
  assert.deepEqual(chosen(words.slice(0, 4), { minFreeBytes: 1000, cacheSizeBytes: 260 }, 500), {
    gone: ['p5', 'own60'],
    isMinFreeOutOfReach: true,
  });
});
