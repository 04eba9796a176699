/**
 * What still works when somebody is gone: the daemon (killed, asked to end) or the remote (at the next mount). The
 * sentences of docs/semantics.md that no storm of kills shows one by one.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { compileHelper } from '../probes/probe.ts';
import { CorpusWriter, mebibyte } from '../support/corpus.ts';
import { ServingHammer } from '../support/hammer.ts';
import { startLyingOriginProcess } from '../support/lying-origin.ts';
import { mountEbb, withEbb } from '../support/mount.ts';
import { run, runOk } from '../support/run.ts';
import { mountsBelow, temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const sizeBytes = 6 * mebibyte + 11;
/** ENOTCONN: nobody serves; ECONNABORTED: it ended while the request waited. */
const notConnected = /^errno (107|103)$/;

let directory: TemporaryDirectory;
let source: string;
let helper: string;

before(async () => {
  directory = await temporaryDirectory('dead');
  source = path.join(directory.path, 'source');
  const writer = new CorpusWriter(source);
  writer.bytes('here.bin', sizeBytes);
  writer.bytes('there.bin', sizeBytes);
  writer.bytes('sub/deep.bin', sizeBytes);
  helper = await compileHelper(directory.path, 'hammer');
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

/** An `open` command of the hammer for a file of the mount and its source. */
function open(handle: number, mountPoint: string, name: string): string {
  return `open ${handle} ${path.join(mountPoint, name)} ${path.join(source, name)}`;
}

test('a resident file that is open outlives daemon and supervisor; everything else is ENOTCONN', async () => {
  await using mount = await mountEbb({ remote: source });
  const got = await mount.ebb(['get', path.join(mount.path, 'here.bin')]);
  assert.equal(got.code, 0, got.stderr.toString());
  using hammer = new ServingHammer(helper);
  assert.equal(await hammer.ask(open(0, mount.path, 'here.bin')), 'ok 0');
  assert.equal(await hammer.ask(open(1, mount.path, 'there.bin')), 'ok 0');
  assert.equal(await hammer.ask('pread 1 0 4096'), 'ok 4096');
  await mount.killAll();
  for (const [offset, length] of [
    [0, 4 * mebibyte],
    [sizeBytes - mebibyte, mebibyte],
  ]) {
    assert.equal(await hammer.ask(`pread 0 ${offset} ${length}`), `ok ${length}`);
  }
  assert.match(await hammer.ask(`mmap 0 ${4 * mebibyte} 5000`), /^ok/);
  assert.match(await hammer.ask(`pread 1 ${sizeBytes - 5000} 5000`), notConnected);
  assert.match(await hammer.ask(open(2, mount.path, 'here.bin')), notConnected);
});

test('SIGTERM unmounts and ends the daemon', async () => {
  await using mount = await mountEbb({ remote: source });
  process.kill(mount.pid, 'SIGTERM');
  await waitFor(() => mount.over(), { what: 'the daemon to end', timeoutMs: 10_000 });
  assert.deepEqual(await mountsBelow(mount.path), []);
  await mount.remount();
  await runOk('cmp', [path.join(mount.path, 'here.bin'), path.join(source, 'here.bin')]);
});

test('a known remote that is down can be mounted: names and what is here, the rest is an error', async () => {
  await using origin = await startLyingOriginProcess({ root: source });
  // Refused at once; the deadline is for what a busy machine reads before and afterwards.
  const options = ['--deadline', '20s', '--retries', '0', '--ttl', '0'];
  await withEbb({ remote: origin.url, options }, async (mount) => {
    const at = (name: string): string => path.join(mount.path, name);
    await runOk('cmp', [at('here.bin'), path.join(source, 'here.bin')]);
    await runOk('stat', [at('there.bin')]);
    await mount.unmount();
    await origin.stopListening();
    await mount.remount();
    const listed = await runOk('ls', [mount.path]);
    assert.equal(listed.stdout.toString(), 'here.bin\nsub\nthere.bin\n');
    await runOk('cmp', [at('here.bin'), path.join(source, 'here.bin')]);
    assert.notEqual((await run('cat', [at('there.bin')])).code, 0, 'bytes out of nowhere');
    assert.notEqual((await run('ls', [at('sub')])).code, 0, 'a listing out of nowhere');
    assert.equal((await mount.status()).remoteReachable, false);
    await origin.listenAgain();
    const right = async (): Promise<boolean> =>
      (await run('cmp', [at('there.bin'), path.join(source, 'there.bin')])).code === 0;
    await waitFor(right, { what: 'the file to be right', timeoutMs: 20_000, intervalMs: 250 });
  });
});

test('a remote that was never listed and is down is refused', async () => {
  const origin = await startLyingOriginProcess({ root: source });
  await using _ = origin;
  await origin.stopListening();
  const options = { remote: origin.url, options: ['--retries', '0'] };
  await assert.rejects(mountEbb(options), /refused/);
  const mountInfo = await readFile('/proc/self/mountinfo', 'utf8');
  assert.ok(!mountInfo.includes(origin.url.replace(/\/$/, '')), 'something is mounted');
});
