/**
 * File systems mounted for real, served by one process and used by others. Needs root, fuse3 and
 * attr.
 */
import assert from 'node:assert/strict';
import { chown, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { patience } from '../support/patience.ts';
import { run, runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { deferredText, patternByte, patternSizeBytes } from './pattern-filesystem.ts';
import { mountPointIn, ServerProcess, stateOf } from './server.ts';

const nobody = 65534;
const timeoutMs = 60_000;
const limits = { timeout: patience * 3 * timeoutMs };

function pattern(): Buffer {
  return Buffer.from(Uint8Array.from({ length: patternSizeBytes }, (_, at) => patternByte(at)));
}

test('POSIX basics on a privileged mount', limits, async () => {
  await using directory = await temporaryDirectory('fuse');
  const mountPoint = await mountPointIn(directory);
  await using server = await ServerProcess.start({
    module: './memory-filesystem.ts',
    mountPoint,
    options: { exportSupport: true },
  });
  assert.match(
    await stateOf(mountPoint),
    / rw,nosuid,nodev,.* fuse\.ebbtest test,fs .*default_perm/,
  );
  const script = path.join(import.meta.dirname, 'posix-basics.ts');
  await runOk(process.execPath, [script, mountPoint], { timeoutMs });
  server.send('unmount');
  await server.event('unmounted');
  assert.equal((await server.event('ended')).end, 'unmounted');
  assert.equal(await server.exit(), 0);
  assert.deepEqual(
    server.events.filter(({ event }) => event === 'problem'),
    [],
  );
  assert.equal(await stateOf(mountPoint), '');
});

test('RENAME_EXCHANGE and RENAME_NOREPLACE', limits, async () => {
  await using directory = await temporaryDirectory('fuse');
  const mountPoint = await mountPointIn(directory);
  await using server = await ServerProcess.start({ module: './memory-filesystem.ts', mountPoint });
  assert.ok(server.connectionNumber > 0);
  const at = (name: string): string => path.join(mountPoint, name);
  await writeFile(at('a'), 'first');
  await mkdir(at('b'));
  const systemCall = process.arch === 'arm64' ? 276 : 316;
  const script = `exit(syscall(${systemCall}, -100, $ARGV[0], -100, $ARGV[1], $ARGV[2] + 0) != 0)`;
  const rename = async (from: string, to: string, flags: number): Promise<number | null> =>
    (await run('perl', ['-e', script, at(from), at(to), String(flags)], { timeoutMs })).code;
  assert.equal(await rename('a', 'b', 2), 0, 'RENAME_EXCHANGE');
  assert.ok((await stat(at('a'))).isDirectory());
  assert.equal(await readFile(at('b'), 'utf8'), 'first');
  assert.notEqual(await rename('a', 'missing', 2), 0);
  assert.notEqual(await rename('b', 'a', 1), 0, 'RENAME_NOREPLACE');
  assert.equal(await rename('b', 'c', 1), 0);
  assert.equal(await readFile(at('c'), 'utf8'), 'first');
});

test('POSIX basics for a user without privileges, through fusermount3', limits, async () => {
  await using directory = await temporaryDirectory('fuse');
  const mountPoint = await mountPointIn(directory);
  await runOk('chmod', ['0755', directory.path], { timeoutMs });
  await chown(mountPoint, nobody, nobody);
  const request = { module: './memory-filesystem.ts', mountPoint, unprivileged: true };
  await using server = await ServerProcess.start(request, nobody);
  const shown = await stateOf(mountPoint, server.child.pid);
  assert.match(shown, /rw,nosuid,nodev,.* fuse\.ebbtest test,fs .*user_id=65534/);
  const script = path.join(import.meta.dirname, 'posix-basics.ts');
  await runOk('nsenter', [...server.inside, process.execPath, script, mountPoint], { timeoutMs });
  const asRoot = await run('nsenter', [...server.inside.slice(0, 2), 'stat', mountPoint], {
    timeoutMs,
  });
  assert.match(asRoot.stderr.toString(), /Permission denied/, 'even root may not enter');
  server.send('unmount');
  await server.event('unmounted');
  assert.equal(await server.exit(), 0);
});

test('what fusermount3 says is passed on', limits, async () => {
  await using directory = await temporaryDirectory('fuse');
  const mountPoint = await mountPointIn(directory);
  await runOk('chmod', ['0755', directory.path], { timeoutMs });
  const request = { module: './memory-filesystem.ts', mountPoint, unprivileged: true };
  const starting = ServerProcess.start(request, nobody);
  await assert.rejects(starting, /fusermount3: user has no write access to mountpoint/);
});

test('several threads serve concurrent readers, every byte is right', limits, async () => {
  await using directory = await temporaryDirectory('fuse');
  const mountPoint = await mountPointIn(directory);
  await writeFile(path.join(directory.path, 'expected'), pattern());
  await using server = await ServerProcess.start({
    module: './pattern-filesystem.ts',
    mountPoint,
    threads: 3,
  });
  const compare = (): Promise<unknown> =>
    runOk('cmp', [path.join(mountPoint, 'pattern'), path.join(directory.path, 'expected')], {
      timeoutMs,
    });
  await Promise.all(Array.from({ length: 6 }, compare));
  server.send('unmount');
  await server.event('unmounted');
  assert.equal(await server.exit(), 0);
});

test(
  'the main thread answers what was deferred to it, and messages reach the file system',
  limits,
  async () => {
    await using directory = await temporaryDirectory('fuse');
    const mountPoint = await mountPointIn(directory);
    await using server = await ServerProcess.start({
      module: './pattern-filesystem.ts',
      mountPoint,
    });
    assert.equal(await readFile(path.join(mountPoint, 'deferred'), 'utf8'), deferredText);
    assert.equal((await server.event('deferred')).taken, true);
    server.send('hello');
    await server.event('message', 'echo hello');
  },
);

test('content from a file: through the server and through the kernel alone', limits, async () => {
  await using directory = await temporaryDirectory('fuse');
  const mountPoint = await mountPointIn(directory);
  const backingPath = path.join(directory.path, 'backing');
  await writeFile(backingPath, pattern());
  await using server = await ServerProcess.start({
    module: './pattern-filesystem.ts',
    mountPoint,
    workerData: { backingPath },
    options: { passthrough: true },
  });
  const flags = (await server.event('connected')).flags as string[];
  assert.ok(flags.includes('PASSTHROUGH'), 'this kernel offers passthrough (Linux 6.9)');
  const expected = pattern();
  assert.ok(expected.equals(await readFile(path.join(mountPoint, 'backed'))));
  assert.ok(expected.equals(await readFile(path.join(mountPoint, 'passthrough'))));
  // The kernel asks the server no more: what is changed below is seen at once.
  await runOk('truncate', ['--size=0', backingPath], { timeoutMs });
  assert.equal((await readFile(path.join(mountPoint, 'passthrough'))).length, 0);
});
