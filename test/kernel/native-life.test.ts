/**
 * The life of a tree from a user's view: attached from a directory and from a web server, worked in, stopped while
 * somebody uses it, attached twice, served by a daemon that does not start, detached.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { runFiles } from '../../src/base/run-directory.ts';
import { AttachedTree, treeFilesystems } from '../support/attached-tree.ts';
import { CorpusWriter } from '../support/corpus.ts';
import { startDelayProxyProcess } from '../support/delay-proxy.ts';
import { childrenOf, daemonsOf, killTogether, processLives } from '../support/processes.ts';
import { runEbb } from '../support/mount.ts';
import { Holder } from '../support/holder.ts';
import { killAtExit, run } from '../support/run.ts';
import type { RunResult } from '../support/run.ts';
import { startNginx } from '../support/servers.ts';
import { loopFilesystem, mountsBelow, temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const launcher = path.join(import.meta.dirname, '../../ebb');
const endMaxMs = 15_000;
const files = { 'large.bin': 9_000_000, 'sub/small.bin': 5_000, 'sub/deep/middle.bin': 700_000 };
const names = Object.keys(files);

let directory: TemporaryDirectory;
let source: string;

before(async () => {
  directory = await temporaryDirectory('native-life');
  source = path.join(directory.path, 'source');
  const writer = new CorpusWriter(source);
  for (const [name, sizeBytes] of Object.entries(files)) writer.bytes(name, sizeBytes);
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

function shell(tree: AttachedTree, script: string, timeoutMs = 30_000): Promise<RunResult> {
  return run('/bin/sh', ['-ec', script, tree.path], { timeoutMs, env: { SOURCE: source } });
}

async function shellOk(tree: AttachedTree, script: string): Promise<string> {
  const { code, stdout, stderr } = await shell(tree, script);
  assert.equal(code, 0, `${script}: ${stderr.toString()}`);
  return stdout.toString();
}

async function states(tree: AttachedTree): Promise<Record<string, string>> {
  const { stdout } = await tree.ebbOk(['ls', '-R', '--json', tree.path]);
  const found: Record<string, string> = {};
  for (const line of stdout.toString().trim().split('\n')) {
    const info = JSON.parse(line) as { path: string; state: string };
    found[path.relative(tree.path, info.path)] = info.state;
  }
  return found;
}

for (const type of treeFilesystems) {
  describe(`a tree on ${type}`, { timeout: 900_000 }, () => {
    for (const remote of ['a directory', 'nginx'] as const) {
      test(`from ${remote}: read, copied, released, fetched, changed, refreshed, detached`, async () => {
        await using server = remote === 'nginx' ? await startNginx({ root: source }) : undefined;
        const prepare = async (tree: string): Promise<void> => {
          writeFileSync(path.join(tree, 'mine.txt'), 'mine');
          await Promise.resolve();
        };
        await using tree = await AttachedTree.attach({
          type,
          remote: server?.url ?? source,
          prepare,
        });
        assert.deepEqual(await states(tree), {
          'large.bin': 'OFL',
          'mine.txt': 'REG',
          sub: '-',
          'sub/deep': '-',
          'sub/deep/middle.bin': 'OFL',
          'sub/small.bin': 'OFL',
        });
        assert.equal(await shellOk(tree, 'cat "$0/mine.txt"'), 'mine');
        // One byte at the end costs a chunk, not the file.
        await shellOk(tree, 'tail -c 1 "$0/large.bin" | cmp - "$SOURCE/large.bin" -i 0:8999999');
        assert.equal((await states(tree))['large.bin'], 'PAR');
        await shellOk(
          tree,
          'cd "$0"; for f in large.bin sub/small.bin; do cmp $f "$SOURCE/$f"; done',
        );
        await shellOk(
          tree,
          'cd "$0"; cp -r sub "$SOURCE.copy"; diff -r sub "$SOURCE/sub"; rm -r "$SOURCE.copy"',
        );
        await shellOk(tree, 'cd "$0"; tar cf - large.bin sub | tar df - -C "$SOURCE"');
        assert.deepEqual([...new Set(Object.values(await states(tree)))].sort(), [
          '-',
          'DUL',
          'REG',
        ]);

        await tree.ebbOk(['release', tree.path]);
        assert.equal((await states(tree))['large.bin'], 'OFL');
        const { allocated, size } = sizesOf(path.join(tree.path, 'large.bin'));
        assert.equal(size, files['large.bin']);
        if (type === 'ext4') assert.ok(allocated < size / 10, `${allocated} bytes stay`);
        await tree.ebbOk(['get', path.join(tree.path, 'large.bin')]);
        assert.equal((await states(tree))['large.bin'], 'DUL');

        // A user's change stays, and is neither released nor refreshed away.
        await shellOk(
          tree,
          'cd "$0"; cp "$SOURCE/sub/small.bin" "$SOURCE.m"; printf end >>"$SOURCE.m"; printf end >>sub/small.bin',
        );
        await shellOk(
          tree,
          'mv "$0/sub/small.bin" "$0/sub/renamed.bin"; cmp "$0/sub/renamed.bin" "$SOURCE.m"',
        );
        const refused = await tree.ebb(['release', path.join(tree.path, 'sub/renamed.bin')]);
        assert.equal(refused.code, 0, refused.stderr.toString()); // nothing of the remote's is in it
        await shellOk(tree, 'cmp "$0/sub/renamed.bin" "$SOURCE.m"; rm "$SOURCE.m"');
        assert.equal((await states(tree))['sub/renamed.bin'], 'DIR');
        await tree.ebbOk(['refresh', tree.path]);
        await tree.ebbOk(['verify', tree.path]);
        const explained = await tree.ebbOk(['explain', path.join(tree.path, 'large.bin')]);
        assert.match(explained.stdout.toString(), /remote key\s+large\.bin/);

        await tree.ebbOk(['release', tree.path]);
        await tree.ebbUnshared(['detach', '--recall', tree.path]);
        assert.deepEqual((await mountsBelow(tree.path)).length, 0);
        assert.ok(!existsSync(path.join(tree.path, '.ebb')));
        await shellOk(
          tree,
          'cd "$0"; cmp large.bin "$SOURCE/large.bin"; cmp sub/deep/middle.bin "$SOURCE/sub/deep/middle.bin"',
        );
        assert.equal(await shellOk(tree, 'cat "$0/mine.txt"'), 'mine');
      });
    }

    test('a busy tree is not taken away, and lazily its users get EIO until they are gone', async () => {
      await using tree = await AttachedTree.attach({
        type,
        remote: source,
        options: ['--whole-max', '0'],
      });
      const status = await tree.status();
      using holder = new Holder(path.join(tree.path, 'large.bin'));
      assert.equal(await holder.said(), 'open');
      assert.equal(await holder.read(0), 'ok');
      const busy = await tree.ebb(['umount', tree.path]);
      assert.equal(busy.code, 3, busy.stderr.toString());
      assert.match(busy.stderr.toString(), new RegExp(`pid ${holder.pid} `));
      // It serves as before.
      assert.equal(await holder.read(8_000_000), 'ok');
      const detached = await tree.ebb(['detach', tree.path]);
      assert.equal(detached.code, 3, detached.stderr.toString());
      assert.equal(await holder.read(4_000_000), 'ok');

      const lazily = tree.ebb(['umount', '--lazy', tree.path], { timeoutMs: 40_000 });
      await waitFor(async () => (await mountsBelow(tree.path)).length === 0, { what: 'the end' });
      assert.deepEqual(readdirSync(tree.path), ['.ebb']);
      assert.equal(statSync(path.join(tree.path, '.ebb')).mode & 0o777, 0o700);
      await waitFor(() => !processLives(status.pid), {
        what: 'the daemon to end',
        timeoutMs: endMaxMs,
      });
      assert.equal(await holder.read(6_000_000), '5', 'EIO');
      assert.ok(processLives(status.supervisorPid), 'somebody has to deny');
      const second = await tree.ebb(['attach', '--state', tree.stateDirectory, tree.path]);
      assert.equal(second.code, 3, second.stderr.toString());
      assert.match(second.stderr.toString(), /taken away and somebody has files of it open/);
      // Nobody would come who serves it.
      for (const verb of [['get'], ['daemon', 'restart'], ['detach']]) {
        const { code, stderr } = await tree.ebb([...verb, tree.path]);
        assert.equal(code, 1, stderr.toString());
        assert.match(stderr.toString(), /was taken away, and cannot be attached again before/);
      }
      holder[Symbol.dispose]();
      await waitFor(() => !processLives(status.supervisorPid), {
        what: 'the supervisor to end with the last user',
        timeoutMs: endMaxMs,
      });
      await lazily;
      await tree.attach();
      for (const name of names) await shellOk(tree, `cmp "$0/${name}" "$SOURCE/${name}"`);
    });
  });
}

test('a tree whose remote is gone is served all the same, and the remote is used when it is back', async () => {
  const away = path.join(directory.path, 'away');
  const remote = path.join(directory.path, 'remote');
  cpSync(source, remote, { recursive: true, preserveTimestamps: true });
  await using tree = await AttachedTree.attach({ type: 'xfs', remote });
  await shellOk(tree, 'cmp "$0/sub/small.bin" "$SOURCE/sub/small.bin"');
  await tree.stop();
  renameSync(remote, away);
  await tree.ebbOk(['attach', '--state', tree.stateDirectory, tree.path]);
  await shellOk(tree, 'cmp "$0/sub/small.bin" "$SOURCE/sub/small.bin"');
  assert.notEqual((await shell(tree, 'cat "$0/large.bin" >/dev/null')).code, 0);
  // That it cannot be opened does not mean that its files are gone.
  assert.notEqual((await tree.ebb(['refresh', tree.path])).code, 0);
  assert.equal((await states(tree))['large.bin'], 'OFL');
  renameSync(away, remote);
  await shellOk(tree, 'cmp "$0/large.bin" "$SOURCE/large.bin"');
});

test('a signal to the supervisor stops the tree in order', async () => {
  await using tree = await AttachedTree.attach({ type: 'xfs', remote: source });
  const { pid, supervisorPid } = await tree.status();
  process.kill(supervisorPid, 'SIGTERM');
  await waitFor(() => !processLives(pid), { what: 'the daemon to end', timeoutMs: endMaxMs });
  assert.deepEqual(await mountsBelow(tree.path), [], 'nobody could reach it any more');
  await waitFor(() => !processLives(supervisorPid), {
    what: 'the supervisor to end',
    timeoutMs: endMaxMs,
  });
  assert.deepEqual(readdirSync(tree.path), ['.ebb']);
});

test('what killed processes left behind is taken away by ebb umount', async () => {
  await using tree = await AttachedTree.attach({ type: 'xfs', remote: source });
  const { pid, supervisorPid } = await tree.status();
  killTogether([tree.keeperPid, supervisorPid, pid]);
  await waitFor(() => !processLives(pid), { what: 'the end' });
  assert.equal((await mountsBelow(tree.path)).length, 1);
  await tree.ebbUnshared(['umount', tree.path]);
  assert.deepEqual(await mountsBelow(tree.path), []);
  assert.deepEqual(readdirSync(tree.path), ['.ebb']);
});

test('ebb find tells every name of a tree with the state that ebb ls tells, in the same order', async () => {
  await using tree = await AttachedTree.attach({ type: 'xfs', remote: source });
  await tree.ebbOk(['get', path.join(tree.path, 'sub/small.bin')]);
  await shellOk(
    tree,
    'cd "$0"; head -c 9 large.bin > /dev/null; echo mine > own; echo more >> sub/deep/middle.bin; ' +
      'ln -s own link; mkfifo pipe; mkdir -p empty "$(printf "odd\\nname")/a/b/c"; ' +
      'echo x > "$(printf "odd\\nname")/a/b/c/\\\\"',
  );
  const { stdout } = await tree.ebbOk(['ls', '-R', '--json', tree.path]);
  const listed = stdout
    .toString()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { path: string; state: string; kind: string });
  assert.deepEqual([...new Set(listed.map(({ state }) => state))].toSorted(), [
    '-',
    'DIR',
    'DUL',
    'PAR',
    'REG',
  ]);
  const found = async (...tests: string[]): Promise<string[]> => {
    const result = await tree.ebbOk(['find', tree.path, ...tests, '-0']);
    return result.stdout.toString().split('\0').slice(0, -1);
  };
  const paths = (wanted: (info: (typeof listed)[number]) => boolean): string[] =>
    listed.filter(wanted).map((info) => info.path);
  assert.deepEqual(
    await found(),
    paths(() => true),
  );
  // What was changed here, and no directory.
  assert.deepEqual(await found('--state', 'DIR'), [path.join(tree.path, 'sub/deep/middle.bin')]);
  for (const state of ['DIR', 'DUL', 'PAR', 'REG']) {
    assert.deepEqual(
      await found('--state', state),
      paths((info) => info.state === state),
    );
  }
  for (const [letter, kind] of ['f file', 'd directory', 'l symlink'].map((one) =>
    one.split(' '),
  )) {
    assert.deepEqual(
      await found('--type', letter ?? ''),
      paths((info) => info.kind === kind),
    );
  }
});

test('attached already: refused with a sentence, and nothing happens to it', async () => {
  await using tree = await AttachedTree.attach({ type: 'xfs', remote: source });
  const before_ = await tree.status();
  const again = await tree.ebb(['attach', '--state', tree.stateDirectory, tree.path, source]);
  assert.equal(again.code, 3, again.stderr.toString());
  assert.match(again.stderr.toString(), /attached already/);
  const status = await tree.status();
  assert.equal(status.pid, before_.pid);
  await shellOk(tree, 'cmp "$0/large.bin" "$SOURCE/large.bin"');
});

test('a remote that cannot be listed leaves an ordinary directory behind', async () => {
  await using server = await startNginx({ root: source });
  await using filesystem = await loopFilesystem({ type: 'xfs' });
  const tree = path.join(filesystem.path, 'tree');
  mkdirSync(tree, { mode: 0o750 });
  writeFileSync(path.join(tree, 'mine.txt'), 'mine');
  const state = path.join(directory.path, 'state-of-nothing');
  const options = ['--retries', '0', '--state', state];
  const failed = await runEbb(['attach', ...options, tree, `${server.url}missing/`]);
  assert.equal(failed.code, 1, failed.stderr.toString());
  assert.match(failed.stderr.toString(), /cannot be listed/);
  assert.deepEqual(readdirSync(tree), ['mine.txt']);
  assert.equal(statSync(tree).mode & 0o777, 0o750);
  assert.deepEqual(readdirSync(state), []);
  assert.deepEqual(await mountsBelow(tree), []);
});

test('a signal ends an attaching whose daemon does nothing any more, and nobody is left', async () => {
  const hanging = createServer(() => undefined);
  const asked = once(hanging, 'request');
  hanging.listen(0, '127.0.0.1');
  await once(hanging, 'listening');
  await using filesystem = await loopFilesystem({ type: 'xfs' });
  const tree = path.join(filesystem.path, 'tree');
  mkdirSync(tree);
  const state = path.join(directory.path, 'state-of-hanging');
  const runDirectory = path.join(directory.path, 'run-of-hanging');
  mkdirSync(runDirectory, { mode: 0o700 });
  const { port } = hanging.address() as AddressInfo;
  const words = ['attach', '--state', state, tree, `http://127.0.0.1:${port}/`];
  const env = { ...process.env, EBB_RUN_DIR: runDirectory };
  const attaching = spawn(launcher, words, { env, stdio: ['ignore', 'ignore', 'pipe'] });
  killAtExit(attaching);
  try {
    const said = text(attaching.stderr);
    const ended = once(attaching, 'exit');
    await asked;
    const [supervisor = 0] = childrenOf(attaching.pid ?? 0);
    // The keeper, too.
    const daemons = childrenOf(supervisor);
    for (const pid of daemons) process.kill(pid, 'SIGSTOP');
    attaching.kill('SIGTERM');
    assert.deepEqual(await ended, [1, null]);
    assert.match(await said, /^ebb attach: stopped by a signal while starting$/m);
    assert.ok(daemons.length > 0);
    assert.deepEqual(daemons.filter(processLives), []);
    await waitFor(() => !processLives(supervisor), { what: 'the end of the supervisor' });
    const { log } = runFiles(tree, runDirectory);
    assert.match(readFileSync(log, 'utf8'), /does not end within 5000 ms/);
    assert.deepEqual(await mountsBelow(tree), []);
  } finally {
    hanging.closeAllConnections();
    hanging.close();
  }
});

test('users see nothing of the tree before all of it can be served', async () => {
  const many = path.join(directory.path, 'many');
  const writer = new CorpusWriter(many);
  for (let index = 0; index < 20; index += 1) writer.bytes(`d${index}/file`, 3_000);
  await using server = await startNginx({ root: many });
  const targetPort = Number(new URL(server.url).port);
  await using slow = await startDelayProxyProcess({ targetPort, roundTripMs: 50 });
  await using filesystem = await loopFilesystem({ type: 'ext4' });
  const tree = path.join(filesystem.path, 'tree');
  mkdirSync(tree);
  const state = path.join(directory.path, 'state-of-many');
  const remote = `http://127.0.0.1:${slow.port}/`;
  const attaching = runEbb(['attach', '--connections', '1', '--state', state, tree, remote]);
  let isOver = false;
  void attaching.finally(() => {
    isOver = true;
  });
  const seen = new Set<string>();
  try {
    while (!isOver) {
      seen.add(readdirSync(tree).sort().join(' '));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    const { code, stderr } = await attaching;
    assert.equal(code, 0, stderr.toString());
    const all = readdirSync(many).sort().join(' ');
    assert.equal(readdirSync(tree).sort().join(' '), all);
    for (const shown of seen) assert.ok(['', '.ebb', all].includes(shown), shown);
    assert.ok(seen.has('.ebb'), 'the tree was looked at while it was prepared');
  } finally {
    await runEbb(['umount', '--lazy', tree]);
    await waitFor(async () => (await mountsBelow(tree)).length === 0, { what: 'the end' });
  }
});

const failing = path.join(import.meta.dirname, '../support/failing-native-main.ts');

test('a daemon that does not start: readers get EIO at once; attaching again brings it back', async () => {
  const flag = path.join(directory.path, 'fail');
  const env = { EBB_NATIVE_MAIN: failing, EBB_FAIL_WHILE: flag };
  await using tree = await AttachedTree.attach({ type: 'xfs', remote: source, env });
  await shellOk(tree, 'cat "$0/sub/small.bin" >/dev/null; echo mine >"$0/own"');
  const status = await tree.status();
  writeFileSync(flag, '');
  // Also the one that waits.
  for (const pid of daemonsOf(status.supervisorPid)) process.kill(pid, 'SIGKILL');
  // No start succeeds: whether it waited for one or came later, a reader is told.
  const denied = await shell(tree, 'cat "$0/large.bin" >/dev/null');
  assert.notEqual(denied.code, 0);
  assert.match(denied.stderr.toString(), /Input\/output error/);
  // What has nothing to do with the remote goes on.
  assert.equal(await shellOk(tree, 'cat "$0/own"'), 'mine\n');
  rmSync(flag);
  const again = await tree.ebb(['attach', '--state', tree.stateDirectory, tree.path]);
  assert.equal(again.code, 3, again.stderr.toString());
  await waitFor(() => tree.status(), { what: 'the daemon', timeoutMs: endMaxMs });
  await shellOk(tree, 'cmp "$0/large.bin" "$SOURCE/large.bin"');
});

function sizesOf(file: string): { allocated: number; size: number } {
  const { blocks, size } = statSync(file);
  return { allocated: blocks * 512, size };
}
