/** The CLI with the real daemon: a directory mounted, used, unmounted, its catalog rebuilt; and the demo. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { mountAt, readMountInfo } from '../../src/base/mount-info.ts';
import type { FileInfo } from '../../src/daemon/api.ts';
import { childrenOf } from '../support/processes.ts';
import { patience } from '../support/patience.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { cliMain, ebb } from './support.ts';

const mountTimeoutMs = patience * 120_000;

/** Something of somebody else lies over it meanwhile, which stays as it is. */
async function whileCovered(mountPoint: string, work: () => Promise<void>): Promise<void> {
  await runOk('mount', ['-t', 'tmpfs', 'above', mountPoint]);
  try {
    writeFileSync(path.join(mountPoint, 'file'), 'mine');
    await work();
    assert.equal(await readFile(path.join(mountPoint, 'file'), 'utf8'), 'mine');
  } finally {
    if (mountAt(readMountInfo(), mountPoint)?.source === 'above') {
      await runOk('umount', [mountPoint]);
    }
  }
}

test('mount, read, list, refuse, umount, rebuild, mount', { timeout: mountTimeoutMs }, async () => {
  await using temporary = await temporaryDirectory('cli');
  const at = (name: string): string => path.join(temporary.path, name);
  mkdirSync(at('remote/sub'), { recursive: true });
  mkdirSync(at('mnt'));
  const content = Buffer.alloc(700_000, 'ebb ');
  writeFileSync(at('remote/sub/file.bin'), content);
  writeFileSync(at('remote/cold.bin'), content);
  const run = (words: string[]) => ebb(words, { runDirectory: at('run') });
  const state = async (name: string): Promise<string | undefined> => {
    const { stdout } = await run(['ls', '-d', '--json', at(`mnt/${name}`)]);
    return (JSON.parse(stdout) as FileInfo).state;
  };
  const mount = ['mount', '--cache-dir', at('cache'), at('remote'), at('mnt')];

  const mounted = await run(mount);
  assert.equal(mounted.code, 0, mounted.stderr);
  assert.match(mounted.stdout, /^Mounted /);
  const again = await run(mount);
  assert.equal(again.code, 1);
  assert.match(again.stderr, /is mounted already/);

  assert.deepEqual(await readFile(at('mnt/sub/file.bin')), content);
  assert.equal(await state('sub/file.bin'), 'DUL');
  assert.equal(await state('cold.bin'), 'OFL');
  assert.match((await run(['du', '-s', at('mnt')])).stdout, / 1400000 +700000  /);

  // One PATH that is wrong does not keep the others from being served.
  const wrong = at('mnt/sub/none');
  for (const words of [['ls'], ['find'], ['du'], ['get', '-n'], ['pin'], ['unpin'], ['verify']]) {
    const both = await run([...words, wrong, at('mnt/sub/file.bin')]);
    assert.equal(both.code, 1, words.join(' '));
    assert.equal(both.stderr, `ebb ${words[0]}: ${wrong}: no such file or directory\n`);
    assert.match(both.stdout, /file\.bin/, words.join(' '));
  }
  const nobody = await run(['umount', '-n', at('mnt')]);
  assert.equal(nobody.stdout, `Nobody uses ${at('mnt')}; nothing was unmounted.\n`);

  const inUse = await run(['rebuild', at('cache')]);
  assert.equal(inUse.code, 3, inUse.stderr);

  const holder = spawn('sleep', ['60'], { cwd: at('mnt/sub'), stdio: 'ignore' });
  try {
    const busy = await run(['umount', at('mnt')]);
    assert.equal(busy.code, 3);
    assert.match(busy.stderr, new RegExp(`pid ${holder.pid} \\(sleep\\): cwd `));
  } finally {
    holder.kill('SIGKILL');
  }
  await new Promise((resolve) => void holder.once('exit', resolve));
  await whileCovered(at('mnt'), async () => {
    for (const words of [['umount'], ['umount', '-l']]) {
      const covered = await run([...words, at('mnt')]);
      assert.equal(covered.code, 3, covered.stderr);
      assert.match(covered.stderr, /^ebb umount: Something else is mounted over /);
    }
  });
  const gone = await run(['umount', at('mnt')]);
  assert.equal(gone.code, 0, gone.stderr);
  assert.equal(mountAt(readMountInfo(), at('mnt')), undefined);
  // Images that other tests have mounted are shown, too.
  const left = (await run(['status'])).stdout;
  assert.match(left, /^(Nothing is mounted|MOUNT )/);
  assert.ok(!left.includes(at('mnt')), left);

  const rebuilt = await run(['rebuild', at('cache')]);
  assert.equal(rebuilt.code, 0, rebuilt.stderr);
  assert.match(rebuilt.stdout, /rebuilt: 1 file, 684 KiB here, 0 skipped\n$/);
  assert.equal((await run(mount)).code, 0);
  assert.deepEqual(await readFile(at('mnt/sub/file.bin')), content);
  assert.equal((await run(['umount', '-l', at('mnt')])).code, 0);
});

