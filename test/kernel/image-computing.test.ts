/** A server that does not come back from computing: its mount ends, so that nobody waits for it. Needs root. */
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { serveImage } from '../../src/image/broker/serve.ts';
import { makeImage } from '../ext4/support/images.ts';
import { run } from '../support/run.ts';
import { mountsBelow, temporaryDirectory } from '../support/temporary.ts';

const computingMaxMs = 300;

for (const [how, args, said] of [
  ['reads nothing any more', [], /computes without reading anything/],
  // For long enough to be taken for the other one.
  ['reads meanwhile', ['reads', String(5 * computingMaxMs)], /nonsense/],
] as const) {
  test(`a server that computes and ${how}: ${said.source}, and nobody waits for it`, async () => {
    await using directory = await temporaryDirectory('computing');
    const image = await makeImage(directory.path, ['-t', 'ext4'], 8 << 20);
    const mountPoint = path.join(directory.path, 'mount');
    await mkdir(mountPoint);
    const here = path.join(import.meta.dirname, '../image/sandbox');
    const mounted = await serveImage(
      { imagePath: image, mountPoint, native: false, allowOther: false },
      {
        script: path.join(here, 'computing-server.ts'),
        scripts: here,
        args,
        output: 'ignore',
        computingMaxMs,
      },
    );
    const reader = run('ls', [mountPoint], { timeoutMs: 60_000 });
    assert.match((await mounted.ended) ?? '', said);
    const { timedOut } = await reader;
    assert.equal(timedOut, false);
    assert.deepEqual(await mountsBelow(mountPoint), []);
  });
}
