/** The verbs against a real control server with scripted answers. */
import assert from 'node:assert/strict';
import { symlinkSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { ebbError } from '../../src/base/errors.ts';
import { runFiles, writeRunRecord } from '../../src/base/run-directory.ts';
import type { FileInfo } from '../../src/daemon/api.ts';
import { renderTop } from '../../src/cli/verbs/top.ts';
import { ebb, gib, scriptedDaemon, tree } from './support.ts';
import type { CliResult, ScriptedDaemon } from './support.ts';

let daemon: ScriptedDaemon;
before(async () => {
  daemon = await scriptedDaemon();
});
after(async () => {
  await daemon[Symbol.asyncDispose]();
});

const run = (words: readonly (string | Buffer)[], input?: string): Promise<CliResult> =>
  ebb(words, { runDirectory: daemon.runDirectory, ...(input === undefined ? {} : { input }) });

const lines = (text: string): string[] => text.split('\n').slice(0, -1);
const jsonLines = <Value>(text: string): Value[] =>
  lines(text).map((line) => JSON.parse(line) as Value);

test('ls aligns, sorts and shows nothing that moves the cursor', async () => {
  const { code, stdout, stderr } = await run(['ls', daemon.mountPoint]);
  assert.equal(stderr, '');
  assert.equal(code, 0);
  const rows = lines(stdout);
  assert.equal(rows.length, 4);
  assert.match(rows[0] ?? '', /^-     drwxr-xr-x  root +0  -  2026-01-02 \d\d:\d\d  docs$/);
  assert.match(rows[1] ?? '', /^OFL   -rw-r--r--  root +1  0  .*  evil\\e\[31m\\nname$/);
  assert.match(rows[2] ?? '', /^DUL\+  -rw-r--r--  root +2  2  .*  latin-\\xe9$/);
  assert.match(rows[3] ?? '', /  link -> docs\/a\.txt$/);
});

test('ls -R, -d, -h, --json', async () => {
  const recursive = await run(['ls', '-R', '-h', `${daemon.mountPoint}/docs`]);
  assert.match(recursive.stdout, /PAR +-rw-r--r-- +root +2\.0G +4\.0K .* deep\/b\.iso\n/);
  const self = await run(['ls', '-d', `${daemon.mountPoint}/docs`]);
  assert.match(self.stdout, new RegExp(` ${daemon.mountPoint}/docs\n$`));
  const json = jsonLines<FileInfo>((await run(['ls', '-R', '--json', daemon.mountPoint])).stdout);
  assert.deepEqual(
    json.map((info) => info.path),
    tree.map((info) => path.join(daemon.mountPoint, info.path)),
  );
});

test('a path through a symlink outside of the mount is found', async () => {
  const link = path.join(path.dirname(daemon.mountPoint), 'link-to-mount');
  // The mount point of this daemon does not exist as a directory; one is made for the link to lead to.
  const { mkdirSync } = await import('node:fs');
  mkdirSync(path.join(daemon.mountPoint, 'docs'), { recursive: true });
  symlinkSync(daemon.mountPoint, link);
  const { code, stdout } = await run(['ls', '--json', `${link}/docs`]);
  assert.equal(code, 0);
  assert.equal(jsonLines<FileInfo>(stdout).length, 2);
});

test('find filters by each test', async () => {
  const found = async (...words: string[]): Promise<string[]> => {
    const { stdout } = await run(['find', daemon.mountPoint, '-0', ...words]);
    return stdout
      .split('\0')
      .slice(0, -1)
      .map((name) => name.slice(daemon.mountPoint.length + 1));
  };
  assert.deepEqual(await found('--state', 'PAR,OFL'), ['docs/deep/b.iso', 'evil\u001b[31m\nname']);
  assert.deepEqual(await found('--size', '+1G'), ['docs/deep/b.iso']);
  assert.deepEqual(await found('--size', '1000'), ['docs/a.txt']);
  assert.deepEqual(await found('--name', '*.t?t'), ['docs/a.txt']);
  assert.deepEqual(await found('--iname', 'A.TXT'), ['docs/a.txt']);
  assert.deepEqual(await found('--type', 'd'), ['docs', 'docs/deep']);
  assert.deepEqual(await found('--type', 'l'), ['link']);
  assert.equal((await found('--pinned')).length, 1);
  assert.deepEqual(await found('--mtime', '-1s'), []);
  assert.equal((await found('--mtime', '+1s')).length, tree.length);
  const long = await run(['find', daemon.mountPoint, '-l', '--size', '+1G']);
  assert.match(long.stdout, /^PAR .*b\.iso\n$/);
});

test('names that are not UTF-8 go through arguments, requests and output unchanged', async () => {
  const name = Buffer.from([...Buffer.from(`${daemon.mountPoint}/latin-`), 0xe9]);
  const { code, stdout } = await run(['explain', '--json', name]);
  assert.equal(code, 0);
  assert.match(stdout, /latin-\\udce9"/);
  daemon.asked.length = 0;
  await run(['pin', name]);
  assert.deepEqual(daemon.asked[0]?.request.paths, ['latin-\udce9']);
});

test('du sums per directory, children first', async () => {
  const { stdout } = await run(['du', daemon.mountPoint]);
  const rows = lines(stdout).map((line) => line.trim().split(/\s+/));
  assert.deepEqual(rows, [
    [String(2 * gib), '4096', `${daemon.mountPoint}/docs/deep`],
    [String(2 * gib + 1000), '5096', `${daemon.mountPoint}/docs`],
    [String(2 * gib + 1003), '5098', daemon.mountPoint],
  ]);
  const short = await run(['du', '-s', '-h', `${daemon.mountPoint}/docs`]);
  assert.match(short.stdout, /^ +2\.0G\+ +5\.0K  .*\/docs\n$/);
  const json = await run(['du', '-s', '--json', daemon.mountPoint]);
  assert.deepEqual(jsonLines(json.stdout), [
    {
      path: daemon.mountPoint,
      files: 2,
      directories: 1,
      remoteBytes: 2 * gib + 1000,
      residentBytes: 5096,
      incomplete: true,
    },
  ]);
});

test('find, ls -R and du ask for everything with --deep only', async () => {
  for (const words of [['find'], ['ls', '-R'], ['du', '--json']]) {
    const files = async (...more: string[]): Promise<string> =>
      (await run([...words, ...more, daemon.mountPoint])).stdout;
    assert.notEqual(await files(), await files('--deep'), words.join(' '));
  }
  assert.equal((await run(['ls', '--deep', daemon.mountPoint])).code, 2);
});

test('acting verbs: lines, refusals with reasons, sums, exit code 3', async () => {
  for (const verb of ['get', 'release', 'pin', 'unpin', 'verify', 'refresh']) {
    daemon.asked.length = 0;
    const { code, stdout, stderr } = await run([verb, `${daemon.mountPoint}/docs`]);
    assert.equal(code, 3, verb);
    assert.equal(
      stderr,
      `ebb ${verb}: ${daemon.mountPoint}/docs/deep/b.iso: it is open in pid 7 (less)\n`,
    );
    const lines = /docs\/a\.txt: \w+( \(10 B\))?\n1 (file|entry) \w+, 10 B, 1 refused/;
    assert.match(stdout, lines);
    assert.deepEqual(daemon.asked, [
      { verb, request: { paths: ['docs'], globs: [], dryRun: false } },
    ]);
  }
});

test('acting verbs: --json, -q, -n', async () => {
  const json = await run(['get', '--json', daemon.mountPoint]);
  const values = jsonLines<Record<string, unknown>>(json.stdout);
  assert.equal(values.length, 3);
  assert.equal(values[0]?.['path'], `${daemon.mountPoint}/docs/a.txt`);
  assert.deepEqual(values[2], { done: { ok: 1, failed: 0, refused: 1, bytes: 10 } });
  assert.equal((await run(['get', '-q', daemon.mountPoint])).stdout, '');
  daemon.asked.length = 0;
  const dry = await run(['release', '-n', daemon.mountPoint]);
  assert.match(dry.stdout, /would be released/);
  assert.equal(daemon.asked[0]?.request.dryRun, true);
});

test('get counts what it brought, and says what was here; refresh says what has changed', async () => {
  const common = { doneBytes: 10, sizeBytes: 10, totalDoneBytes: 20, totalBytes: 20 };
  const files = { ...common, filesDone: 1, filesTotal: 2, outcome: 'ok' } as const;
  const changes = { new: 1234, updated: 1, gone: 0, kept: 2, leftOut: 3, unsure: 0 };
  const nothing = { new: 0, updated: 0, gone: 0, kept: 0, leftOut: 0, unsure: 0 };
  await using counting = await scriptedDaemon({
    get: async function* () {
      yield { ...files, path: 'a', broughtBytes: 0 };
      yield { ...files, path: 'b', broughtBytes: 4 };
      return { ok: 2, failed: 0, refused: 0, bytes: 4, alreadyHere: 1 };
    },
    refresh: async function* () {
      yield { ...files, path: 'docs', changes };
      yield { ...files, path: 'flat', changes: nothing };
      yield { ...files, path: 'gone', outcome: { code: 'ENOENT', error: 'gone: no such file' } };
      return { ok: 2, failed: 1, refused: 0, bytes: 0, changes };
    },
  });
  const options = { runDirectory: counting.runDirectory };
  const at = counting.mountPoint;
  const get = await ebb(['get', at], options);
  assert.match(
    get.stdout.replaceAll(at, ''),
    /^\/a: is here already\n\/b: fetched \(4 B\)\n1 file fetched \(1 here already\), 4 B in /,
  );
  const refresh = await ebb(['refresh', at], options);
  assert.equal(refresh.code, 1);
  assert.equal(
    refresh.stdout.replaceAll(at, ''),
    '/docs: refreshed, 1,234 new, 1 updated, 2 kept as they are here, 3 left out\n' +
      '/flat: refreshed, no changes seen\n' +
      '2 entries refreshed, 1,234 new, 1 updated, 2 kept as they are here, 3 left out, 1 failed\n',
  );
  assert.equal(refresh.stderr.replaceAll(at, ''), 'ebb refresh: /gone: no such file\n');
});

test('lists and patterns', async () => {
  daemon.asked.length = 0;
  const mnt = daemon.mountPoint;
  await run(['pin', '-f', '-'], `${mnt}/docs/a.txt\n\n${mnt}/x[1]\n`);
  await run(['pin', '-0', '-f', '-'], `${mnt}/one\ntwo\0${mnt}/three\0`);
  await run(['pin', `${mnt}/docs/**/*.iso`, `${mnt}/link`]);
  await run(['pin', '**/*.iso']);
  await run(['pin', '--literal', `${mnt}/*`]);
  assert.deepEqual(
    daemon.asked.map(({ request }) => [request.paths, request.globs]),
    [
      [['docs/a.txt', 'x[1]'], []],
      [['one\ntwo', 'three'], []],
      [['link'], ['docs/**/*.iso']],
      [[], ['**/*.iso']],
      [['*'], []],
    ],
  );
  const missing = await run(['pin', '-f', '/nonexistent/list']);
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /^ebb pin: Cannot read the list \/nonexistent\/list: /);
});

test('status, top, log, explain', async () => {
  const status = await run(['status']);
  assert.equal(status.code, 0);
  assert.match(status.stdout, /^MOUNT .*STATE\n.*12,345 +5\.0 GiB +1\.0 GiB +- +ok\n/);
  const one = await run(['status', `${daemon.mountPoint}/docs`]);
  assert.match(one.stdout, /keep free +1\.0 GiB\n/);
  assert.equal(
    jsonLines<{ files: number }>((await run(['status', '--json'])).stdout)[0]?.files,
    12_345,
  );
  const top = await run(['top']);
  assert.match(top.stdout, /2\.0 KiB\/s +1 in flight/);
  assert.match(top.stdout, / 7 +less +512 B +1\.0 KiB +0 B +20 ms +docs\/deep\/b\.iso\n/);
  const log = await run(['log']);
  assert.equal(log.stdout, '1970-01-01T00:00:00.000Z WARN  slow remote path="a b" ms=5\n');
  const explain = await run([
    'explain',
    `${daemon.mountPoint}/docs/a.txt`,
    `${daemon.mountPoint}/no`,
  ]);
  assert.equal(explain.code, 1);
  assert.match(explain.stdout, /a\.txt: DUL\n  It was read last week\.\n  version  "abc"\n$/);
  assert.match(explain.stderr, /^ebb explain: .*\/no: no no\n$/);
});

test('top cuts long commands in its tables', () => {
  const one = { pid: 7, command: `x${'y'.repeat(100)}`, uid: 0, recalls: 1, bytes: 1 };
  const reading = { nowMs: 0, live: [], requesters: [one], bytesPerSecond: 0 };
  const shown = renderTop('/mnt', reading).join('\n');
  assert.match(shown, / xy{36}\.\.\. +0 /);
});

test('umount of a busy mount lists who holds it', async () => {
  const { code, stderr } = await run(['umount', daemon.mountPoint]);
  assert.equal(code, 3);
  assert.match(stderr, /is busy:\n    pid 7 \(less\): fd 3 \/mnt\/docs\/a\.txt\n/);
  const inside = await run(['umount', `${daemon.mountPoint}/docs`]);
  assert.equal(inside.code, 1);
  assert.match(inside.stderr, /is inside the mount/);
  const other = await run(['umount', '/etc']);
  assert.match(other.stderr, /^ebb umount: \/etc is not an ebb mount/);
  const dry = await run(['umount', '-n', '/etc']);
  assert.equal(dry.code, 1);
  assert.match(dry.stderr, /^ebb umount: \/etc is not an ebb mount/);
});

test('a dead daemon is reported and cleaned up', async () => {
  await using other = await scriptedDaemon();
  const dead = { ...other.record, mountPoint: `${other.mountPoint}-dead`, startTicks: 1 };
  writeRunRecord(dead, other.runDirectory);
  const options = { runDirectory: other.runDirectory };
  const status = await ebb(['status'], options);
  assert.equal(status.code, 1);
  assert.match(status.stdout, /is dead; clean up with: ebb umount/);
  const ls = await ebb(['ls', `${dead.mountPoint}/x`], options);
  assert.match(ls.stderr, /^ebb ls: The daemon of .* is dead; clean up with: /);
  assert.equal((await ebb(['umount', dead.mountPoint], options)).code, 0);
  assert.equal((await ebb(['status'], options)).code, 0);
});

test('an error after the first line of a stream is not taken for its end', async () => {
  await using broken = await scriptedDaemon({
    ls: async function* () {
      yield* tree.slice(0, 2);
      throw ebbError('EIO', 'the catalog is damaged');
    },
    get: async function* () {
      yield* [];
      throw ebbError('ENOSPC', 'the cache is full');
    },
  });
  const options = { runDirectory: broken.runDirectory };
  const ls = await ebb(['find', broken.mountPoint], options);
  assert.equal(ls.code, 1);
  assert.equal(lines(ls.stdout).length, 2);
  assert.equal(ls.stderr, 'ebb find: the catalog is damaged\n');
  const get = await ebb(['get', broken.mountPoint], options);
  assert.equal(get.code, 1);
  assert.equal(get.stderr, 'ebb get: the cache is full\n');
});

test('a daemon that hangs is waited for no longer than it may take', async () => {
  const never = (): Promise<never> => new Promise(() => undefined);
  await using hanging = await scriptedDaemon({ status: never, top: never });
  const dead = { ...hanging.record, mountPoint: `${hanging.mountPoint}-dead`, startTicks: 1 };
  writeRunRecord(dead, hanging.runDirectory);
  const options = { runDirectory: hanging.runDirectory, env: { EBB_SILENCE_MS: '50' } };
  const said = new RegExp(`The daemon of ${hanging.mountPoint} has not answered for 50 ms`);
  const status = await ebb(['status'], options);
  assert.equal(status.code, 1);
  assert.match(status.stdout, said);
  assert.match(status.stdout, /-dead .* is dead; clean up with: ebb umount/);
  const top = await ebb(['top', '--once'], options);
  assert.equal(top.code, 1);
  assert.match(top.stderr, said);
});

test('no daemon behind the socket', async () => {
  await using other = await scriptedDaemon();
  const { rmSync } = await import('node:fs');
  rmSync(runFiles(other.mountPoint, other.runDirectory).socket);
  const { code, stderr } = await ebb(['ls', other.mountPoint], {
    runDirectory: other.runDirectory,
  });
  assert.equal(code, 1);
  assert.match(
    stderr,
    /^ebb ls: The daemon of .* does not answer; another one may be started.* with: ebb umount/,
  );
});