test(
  'daemon and supervisor killed: their mount is found dead and cleaned up',
  { timeout: mountTimeoutMs },
  async () => {
    await using temporary = await temporaryDirectory('cli');
    const at = (name: string): string => path.join(temporary.path, name);
    mkdirSync(at('remote'));
    mkdirSync(at('mnt'));
    const run = (words: string[]) => ebb(words, { runDirectory: at('run') });
    const mounted = await run([
      'mount',
      '--json',
      '--cache-dir',
      at('cache'),
      at('remote'),
      at('mnt'),
    ]);
    assert.equal(mounted.code, 0, mounted.stderr);
    const { pid } = (JSON.parse(mounted.stdout) as { run: { pid: number } }).run;
    for (const one of [pid, ...childrenOf(pid)]) process.kill(one, 'SIGKILL');
    for (let tries = 0; (await run(['status'])).code === 0 && tries < 50; tries += 1);
    const dead = await run(['mount', at('remote'), at('mnt')]);
    assert.equal(dead.code, 1);
    assert.match(dead.stderr, /A dead mount is on .*; clean it up with: ebb umount/);
    await whileCovered(at('mnt'), async () => {
      const covered = await run(['umount', at('mnt')]);
      assert.equal(covered.code, 3, covered.stderr);
      assert.match(covered.stderr, /^ebb umount: Something else is mounted over /);
    });
    const cleaned = await run(['umount', at('mnt')]);
    assert.equal(cleaned.code, 0, cleaned.stderr);
    assert.equal(mountAt(readMountInfo(), at('mnt')), undefined);
    assert.equal((await run(['status'])).code, 0);
  },
);

test(
  'who interrupts ebb mount ends the start that it waits for',
  { timeout: mountTimeoutMs },
  async () => {
    await using temporary = await temporaryDirectory('cli');
    const at = (name: string): string => path.join(temporary.path, name);
    mkdirSync(at('mnt'));
    const silent = createServer(() => undefined);
    const asked = new Promise<void>((resolve) => silent.once('request', () => resolve()));
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    try {
      const remote = `http://127.0.0.1:${(silent.address() as AddressInfo).port}/`;
      const words = [cliMain, 'mount', '--cache-dir', at('cache'), remote, at('mnt')];
      const env = { ...process.env, EBB_RUN_DIR: at('run') };
      const child = spawn(process.execPath, words, { env, stdio: ['ignore', 'ignore', 'pipe'] });
      const said = text(child.stderr);
      const ended = new Promise((resolve) => void child.once('exit', resolve));
      await asked;
      child.kill('SIGINT');
      assert.equal(await ended, 1);
      assert.equal(await said, 'ebb mount: stopped by a signal while starting\n');
      assert.equal(mountAt(readMountInfo(), at('mnt')), undefined);
      // Its service has ended with it: the cache is free.
      assert.equal((await ebb(['rebuild', '-n', at('cache')])).code, 1);
    } finally {
      silent.closeAllConnections();
      silent.close();
    }
  },
);

test(
  'the demo shows what it promises and leaves nothing',
  { timeout: mountTimeoutMs },
  async () => {
    await using temporary = await temporaryDirectory('cli');
    const run = path.join(temporary.path, 'run');
    const { code, stdout, stderr } = await ebb(['demo', '--once', '--size', '8M'], {
      runDirectory: run,
    });
    assert.equal(stderr, '');
    assert.equal(code, 0);
    assert.match(stdout, /^Byte 1 .*fetched: (256|512) KiB \(bytes 0-/m);
    assert.match(stdout, /^Read 2 .* 0 requests to the server/m);
    assert.match(stdout, /^Proof /m);
    assertNothingLeft(stdout);
    assert.deepEqual(
      readdirSync(run).filter((name) => !name.includes('.log')),
      [],
    );
  },
);

test('the demo cleans up when it is told to stop', { timeout: mountTimeoutMs }, async () => {
  await using temporary = await temporaryDirectory('cli');
  const env = { ...process.env, EBB_RUN_DIR: path.join(temporary.path, 'run') };
  const child = spawn(process.execPath, [cliMain, 'demo', '--size', '4M'], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let stdout = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    if (stdout.includes('Ctrl-C unmounts')) child.kill('SIGTERM');
  });
  const code = await new Promise((resolve) => void child.once('close', resolve));
  assert.equal(code, 0);
  assertNothingLeft(stdout);
});

function assertNothingLeft(demoOutput: string): void {
  const name = /ebb-demo-\w+/.exec(demoOutput)?.[0] ?? '';
  assert.notEqual(name, '');
  assert.ok(!readdirSync(tmpdir()).includes(name));
  assert.ok(readMountInfo().every((mount) => !mount.mountPoint.includes(name)));
}
