/** Attaching that fails when users can see the tree already: it is taken away before its guard goes. */
import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { runDirectory, runFiles } from '../../src/base/run-directory.ts';
import { AttachedTree } from '../support/attached-tree.ts';
import { CorpusWriter } from '../support/corpus.ts';
import { run } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const attachMaxMs = 120_000;

test('a tree whose record cannot be written is not shown, and its supervisor is gone', async () => {
  await using directory = await temporaryDirectory('native-late-failure');
  const source = path.join(directory.path, 'source');
  new CorpusWriter(source).bytes('file', 5);
  let place = '';
  const expected = new Error('as it is meant');
  const attaching = AttachedTree.attach({
    type: 'xfs',
    remote: source,
    prepare: async (tree) => {
      place = tree;
    },
    async start([command = '', ...parameters], env) {
      await mkdir(path.join(runFiles(place, runDirectory(env)).record, 'in-the-way'), {
        recursive: true,
      });
      const attached = await run(command, parameters, { env, timeoutMs: attachMaxMs });
      assert.equal(attached.code, 1, attached.stdout.toString());
      assert.match(attached.stderr.toString(), /EISDIR|directory/i);
      const mounts = await readFile('/proc/self/mountinfo', 'utf8');
      assert.ok(!mounts.includes(` ${place} `), 'the tree is not shown');
      throw expected;
    },
  });
  await assert.rejects(attaching, expected);
});
