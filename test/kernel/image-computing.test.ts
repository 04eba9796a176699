/** A server that does not come back from computing, or cannot die: its mount ends, and nobody waits for it. Root. */
import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { serveImage } from '../../src/image/broker/serve.ts';
import { makeImage } from '../ext4/support/images.ts';
import { mountPointIn, ServerProcess } from '../fuse/server.ts';
import { descendantsOf } from '../support/processes.ts';
import { run } from '../support/run.ts';
import { mountsBelow, temporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

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

function isComputing(pid: number): boolean {
  return /computing-server.*stuck/s.test(readFileSync(`/proc/${pid}/cmdline`, 'latin1'));
}

test('a server that waits for a dead disk, and cannot be killed, keeps neither the mount nor its users', async () => {
  await using directory = await temporaryDirectory('stuck');
  await using disk = await ServerProcess.start({
    module: './pattern-filesystem.ts',
    mountPoint: await mountPointIn(directory),
  });
  const image = path.join(directory.path, 'mount/blocked');
  // From then on the kernel knows that nobody wants to hear of a close(2), for which this process would wait.
  closeSync(openSync(image, 'r'));
  const mountPoint = path.join(directory.path, 'image');
  await mkdir(mountPoint);
  const here = path.join(import.meta.dirname, '../image/sandbox');
  const mounted = await serveImage(
    { imagePath: image, mountPoint, native: false, allowOther: false },
    {
      script: path.join(here, 'computing-server.ts'),
      scripts: here,
      args: ['stuck'],
      output: 'ignore',
      computingMaxMs: 1000,
    },
  );
  await disk.event('message', 'blocked');
  disk.child.kill('SIGSTOP');
  // Of this process: others may run the same test.
  const pids = descendantsOf(process.pid).filter(isComputing).map(String);
  const isThere = (pid: string): boolean => existsSync(`/proc/${pid}`);
  const reader = run('ls', [mountPoint], { timeoutMs: 60_000 });
  assert.match((await mounted.ended) ?? '', /computes without reading anything/);
  assert.equal((await reader).timedOut, false);
  assert.deepEqual(await mountsBelow(mountPoint), []);
  assert.ok(pids.some(isThere), 'it lives on, as nobody can help');
  disk.child.kill('SIGKILL');
  await waitFor(() => !pids.some(isThere), { what: 'its end' });
});
