/** Two trees on one file system: each is told of the other's files, and neither waits for the other. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { AttachedTree } from '../support/attached-tree.ts';
import { CorpusWriter } from '../support/corpus.ts';
import { run } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const filesPerTree = 400;
const fileBytes = 3_000;
const rounds = 3;
const readMaxMs = 60_000;

test('two trees on one file system: all bytes of both, and nobody waits for ever', async () => {
  await using directory = await temporaryDirectory('native-neighbours');
  const source = path.join(directory.path, 'source');
  const writer = new CorpusWriter(source);
  for (let index = 0; index < filesPerTree; index += 1) writer.bytes(`f${index}`, fileBytes);
  await using tree = await AttachedTree.attach({ type: 'xfs', remote: source });
  const second = path.join(tree.filesystem.path, 'second');
  mkdirSync(second);
  const state = ['--state', path.join(directory.path, 'state')];
  await tree.ebbOk(['attach', ...state, second, source]);
  try {
    for (let round = 0; round < rounds; round += 1) {
      const compared = await Promise.all(
        [tree.path, second].map((place) =>
          run('diff', ['-r', source, place], { timeoutMs: readMaxMs }),
        ),
      );
      for (const { code, stdout, stderr, timedOut } of compared) {
        assert.equal(code, 0, `${timedOut} ${stdout.toString()}${stderr.toString()}`.slice(0, 2e3));
      }
      await Promise.all([tree.path, second].map((place) => tree.ebb(['release', place])));
    }
  } finally {
    await tree.ebb(['umount', '--lazy', second], { timeoutMs: 20_000 });
  }
});
