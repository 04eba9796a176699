/** Start and end of a daemon under bad luck: it never stays half-started, half-mounted or half-dead. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createServer as createSocketServer } from 'node:net';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { mountAt, readMountInfo } from '../../src/base/mount-info.ts';
import { ensureRunDirectory, runFiles } from '../../src/base/run-directory.ts';
import type { StartResult } from '../../src/daemon/start-api.ts';
import { childrenOf, processLives } from '../support/processes.ts';
import { killAtExit } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const main = path.join(import.meta.dirname, '../../src/supervisor/mount-main.ts');

interface Started {
  readonly child: ChildProcess;
  readonly result: Promise<StartResult | undefined>;
  readonly ended: Promise<number | null>;
}

function start(
  directory: string,
  configuration: Readonly<Record<string, unknown>>,
  stderr: 'ignore' | 'inherit' | number = 'ignore',
): Started {
  const child = spawn(process.execPath, [main], {
    stdio: ['pipe', 'ignore', stderr, 'pipe'],
    env: { ...process.env, XDG_RUNTIME_DIR: path.join(directory, 'run') },
    detached: true,
  });
  killAtExit(child);
  const mountPoint = path.join(directory, 'mnt');
  const cacheDirectory = path.join(directory, 'cache');
  child.stdin?.end(JSON.stringify({ mountPoint, cacheDirectory, ...configuration }));
  const output = child.stdio[3];
  assert.ok(output !== null && output !== undefined && 'readable' in output);
  return {
    child,
    result: text(output).then((line) =>
      line === '' ? undefined : (JSON.parse(line) as StartResult),
    ),
    ended: new Promise((resolve) => child.once('exit', (code) => resolve(code))),
  };
}

async function place() {
  const temporary = await temporaryDirectory('life');
  const at = (name: string): string => path.join(temporary.path, name);
  mkdirSync(at('mnt'));
  mkdirSync(at('run'), { mode: 0o700 });
  mkdirSync(at('remote'));
  writeFileSync(at('remote/f'), 'content');
  return { temporary, at };
}

for (const [what, prepare, code] of [
  ['waits for its remote', () => undefined, 'EINTR'],
  ['does nothing any more', (pid: number) => process.kill(pid, 'SIGSTOP'), 'EIO'],
] as const) {
  test(`a signal ends a start that ${what}, and nothing is left`, async () => {
    const { temporary, at } = await place();
    await using _temporary = temporary;
    const hanging = createServer(() => undefined);
    const asked = new Promise<void>((resolve) => hanging.once('request', () => resolve()));
    await new Promise<void>((resolve) => hanging.listen(0, '127.0.0.1', resolve));
    try {
      const { port } = hanging.address() as AddressInfo;
      const supervisor = start(temporary.path, { remote: `http://127.0.0.1:${port}/` });
      await asked;
      const daemons = childrenOf(supervisor.child.pid ?? 0);
      for (const pid of daemons) prepare(pid);
      supervisor.child.kill('SIGTERM');
      const result = await supervisor.result;
      assert.ok(result?.ok === false, JSON.stringify(result));
      assert.equal(result.code, code);
      assert.equal(await supervisor.ended, 1);
      assert.equal(mountAt(readMountInfo(), at('mnt')), undefined);
      assert.deepEqual(daemons.filter(processLives), []);
    } finally {
      hanging.closeAllConnections();
      hanging.close();
    }
  });
}

test('a mount whose record cannot be written is taken away again', async () => {
  const { temporary, at } = await place();
  await using _temporary = temporary;
  const { record } = runFiles(at('mnt'), ensureRunDirectory());
  mkdirSync(path.join(record, 'in the way'), { recursive: true });
  try {
    const daemon = start(temporary.path, { remote: at('remote') });
    const result = await daemon.result;
    assert.ok(result?.ok === false, JSON.stringify(result));
    assert.match(result.error, /^The record .*json cannot be written: /);
    assert.equal(await daemon.ended, 1);
    assert.equal(mountAt(readMountInfo(), at('mnt')), undefined);
    const name = path.basename(record);
    const left = readdirSync(path.dirname(record)).filter((one) => one.startsWith(name));
    assert.deepEqual(left, [name]);
  } finally {
    rmSync(record, { recursive: true });
  }
});

test('a start that fails after mounting takes the mount away and ends', async () => {
  const { temporary, at } = await place();
  await using _temporary = temporary;
  process.env['XDG_RUNTIME_DIR'] = at('run');
  const files = runFiles(at('mnt'), ensureRunDirectory());
  const squatter = createSocketServer();
  await new Promise<void>((resolve) => squatter.listen(files.socket, resolve));
  try {
    const daemon = start(temporary.path, { remote: at('remote'), cacheSizeBytes: 1_000_000 });
    const result = await daemon.result;
    assert.ok(result?.ok === false, JSON.stringify(result));
    assert.equal(result.code, 'EADDRINUSE');
    assert.equal(await daemon.ended, 1);
    assert.equal(mountAt(readMountInfo(), at('mnt')), undefined);
  } finally {
    squatter.close();
  }
  const daemon = start(temporary.path, { remote: at('remote') });
  const result = await daemon.result;
  assert.ok(result?.ok === true, JSON.stringify(result));
  assert.equal(await readFile(at('mnt/f'), 'utf8'), 'content');
  daemon.child.kill('SIGTERM');
  assert.equal(await daemon.ended, 0);
});

test('a first start that fails leaves the cache directory as it was', async () => {
  const { temporary, at } = await place();
  await using _temporary = temporary;
  const cache = at('cache');
  const fails = async (): Promise<void> => {
    const { result, ended } = start(temporary.path, { remote: 'http://127.0.0.1:9/', retries: 0 });
    const answer = await result;
    assert.ok(answer?.ok === false);
    assert.match(answer.error, /nobody listens/);
    assert.equal(await ended, 1);
  };
  await fails();
  assert.equal(existsSync(cache), false);
  mkdirSync(cache);
  await fails();
  assert.deepEqual(readdirSync(cache), []);
  writeFileSync(path.join(cache, 'notes'), 'mine');
  await fails();
  assert.deepEqual(readFileSync(path.join(cache, 'notes'), 'utf8'), 'mine');
  assert.ok(!readdirSync(cache).includes('ebb-tree.json'), 'it belongs to no remote yet');
  // Content whose catalog was lost stays: a later mount takes it up.
  const facts = { format: 1, treeId: randomUUID(), remote: 'http://127.0.0.1:9' };
  writeFileSync(path.join(cache, 'ebb-tree.json'), JSON.stringify(facts));
  mkdirSync(path.join(cache, 'tree/0'), { recursive: true });
  writeFileSync(path.join(cache, 'tree/0/7'), 'content');
  await fails();
  assert.ok(readdirSync(cache).includes('ebb-tree.json'));
  assert.equal(readFileSync(path.join(cache, 'tree/0/7'), 'utf8'), 'content');
});

test('a second daemon on the same cache is refused and says who has it', async () => {
  const { temporary, at } = await place();
  await using _temporary = temporary;
  mkdirSync(at('other'));
  const first = start(temporary.path, { remote: at('remote') });
  assert.ok((await first.result)?.ok === true);
  const second = start(temporary.path, { remote: at('remote'), mountPoint: at('other') });
  const result = await second.result;
  assert.ok(result?.ok === false);
  const daemons = childrenOf(first.child.pid ?? 0).join('|');
  assert.match(result.error, new RegExp(`pid (${daemons})\\b`));
  assert.equal(await second.ended, 3);
  assert.equal(mountAt(readMountInfo(), at('other')), undefined);
  first.child.kill('SIGTERM');
  assert.equal(await first.ended, 0);
});

test('a log on a full disk does not end the mount', async () => {
  const { temporary, at } = await place();
  await using _temporary = temporary;
  const full = openSync('/dev/full', 'w');
  try {
    const daemon = start(temporary.path, { remote: at('remote'), logLevel: 'debug' }, full);
    const result = await daemon.result;
    assert.ok(result?.ok === true, JSON.stringify(result));
    assert.equal(await readFile(at('mnt/f'), 'utf8'), 'content');
    daemon.child.kill('SIGTERM');
    assert.equal(await daemon.ended, 0);
  } finally {
    closeSync(full);
  }
});

test('two signals end it once; the mount point is free afterwards', async () => {
  const { temporary, at } = await place();
  await using _temporary = temporary;
  const daemon = start(temporary.path, { remote: at('remote') });
  assert.ok((await daemon.result)?.ok === true);
  daemon.child.kill('SIGTERM');
  daemon.child.kill('SIGINT');
  assert.equal(await daemon.ended, 0);
  await waitFor(() => mountAt(readMountInfo(), at('mnt')) === undefined, { what: 'the unmount' });
});
