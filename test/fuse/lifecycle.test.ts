/**
 * How requests, servers and mounts end: interrupted, stopped, aborted, unmounted, killed. Needs
 * root.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { patience } from '../support/patience.ts';
import { run, runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';
import { mountPointIn, ServerProcess, stateOf } from './server.ts';

const timeoutMs = 60_000;
/** Nothing here ends by itself: what hangs is a test that takes too long. */
const limits = { timeout: patience * 3 * timeoutMs };
const module = './pattern-filesystem.ts';

test('an interrupted reader goes on: INTERRUPT, EINTR', limits, async () => {
  await using directory = await temporaryDirectory('fuse');
  const mountPoint = await mountPointIn(directory);
  await using server = await ServerProcess.start({ module, mountPoint, threads: 2 });
  for (const signal of ['SIGINT', 'SIGKILL'] as const) {
    const before = server.events.length;
    const said = (what: string) => (): boolean =>
      server.events.slice(before).some(({ message }) => message === what);
    const reader = spawn('cat', [path.join(mountPoint, 'blocked')], { stdio: 'ignore' });
    await waitFor(said('blocked'), { what: 'the READ' });
    const ended = once(reader, 'exit', { signal: AbortSignal.timeout(patience * timeoutMs) });
    reader.kill(signal);
    assert.equal((await ended)[1], signal);
    await waitFor(said('interrupted true'), { what: 'the EINTR to be taken' });
  }
});

test('abort frees a blocked reader and ends the loop', limits, async () => {
  await using directory = await temporaryDirectory('fuse');
  const mountPoint = await mountPointIn(directory);
  await using server = await ServerProcess.start({ module, mountPoint });
  const reader = spawn('cat', [path.join(mountPoint, 'blocked')], { stdio: 'ignore' });
  const ended = once(reader, 'exit', { signal: AbortSignal.timeout(patience * timeoutMs) });
  await server.event('message', 'blocked');
  assert.notEqual((await run('umount', [mountPoint], { timeoutMs })).code, 0, 'it is busy');
  server.send('abort');
  assert.match(String((await server.event('ended')).end), /aborted|unmounted/);
  assert.equal(await server.exit(), 0);
  assert.equal((await ended)[0], 1, 'the reader failed');
});

test('umount ends threads that wait', limits, async () => {
  await using directory = await temporaryDirectory('fuse');
  const mountPoint = await mountPointIn(directory);
  await using server = await ServerProcess.start({ module, mountPoint, threads: 3 });
  await runOk('umount', [mountPoint], { timeoutMs });
  assert.equal(await server.exit(), 0);
  assert.equal((await server.event('ended')).end, 'unmounted');
});

test('stop ends the threads; process.exit does not hang on them', limits, async () => {
  await using directory = await temporaryDirectory('fuse');
  const mountPoint = await mountPointIn(directory);
  {
    await using server = await ServerProcess.start({ module, mountPoint, threads: 2 });
    server.send('stop');
    assert.equal((await server.event('ended')).end, 'stopped');
    assert.equal(await server.exit(), 0);
  }
  await using server = await ServerProcess.start({ module, mountPoint, threads: 2 });
  server.send('exit');
  assert.equal(await server.exit(), 7);
});

test('kill -9 of the server: ENOTCONN, and the mount can be taken away', limits, async () => {
  await using directory = await temporaryDirectory('fuse');
  const mountPoint = await mountPointIn(directory);
  await using server = await ServerProcess.start({ module: './memory-filesystem.ts', mountPoint });
  await writeFile(path.join(mountPoint, 'file'), 'x');
  server.child.kill('SIGKILL');
  assert.equal(await server.exit(), 'SIGKILL');
  await assert.rejects(readFile(path.join(mountPoint, 'file')), { code: 'ENOTCONN' });
  await runOk('umount', [mountPoint], { timeoutMs });
  assert.equal(await stateOf(mountPoint), '');
});

test('a module that cannot be loaded is an error, not a hanging mount', limits, async () => {
  await using directory = await temporaryDirectory('fuse');
  const mountPoint = await mountPointIn(directory);
  const starting = ServerProcess.start({ module: './no-such-module.ts', mountPoint });
  await assert.rejects(starting, /no-such-module/);
});
