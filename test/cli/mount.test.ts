/** `ebb mount` before and around the daemon, which is a stub here: checks, options, secrets, failures. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { runFiles } from '../../src/base/run-directory.ts';
import type { MountOptions } from '../../src/daemon/start-api.ts';
import { killAtExit } from '../support/run.ts';
import { ebb, gib, scratch, scriptedDaemon } from './support.ts';
import type { CliResult } from './support.ts';

const launcher = path.join(import.meta.dirname, '../../ebb');
const stub = path.join(import.meta.dirname, 'stubs/daemon.ts');

function mount(directory: string, words: readonly string[]): Promise<CliResult> {
  return ebb(['mount', ...words], {
    runDirectory: path.join(directory, 'run'),
    env: { EBB_DAEMON_MAIN: stub },
  });
}

function logOf(directory: string, mountPoint: string): string {
  return readFileSync(runFiles(mountPoint, path.join(directory, 'run')).log, 'utf8');
}

test('mounted: one line, and the options arrive as numbers', async () => {
  using temporary = scratch();
  const point = path.join(temporary.path, 'it is');
  const secret = path.join(temporary.path, 'secret');
  mkdirSync(point);
  writeFileSync(secret, 'pass word\nsecond\n');
  const words =
    `--cache-dir ${temporary.path}/cache --cache-size 20G --min-free 5% --ttl 5m ` +
    `--file-mode 0640 --user ann --password-file ${secret} --no-passthrough --no-standby ` +
    '-o allow_other,deadline=90s,ro,nofail --connections 4 --header X-B:';
  const { code, stdout, stderr } = await mount(temporary.path, [
    'http://stub/ok',
    point,
    '--header',
    'X-A: b: c ',
    ...words.split(' '),
  ]);
  assert.equal(stderr, '');
  assert.equal(code, 0);
  assert.equal(
    stdout,
    `Mounted http://stub/ at ${point}: 2 files, 1 directory known; unmount with: ebb umount '${point}'\n`,
  );
  const got = JSON.parse(logOf(temporary.path, point)) as { options: MountOptions; argv: string[] };
  const { minFreeBytes = 0, ...options } = got.options;
  assert.deepEqual(options, {
    remote: 'http://stub/ok',
    mountPoint: point,
    cacheDirectory: `${temporary.path}/cache`,
    cacheSizeBytes: 20 * gib,
    ttlMs: 300_000,
    fileMode: 0o640,
    user: 'ann',
    password: 'pass word',
    headers: { 'X-A': 'b: c', 'X-B': '' },
    deadlineMs: 90_000,
    connections: 4,
    passthrough: false,
    standby: false,
    allowOther: true,
  });
  assert.ok(minFreeBytes > 0);
  assert.deepEqual(got.argv, []);
  assert.equal(statSync(runFiles(point, `${temporary.path}/run`).log).mode & 0o777, 0o600);
});

test('options that take something away arrive, too', async () => {
  using temporary = scratch();
  const point = path.join(temporary.path, 'mnt');
  mkdirSync(point);
  const words = ['--proxy', '', '--no-allow-other', '-o', 'noexec,nosuid', 'http://stub/ok', point];
  const { code, stderr } = await mount(temporary.path, words);
  assert.equal(code, 0, stderr);
  const { options } = JSON.parse(logOf(temporary.path, point)) as { options: MountOptions };
  const { proxy, allowOther, noExec } = options;
  assert.deepEqual({ proxy, allowOther, noExec }, { proxy: '', allowOther: false, noExec: true });
});

test('the daemon says no, or dies', async () => {
  using temporary = scratch();
  const point = path.join(temporary.path, 'mnt');
  mkdirSync(point);
  const refused = await mount(temporary.path, ['http://stub/refuses', point]);
  assert.equal(refused.code, 3);
  assert.equal(refused.stderr, 'ebb mount: no such server\n');
  const died = await mount(temporary.path, ['http://stub/dies', point]);
  assert.equal(died.code, 1);
  assert.match(
    died.stderr,
    /^ebb mount: the daemon ended \(exit code 7\) .*\n    first line\n    last words\n$/,
  );
  const json = await mount(temporary.path, ['--json', 'http://stub/ok', point]);
  assert.equal((JSON.parse(json.stdout) as { ok: boolean }).ok, true);
  const front = await mount(temporary.path, ['-f', 'http://stub/ok', point]);
  assert.equal(front.code, 0);
  assert.match(front.stderr, /"foreground":true/);
});

test('a terminal that hangs up ends what is in the foreground', async () => {
  using temporary = scratch();
  const point = path.join(temporary.path, 'point');
  mkdirSync(point);
  const runDirectory = path.join(temporary.path, 'run');
  mkdirSync(runDirectory, { mode: 0o700 });
  const child = spawn(launcher, ['mount', '-f', 'http://stub/waits', point], {
    env: { ...process.env, EBB_RUN_DIR: runDirectory, EBB_DAEMON_MAIN: stub },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  killAtExit(child);
  const ended = once(child, 'exit');
  await once(child.stdout, 'data');
  child.kill('SIGHUP');
  assert.deepEqual(await ended, [0, null]);
});

test('what is wrong is said before anything is started', async () => {
  await using daemon = await scriptedDaemon();
  const directory = path.dirname(daemon.mountPoint);
  mkdirSync(daemon.mountPoint);
  mkdirSync(`${directory}/remote/below`, { recursive: true });
  mkdirSync(`${directory}/other`);
  symlinkSync(`${directory}/remote`, `${directory}/link`);
  writeFileSync(`${directory}/file`, '');
  const cases: [string[], number, RegExp][] = [
    [['http://h/', `${directory}/none`], 1, /does not exist; create it with: mkdir -p /],
    [['http://h/', `${directory}/file`], 1, /is not a directory/],
    [['http://h/', daemon.mountPoint], 1, /is mounted already; take it away with: ebb umount/],
    [[`${directory}/none`, `${directory}/remote`], 1, /remote directory .* does not exist/],
    [['example.org/pub', `${directory}/remote`], 1, /did you mean https:\/\/example\.org\/pub \?/],
    [[`${directory}/remote`, `${directory}/remote/below`], 2, /lie within each other/],
    [[`${directory}/remote/below`, `${directory}/remote`], 2, /lie within each other/],
    [
      ['http://h/', `${directory}/remote/below`, '--cache-dir', `${directory}/remote/below/c`],
      2,
      /the cache .* and the mount point .* lie within each other/,
    ],
    [
      ['http://h/', `${directory}/remote/below`, '--cache-dir', `${directory}/link/below/c`],
      2,
      /the cache .*link\/below\/c and the mount point .* lie within each other/,
    ],
    [
      ['http://h/', `${directory}/remote/below`, '--cache-dir', `${directory}/remote`],
      2,
      /the cache .* and the mount point .* lie within each other/,
    ],
    [
      [`${directory}/remote`, `${directory}/other`, '--cache-dir', `${directory}/link/c`],
      2,
      /the cache .* and the remote .* lie within each other/,
    ],
    [
      [`${directory}/remote/below`, `${directory}/other`, '--cache-dir', `${directory}/remote`],
      2,
      /the cache .* and the remote .* lie within each other/,
    ],
    [['/var', `${directory}/other`], 2, /the cache \/var\/cache\/ebb and the remote \/var lie/],
    [['file:///%ff', `${directory}/other`], 2, /should look like file:\/\/\/srv\/pub/],
    [['file://%', `${directory}/other`], 2, /should look like file:\/\/\/srv\/pub/],
    [['http://h/', `${directory}/remote/below`, '--header', 'no colon'], 2, /--header wants/],
    [['http://h/', `${directory}/remote/below`, '--header', 'A: b\nC: d'], 2, /--header wants/],
    [
      ['http://h/', `${directory}/remote/below`, '--deadline', '0'],
      2,
      /--deadline must be more than 0/,
    ],
    [['http://h/', `${directory}/remote/below`, '--password-file', '/x'], 2, /needs --user/],
    [['http://h/', `${directory}/remote/below`, '--client-key', '/x'], 2, /go together/],
    [
      ['http://h/', `${directory}/remote/below`, '--ca-file', '/none'],
      1,
      /Cannot read the file of --ca-file/,
    ],
    [
      ['http://h/', `${directory}/remote/below`, '-o', 'cachesize=1G'],
      2,
      /unknown option '--cachesize=?/,
    ],
  ];
  for (const [words, expected, sentence] of cases) {
    const { code, stdout, stderr } = await mount(directory, words);
    assert.equal(code, expected, `${words.join(' ')}: ${stderr}`);
    assert.match(stderr, sentence);
    assert.equal(stdout, '');
    const sentences = stderr
      .split('\n')
      .slice(0, -1)
      .filter((line) => !line.includes('note:'));
    assert.equal(sentences.length, 1);
  }
});

test('a secret of the URL is never shown by the CLI', async () => {
  using temporary = scratch();
  const { stderr } = await mount(temporary.path, ['http://u:geheim@h/', `${temporary.path}/none`]);
  assert.doesNotMatch(stderr, /geheim/);
});

test('a dry run starts nothing', async () => {
  using temporary = scratch();
  const { code, stdout } = await mount(temporary.path, ['-n', 'http://stub/dies', temporary.path]);
  assert.equal(code, 0);
  assert.match(stdout, /nothing was mounted/);
});
