/** Help, version, wrong usage: what a user meets first. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { isImageMount, readMountInfo } from '../../src/base/mount-info.ts';
import { verbSummaries } from '../../src/cli/verbs.ts';
import { waitFor } from '../support/wait-for.ts';
import { ebb, scratch } from './support.ts';

test('every verb has a manual page', async () => {
  for (const name of Object.keys(verbSummaries)) {
    const { code, stdout, stderr } = await ebb([name, '--help']);
    assert.equal(code, 0, name);
    assert.equal(stderr, '');
    for (const section of [
      'NAME',
      'SYNOPSIS',
      'DESCRIPTION',
      'OPTIONS',
      'EXIT STATUS',
      'EXAMPLES',
    ]) {
      assert.match(stdout, new RegExp(`^${section}$`, 'm'), `${name}: ${section}`);
    }
    assert.match(stdout, new RegExp(`SYNOPSIS\\n    ebb ${name}\\b`));
    // No letter stands for two options (of ls and du, -h is the readable sizes).
    const letters = [...stdout.matchAll(/^    (-.), /gm)].map(([, letter]) => letter);
    assert.deepEqual(letters, [...new Set(letters)], name);
    assert.ok(stdout.includes('--json') || name === 'demo', `${name} has --json`);
    const tooWide = stdout.split('\n').filter((line) => line.length > 90);
    assert.deepEqual(tooWide, [], name);
  }
});

test('acting verbs have a dry run', async () => {
  for (const name of [
    'get',
    'release',
    'pin',
    'unpin',
    'verify',
    'refresh',
    'umount',
    'mount',
    'attach',
    'daemon',
  ]) {
    assert.match((await ebb([name, '--help'])).stdout, /-n, --dry-run/, name);
  }
});

test('version and overview', async () => {
  assert.match((await ebb(['--version'])).stdout, /^ebb [0-9]+\.[0-9]+\.[0-9]+\n$/);
  const help = await ebb(['--help']);
  assert.equal(help.code, 0);
  for (const name of Object.keys(verbSummaries))
    assert.match(help.stdout, new RegExp(`^    ${name} `, 'm'));
  const nothing = await ebb([]);
  assert.equal(nothing.code, 2);
  assert.match(nothing.stderr, /VERBS/);
});

test('unknown verbs and options: one sentence with a suggestion, exit code 2', async () => {
  const cases: [string[], RegExp][] = [
    [['mont'], /^ebb: there is no verb "mont"; did you mean "ebb mount"\?\n$/],
    [['--jsno'], /^ebb: there is no option "--jsno"; /],
    [['xyzzy'], /^ebb: there is no verb "xyzzy"; ebb --help lists them\n$/],
    [['evil\u001b[31m'], /^ebb: there is no verb "evil\\e\[31m"/],
    [
      ['ls', '--recursve'],
      /^ebb ls: unknown option '--recursve' \(did you mean --recursive\?\)[^\n]*\n$/,
    ],
    [['mount', 'http://x/'], /^ebb mount: missing required argument 'MOUNTPOINT'[^\n]*\n$/],
    [['mount', 'ftp://x/', '/tmp'], /^ebb mount: Ebb mounts http:\/\/, [^\n]*\n$/],
    [['mount', 'http:///', '/tmp'], /^ebb mount: the remote is not a valid URL[^\n]*\n$/],
    [['get'], /^ebb get: name at least one PATH[^\n]*\n$/],
    [['get', '-0', 'x'], /^ebb get: -0 says how LIST is written[^\n]*\n$/],
    [['log', '-n', 'many'], /^ebb log: --lines wants a whole number[^\n]*\n$/],
    [['find', '--size', 'big'], /^ebb find: --size wants a size[^\n]*\n$/],
    [['find', '--state', 'XYZ'], /^ebb find: --state knows [^\n]*\n$/],
    [['find', '-0', '--json'], /^ebb find: use only one of[^\n]*\n$/],
  ];
  using run = scratch();
  for (const [words, sentence] of cases) {
    const { code, stdout, stderr } = await ebb(words, { runDirectory: `${run.path}/run` });
    assert.equal(code, 2, words.join(' '));
    assert.equal(stdout, '');
    assert.match(stderr, sentence);
  }
});

test('without mounts', async () => {
  using run = scratch();
  const options = { runDirectory: `${run.path}/none` };
  const imagePoints = (): string[] =>
    readMountInfo()
      .filter(isImageMount)
      .map(({ mountPoint }) => mountPoint);
  // Images of everybody are shown to root: other tests mount some.
  const { status, shown } = await waitFor(
    async () => {
      const shown = imagePoints();
      const status = await ebb(['status'], options);
      return isDeepStrictEqual(imagePoints(), shown) ? { status, shown } : undefined;
    },
    { what: 'mounts that stay as they are for a moment', timeoutMs: 60_000 },
  );
  assert.equal(status.code, 0);
  if (shown.length === 0) assert.match(status.stdout, /^Nothing is mounted/);
  else assert.equal(status.stdout.split('\n').length, shown.length + 2, status.stdout);
  const ls = await ebb(['ls', '/etc'], options);
  assert.equal(ls.code, 1);
  assert.match(
    ls.stderr,
    /^ebb ls: \/etc is not inside a mount of yours; ebb status lists them\.\n$/,
  );
});

test('a closed pipe ends the output quietly', async () => {
  const { spawnSync } = await import('node:child_process');
  const { cliMain } = await import('./support.ts');
  const script = `'${process.execPath}' '${cliMain}' mount --help | head -n 1`;
  const { stdout, stderr } = spawnSync('sh', ['-c', script], { encoding: 'utf8' });
  assert.equal(stdout, 'NAME\n');
  assert.equal(stderr, '');
});

test('a command that could not write its output has not ended well', async () => {
  const { spawn, spawnSync } = await import('node:child_process');
  const { cliMain } = await import('./support.ts');
  const child = spawn(process.execPath, [cliMain, '--help'], { stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.destroy();
  const [said, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
  assert.deepEqual([said, code], ['', 141]);
  const script = `'${process.execPath}' '${cliMain}' --help > /dev/full`;
  const { status, stderr } = spawnSync('sh', ['-c', script], { encoding: 'utf8' });
  assert.equal(status, 1);
  assert.match(stderr, /^ebb: the output cannot be written: .*no space left on device/);
});
