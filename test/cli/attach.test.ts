/** `ebb attach` and `ebb detach` around supervisor and daemon, which are stubs here: options, refusals, reports. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { parseRule } from '../../src/cli/attach/options.ts';
import { renderAttachProgress } from '../../src/cli/attach/progress.ts';
import {
  processStartTicks,
  readRunRecords,
  removeRunRecord,
  runFiles,
  writeRunRecord,
} from '../../src/base/run-directory.ts';
import type { DetachRequest, DetachResult, TreeStatus } from '../../src/daemon/api.ts';
import type { AttachOptions } from '../../src/daemon/start-api.ts';
import { runOk } from '../support/run.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';
import { ebb, gib, scratch, scriptedDaemon } from './support.ts';
import type { CliResult } from './support.ts';

const stub = path.join(import.meta.dirname, 'stubs/supervisor.ts');

function attach(directory: string, words: readonly string[]): Promise<CliResult> {
  return ebb(['attach', '--state', `${directory}/state`, ...words], {
    runDirectory: `${directory}/run`,
    env: { EBB_SUPERVISOR_MAIN: stub },
  });
}

test('attached: one line, the options arrive, progress does not disturb', async () => {
  await using filesystem = await loopFilesystem({ type: 'ext4' });
  using temporary = scratch();
  const tree = path.join(filesystem.path, 'it is');
  mkdirSync(tree);
  symlinkSync(tree, `${temporary.path}/link`);
  const words =
    '--cache-size 20G --min-free 5% --whole-max 2M --exec-whole-max 0 --rule updatedb*=deny ' +
    '--rule /usr/bin/a=b=deny:EIO --rule rsync=exact --dir-mode 0750 --connections 4 --log-level debug';
  const { code, stdout, stderr } = await attach(temporary.path, [
    `${temporary.path}/link`,
    'http://ann:geheim@stub/first',
    ...words.split(' '),
  ]);
  assert.equal(stderr, '');
  assert.equal(code, 0);
  assert.equal(
    stdout,
    `Attached http://stub/ to ${tree}: 1,200 files (5.0 GiB) in 3 directories; detach with: ebb detach '${tree}'\n`,
  );
  const log = readFileSync(runFiles(tree, `${temporary.path}/run`).log, 'utf8');
  const got = JSON.parse(log) as { options: AttachOptions; argv: string[] };
  const { minFreeBytes = 0, ...options } = got.options;
  assert.deepEqual(options, {
    tree,
    remote: 'http://ann:geheim@stub/first',
    stateDirectory: `${temporary.path}/state`,
    cacheSizeBytes: 20 * gib,
    directoryMode: 0o750,
    wholeFileMaxBytes: 2 * 1024 ** 2,
    executableWholeMaxBytes: 0,
    rules: [
      { executable: 'updatedb*', verdict: { deny: 'EPERM' } },
      { executable: '/usr/bin/a=b', verdict: { deny: 'EIO' } },
      { executable: 'rsync', verdict: 'exact' },
    ],
    connections: 4,
    logLevel: 'debug',
  });
  assert.ok(minFreeBytes > 0 && minFreeBytes < gib);
  assert.deepEqual(got.argv, []);

  const partly = await attach(temporary.path, [tree, 'http://stub/partly']);
  assert.equal(partly.code, 1);
  assert.equal(
    partly.stderr,
    'ebb attach: mine: a file of your own has this name\n' +
      String.raw`ebb attach: evil\e[31m: EIO` +
      '\nebb attach: ... and 100 more\n',
  );
  const refused = await attach(temporary.path, [tree, 'http://stub/refuses']);
  assert.equal(refused.code, 3);
  assert.equal(refused.stderr, 'ebb attach: no leases here\n');
  // Whoever serves the tree goes on writing to his log.
  const { log: file } = runFiles(tree, `${temporary.path}/run`);
  const serving = {
    kind: 'tree',
    pid: process.pid,
    startTicks: processStartTicks(process.pid) ?? 0,
    mountPoint: tree,
    remote: 'http://stub/',
    cacheDirectory: '/c',
    socketPath: '/s',
  } as const;
  writeRunRecord(serving, `${temporary.path}/run`);
  const before = statSync(file).ino;
  assert.equal((await attach(temporary.path, [tree, 'http://stub/refuses'])).code, 3);
  assert.equal(statSync(file).ino, before);
  removeRunRecord(tree, `${temporary.path}/run`);
  const died = await attach(temporary.path, [tree, 'http://stub/dies']);
  assert.equal(died.code, 1);
  assert.match(
    died.stderr,
    /ended \(exit code 7\) before the tree was attached[^\n]*\n    last words\n$/,
  );
  const dry = await attach(temporary.path, ['-n', tree, 'http://stub/dies']);
  assert.deepEqual([dry.code, dry.stderr], [0, '']);
  assert.match(dry.stdout, /nothing was attached/);
  const json = await attach(temporary.path, ['--json', tree, 'http://stub/first']);
  assert.equal((JSON.parse(json.stdout) as { stubs: number }).stubs, 1200);

  await test('the remote of a tree that was attached before need not be named, and cannot be another', async () => {
    const nameless = await attach(temporary.path, [tree]);
    assert.equal(nameless.code, 3);
    assert.match(nameless.stderr, /was never attached: name the remote, too/);
    mkdirSync(`${tree}/.ebb`);
    writeFileSync(`${tree}/.ebb/tree.json`, JSON.stringify({ remote: 'http://stub/first' }));
    const again = await attach(temporary.path, [tree]);
    assert.equal(again.code, 0, again.stderr);
    assert.match(again.stdout, /its names were here already/);
    assert.equal((await attach(temporary.path, [tree, 'http://u:p@stub/first/'])).code, 0);
    const other = await attach(temporary.path, [tree, 'http://stub/other']);
    assert.equal(other.code, 3);
    assert.match(other.stderr, /belongs to http:\/\/stub\/first, not to http:\/\/stub\/other/);
    writeFileSync(`${tree}/.ebb/tree.json`, 'nonsense');
    assert.match((await attach(temporary.path, [tree])).stderr, /tree\.json is damaged/);
    mkdirSync(`${tree}/below`);
    const inside = await attach(temporary.path, [`${tree}/below`, 'http://stub/first']);
    assert.equal(inside.code, 3);
    assert.match(inside.stderr, /is inside .*, which is a tree itself/);
  });
});

test('what will not do is refused before anything is started', async () => {
  await using filesystem = await loopFilesystem({ type: 'xfs' });
  await using daemon = await scriptedDaemon();
  using temporary = scratch();
  const directory = path.dirname(daemon.mountPoint);
  mkdirSync(`${daemon.mountPoint}/below`, { recursive: true });
  mkdirSync(`${filesystem.path}/tree/below`, { recursive: true });
  mkdirSync(`${directory}/holder/tree`, { recursive: true });
  writeFileSync(`${directory}/file`, '');
  const tree = `${filesystem.path}/tree`;
  const cases: [string[], number, RegExp][] = [
    [[`${directory}/none`, 'http://h/'], 2, /the tree .* does not exist; create it with: mkdir -p/],
    [[`${directory}/file`, 'http://h/'], 2, /is not a directory/],
    [[directory, 'http://h/'], 3, /lie within each other/],
    [[`${daemon.mountPoint}/below`, 'http://h/'], 3, /the mount .* lie within each other/],
    [[`${directory}/holder`, 'http://h/'], 3, /ebb pool create/],
    [['/dev/shm', 'http://h/'], 3, /has mount points in it|on tmpfs that cannot hold a tree/],
    [['/proc', 'http://h/'], 3, /has mount points in it|cannot hold a tree/],
    [
      [path.dirname(filesystem.path), 'http://h/'],
      3,
      /has mount points in it \(.*\); unmount them first/,
    ],
    [[tree, `${tree}/below`], 3, /the tree .* and the remote .* lie within each other/],
    [[tree, filesystem.path], 3, /lie within each other/],
    [
      [tree, 'http://h/', '--state', `${filesystem.path}/state/deep`],
      3,
      /state directory .* name another with --state/,
    ],
    [[tree, 'ftp://h/'], 2, /not ftp/],
    [[tree, 'http://h/', '--rule', 'cp=deny:ENOENT'], 2, /--rule wants/],
    [[tree, 'http://h/', '--password-file', '/x'], 2, /needs --user/],
  ];
  for (const [words, expected, sentence] of cases) {
    const { code, stdout, stderr } = await ebb(
      ['attach', '--state', `${temporary.path}/s`, ...words],
      {
        runDirectory: daemon.runDirectory,
        env: { EBB_SUPERVISOR_MAIN: '/none' },
      },
    );
    assert.equal(code, expected, `${words.join(' ')}: ${stderr}`);
    assert.match(stderr, sentence);
    assert.equal(stderr.split('\n').length, 2, stderr);
    assert.equal(stdout, '');
  }
});

test('rules: the last = separates', () => {
  assert.deepEqual(parseRule('a=b=exact'), { executable: 'a=b', verdict: 'exact' });
  assert.deepEqual(parseRule('*=deny'), { executable: '*', verdict: { deny: 'EPERM' } });
  for (const wrong of ['exact', '=exact', 'a=', 'a=Deny', 'a=deny:', 'a=deny:EINVAL']) {
    assert.throws(() => parseRule(wrong), /--rule wants/, wrong);
  }
});

test('the progress line fits', () => {
  const progress = { directories: 2, stubs: 12_345, bytes: gib, path: 'a/very/long/path\u001b' };
  const facts = '12,345 files in 2 directories, 1.0 GiB  99 files/s';
  assert.equal(renderAttachProgress(progress, 99.4, 200), String.raw`${facts}  a/very/long/path\e`);
  assert.equal(
    renderAttachProgress(progress, 99.4, facts.length + 12),
    String.raw`${facts}  .../path\e`,
  );
  assert.equal(renderAttachProgress(progress, 99.4, 10), facts.slice(0, 10));
});

const results: Readonly<Record<string, [DetachResult, number, RegExp]>> = {
  kept: [
    { outcome: 'kept', stubs: 3, residentBytes: 1024 },
    0,
    /3 files of the remote \(1\.0 KiB here\).*hidden; bring them back with: ebb attach/,
  ],
  ordinary: [{ outcome: 'ordinary', files: 1, bytes: 0 }, 0, /an ordinary directory now, 1 file/],
  busy: [
    { outcome: 'busy', holders: [{ pid: 7, command: 'less', what: 'fd 3' }] },
    3,
    /is busy, and still attached:\n    pid 7 \(less\): fd 3/,
  ],
  incomplete: [
    { outcome: 'incomplete', failed: 2, problems: [{ path: 'a\n', error: 'gone' }] },
    1,
    /a\\n: gone\nebb detach: 2 files could not be recalled; .* is still attached/,
  ],
};

for (const [name, [result, expected, sentence]] of Object.entries(results)) {
  test(`detach: ${name}`, async () => {
    const asked: DetachRequest[] = [];
    // Stands for the supervisor, whose end is waited for.
    const supervisor = spawn('sleep', ['60']);
    await once(supervisor, 'spawn');
    const pid = supervisor.pid ?? 0;
    const startTicks = processStartTicks(pid) ?? 0;
    await using daemon = await scriptedDaemon(
      {
        detach: async function* (request) {
          asked.push(request);
          const sums = { totalDoneBytes: 1, totalBytes: 2, filesDone: 1, filesTotal: 2 };
          yield { path: 'a', doneBytes: 1, sizeBytes: 1, ...sums, outcome: 'ok' };
          setTimeout(() => supervisor.kill('SIGKILL'), 200);
          return result;
        },
      },
      { kind: 'tree', pid, startTicks },
    );
    const words = ['detach', ...(name === 'kept' ? ['--keep'] : ['--recall']), daemon.mountPoint];
    const { code, stdout, stderr } = await ebb(words, { runDirectory: daemon.runDirectory });
    assert.equal(code, expected, stderr);
    assert.match(stdout + stderr, sentence);
    assert.deepEqual(asked, [{ recall: name !== 'kept' }]);
    const isOver = name === 'kept' || name === 'ordinary';
    if (isOver) assert.equal(processStartTicks(pid), undefined, 'it was waited for');
    assert.equal(readRunRecords(daemon.runDirectory).length, isOver ? 0 : 1);
    supervisor.kill('SIGKILL');
  });
}

test('detach is for trees, and status shows them', async () => {
  await using mount = await scriptedDaemon();
  const wrong = await ebb(['detach', mount.mountPoint], { runDirectory: mount.runDirectory });
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /is a mount, not a tree; take it away with: ebb umount/);
  using hidden = scratch();
  mkdirSync(path.join(hidden.path, '.ebb'));
  for (const words of [['detach'], ['ls']]) {
    const { code, stderr } = await ebb([...words, hidden.path]);
    assert.equal(code, 1);
    assert.match(stderr, /is a tree that is not attached; attach it with: ebb attach \//);
  }
  const both = await ebb(['detach', '--keep', '--recall', mount.mountPoint]);
  assert.equal(both.code, 2);

  await using tree = await scriptedDaemon({ status: async () => treeStatus }, { kind: 'tree' });
  const inside = await ebb(['detach', `${tree.mountPoint}/x`], { runDirectory: tree.runDirectory });
  assert.match(inside.stderr, /is inside the tree/);
  const table = await ebb(['status'], { runDirectory: tree.runDirectory });
  assert.match(table.stdout, /1,234 +5\.0 GiB +1\.0 GiB +- +3 waiting/);
  const details = await ebb(['status', tree.mountPoint], { runDirectory: tree.runDirectory });
  assert.match(details.stdout, /changed here +2 files/);
  assert.match(details.stdout, /restarted 1 time/);
  const json = await ebb(['status', '--json'], { runDirectory: tree.runDirectory });
  // Images that other tests have mounted follow: they are found by the mounts of the machine.
  const [first = ''] = json.stdout.split('\n');
  assert.equal((JSON.parse(first) as TreeStatus).kind, 'tree');
});

test('what a killed supervisor left mounted is taken away', async () => {
  await using directory = await temporaryDirectory('dead-tree');
  const tree = `${directory.path}/tree`;
  mkdirSync(`${tree}/.ebb/data`, { recursive: true });
  writeFileSync(`${tree}/.ebb/data/stub`, '');
  await runOk('mount', ['--bind', `${tree}/.ebb/data`, tree], { timeoutMs: 10_000 });
  assert.deepEqual(readdirSync(tree), ['stub']);
  const { code, stderr } = await ebb(['umount', tree], { runDirectory: `${directory.path}/run` });
  assert.equal(code, 0, stderr);
  assert.deepEqual(readdirSync(tree), ['.ebb']);
});

const treeStatus: TreeStatus = {
  kind: 'tree',
  mountPoint: '/t',
  remote: 'http://example.org/',
  stateDirectory: '/var/lib/ebb/trees/x',
  fileSystem: 'xfs',
  pid: 2,
  supervisorPid: 1,
  restarts: 1,
  version: '0.1.0',
  startedAtMs: 0,
  stubs: 1234,
  dirty: 2,
  complete: 7,
  remoteBytes: 5 * gib,
  residentBytes: gib,
  cacheLimitBytes: null,
  minFreeBytes: null,
  recallsInFlight: 0,
  recalledBytes: 0,
  waiting: 3,
  events: 99,
  remoteReachable: true,
  lastError: null,
  tokenTag: '0123456789abcdef',
  tokensRefused: 0,
};
