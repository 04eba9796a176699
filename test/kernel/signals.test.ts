/** Programs that get signals while they wait for the remote: timers end no wait, and who is killed is gone at once. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { freshSources, mebibyte } from '../support/corpus.ts';
import { startLyingOriginProcess } from '../support/lying-origin.ts';
import { withEbb } from '../support/mount.ts';
import { patience } from '../support/patience.ts';
import { killAtExit, run, runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';
import { compileHelper } from '../probes/probe.ts';

/** Many times what the timer of the helper takes. */
const latencyMs = 400;
const offset = 5 * mebibyte + 77;
let directory: TemporaryDirectory;
let helper: string;

before(async () => {
  directory = await temporaryDirectory('signals');
  helper = await compileHelper(directory.path, 'alarmed');
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

const freshSource = freshSources(() => directory.path);

test('a timer that is faster than the remote ends no call, and no page fault', async () => {
  const source = freshSource();
  for (const name of ['stat', 'map']) source.bytes(name, 8 * mebibyte);
  source.text('list/file', 'text');
  await using origin = await startLyingOriginProcess({ root: source.root });
  await withEbb({ remote: origin.url }, async (mount) => {
    await runOk('ls', [mount.path]);
    await origin.addRule({ match: {}, fault: { kind: 'latency', latencyMs } });
    const uses = ['stat', 'list', 'map'].map(async (name) => {
      const place = path.join(mount.path, name);
      const { code, stdout } = await run(helper, [name, place, String(offset)], {
        timeoutMs: 60_000,
      });
      assert.equal(code, 0, `${name}: ${stdout.toString()}`);
      const isRead = name === 'map';
      const expected = isRead ? readFileSync(path.join(source.root, name)) : Buffer.alloc(0);
      assert.deepEqual(stdout, expected.subarray(offset, offset + 1), name);
    });
    await Promise.all(uses);
  });
});

test('who is killed after a signal that was survived is gone at once', async () => {
  const source = freshSource();
  for (const name of ['stat', 'map']) source.bytes(name, 8 * mebibyte);
  await using origin = await startLyingOriginProcess({ root: source.root });
  await withEbb({ remote: origin.url, options: ['--deadline', '1h'] }, async (mount) => {
    await runOk('ls', ['-l', path.join(mount.path, 'map')]);
    await origin.clearLog();
    await origin.addRule({ match: {}, fault: { kind: 'stallHeaders' } });
    for (const name of ['stat', 'map']) {
      const child = spawn(helper, [name, path.join(mount.path, name), String(offset)]);
      killAtExit(child);
      const asked = async (): Promise<boolean> =>
        (await origin.log()).some((one) => one.path === `/${name}`);
      await waitFor(asked, { what: 'the request' });
      // Uninterruptible: the signal was noticed, and the kernel waits for the answer.
      const state = (): string => readFileSync(`/proc/${child.pid}/stat`, 'latin1');
      await waitFor(() => / D /.test(state()), { what: 'a signal' });
      child.kill('SIGKILL');
      const [, signal] = (await once(child, 'exit', {
        signal: AbortSignal.timeout(patience * 20_000),
      })) as [number | null, string | null];
      assert.equal(signal, 'SIGKILL');
    }
  });
});
