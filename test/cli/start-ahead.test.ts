/**
 * The broker of an image mount is started by the shell, before the command line is read (setup/broker-ahead.sh), where
 * that can be done, and by the CLI else: what becomes of it.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { ensureRunDirectory, runFiles } from '../../src/base/run-directory.ts';
import { waitFor } from '../support/wait-for.ts';
import { scratch } from './support.ts';

const launcher = path.join(import.meta.dirname, '../../ebb');
/** More than a shell has of its own, and can close. */
const foreignNumber = 40;
/** Whoever runs the tests may have left something open, too. */
const withoutForeign = `
  for fd in /proc/self/fd/*; do
    fd=\${fd##*/}
    case $fd in [0-9] | 255) ;; *) eval "exec $fd>&-" ;; esac
  done
  exec "$@"`;

interface Said {
  readonly code: number | null;
  readonly stderr: string;
}

/** `foreign`: the caller has something open that a broker must not keep, so that the shell starts none. */
async function ebb(
  words: readonly string[],
  runDirectory: string,
  { env = {}, foreign = false }: { env?: Readonly<Record<string, string>>; foreign?: boolean } = {},
): Promise<Said> {
  const nothing = openSync('/dev/null', 'r+');
  try {
    const more = foreign ? Array.from({ length: foreignNumber - 2 }, () => nothing) : [];
    const command = ['-c', foreign ? 'exec "$@"' : withoutForeign, 'bash', launcher, ...words];
    const child = spawn('bash', command, {
      env: { ...process.env, EBB_RUN_DIR: runDirectory, ...env },
      stdio: ['ignore', 'ignore', 'pipe', ...more],
    });
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    const { stderr } = child;
    assert.ok(stderr);
    return { stderr: await text(stderr), code: await ended };
  } finally {
    closeSync(nothing);
  }
}

/** Processes that were started with this run directory. */
function processesOf(runDirectory: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^[0-9]+$/.test(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/environ`, 'latin1')
        .split('\0')
        .includes(`EBB_RUN_DIR=${runDirectory}`);
    } catch {
      return false; // it has just ended
    }
  });
}

test('a command line that is refused leaves nothing of the broker that was started ahead', async () => {
  using directory = scratch();
  const runDirectory = ensureRunDirectory(path.join(directory.path, 'run'));
  const image = path.join(directory.path, 'disk.img');
  const missing = path.join(directory.path, 'missing');
  const refused: [string[], RegExp][] = [
    [['--wat', image, missing], /^ebb image mount: unknown option '--wat' \(ebb image --help\)\n$/],
    [['-o', 'rw', image, directory.path], /^ebb image mount: images are mounted read-only/],
    [
      ['http://127.0.0.1:9/a.img', missing],
      /^ebb image mount: the mount point .*missing does not exist/,
    ],
  ];
  for (const [words, sentence] of refused) {
    const { code, stderr } = await ebb(['image', 'mount', ...words], runDirectory);
    assert.equal(code, 2);
    assert.match(stderr, sentence);
    assert.deepEqual(readdirSync(runDirectory), []);
    await waitFor(() => processesOf(runDirectory).length === 0, { what: 'the end of the broker' });
  }
});

/** Says what it was started as, then what it was asked for, and dies. */
const dyingBroker = `
  import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
  import { text } from 'node:stream/consumers';
  const flagsOf = (fd) => /^flags:\\s+(\\d+)$/m.exec(readFileSync('/proc/self/fdinfo/' + fd, 'latin1'))[1];
  const { UV_THREADPOOL_SIZE, MALLOC_ARENA_MAX, MALLOC_MMAP_THRESHOLD_, EBB_STARTED_AHEAD } = process.env;
  const environment = { UV_THREADPOOL_SIZE, MALLOC_ARENA_MAX, MALLOC_MMAP_THRESHOLD_, EBB_STARTED_AHEAD };
  const way = readlinkSync('/proc/self/fd/0').replace(/:.*/, '');
  console.error(JSON.stringify({
    way,
    same: {
      cwd: process.cwd(),
      flags: process.execArgv,
      environment,
      leads: readFileSync('/proc/self/stat', 'latin1').split(') ')[1].split(' ')[3] === String(process.pid),
      appends: [1, 2].map((fd) => (Number.parseInt(flagsOf(fd), 8) & 0o2000) !== 0),
      foreign: readdirSync('/proc/self/fd').filter((fd) => fd >= 30).length,
      mask: process.umask(),
    },
    mountPoint: JSON.parse(await text(process.stdin)).mountPoint,
  }));
  process.exit(7);`;

test('who has started a broker makes no difference to it, and its log is that of its mount', async () => {
  using directory = scratch();
  const runDirectory = ensureRunDirectory(path.join(directory.path, 'run'));
  const script = path.join(directory.path, 'broker.mjs');
  writeFileSync(script, dyingBroker);
  const words = ['image', 'mount', path.join(directory.path, 'disk.img'), directory.path];
  const { log } = runFiles(directory.path, runDirectory);
  // Of a command that was killed: no process has this number.
  writeFileSync(path.join(runDirectory, `starting-${2 ** 22 + 1}.log`), '');
  const started: unknown[] = [];
  for (const foreign of [false, true]) {
    const options = { env: { EBB_IMAGE_MAIN: script }, foreign };
    const { code, stderr } = await ebb(words, runDirectory, options);
    assert.equal(code, 1, stderr);
    assert.match(stderr, /the daemon ended \(exit code 7\) before it had mounted anything/);
    const said = readFileSync(log, 'utf8');
    assert.ok(stderr.includes(`    ${said.trim()}\n`), stderr);
    const names = foreign ? [log, `${log}.1`] : [log];
    assert.deepEqual(
      readdirSync(runDirectory).map((name) => path.join(runDirectory, name)),
      names,
    );
    const { way, same, mountPoint } = JSON.parse(said) as Record<string, unknown>;
    assert.equal(mountPoint, directory.path);
    assert.equal(way, foreign ? 'socket' : 'pipe');
    started.push(same);
  }
  assert.deepEqual(started[0], started[1]);
});

test('a run directory that cannot be trusted is refused as for every other mount', async () => {
  using directory = scratch();
  const runDirectory = path.join(directory.path, 'run');
  writeFileSync(runDirectory, '');
  const words = ['image', 'mount', path.join(directory.path, 'disk.img'), directory.path];
  const { code, stderr } = await ebb(words, runDirectory);
  assert.equal(code, 1);
  assert.match(
    stderr,
    /^ebb image mount: .*run is not a directory: remove it, it may be an attack\.\n$/,
  );
});
