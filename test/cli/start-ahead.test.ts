/** The broker of an image mount starts before the command line is parsed: what becomes of it. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { ensureRunDirectory, runFiles } from '../../src/base/run-directory.ts';
import { waitFor } from '../support/wait-for.ts';
import { ebb, scratch } from './support.ts';

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
  const runDirectory = path.join(directory.path, 'run');
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
    const { code, stderr } = await ebb(['image', 'mount', ...words], { runDirectory });
    assert.equal(code, 2);
    assert.match(stderr, sentence);
    assert.deepEqual(readdirSync(runDirectory), []);
    await waitFor(() => processesOf(runDirectory).length === 0, { what: 'the end of the broker' });
  }
});

test('a broker that was started ahead writes to the log of its mount', async () => {
  using directory = scratch();
  const runDirectory = path.join(directory.path, 'run');
  const script = path.join(directory.path, 'broker.mjs');
  const dying = `
    import { text } from 'node:stream/consumers';
    console.error('asked for', JSON.parse(await text(process.stdin)).mountPoint);
    process.exit(7);`;
  writeFileSync(script, dying);
  const options = { runDirectory, env: { EBB_IMAGE_MAIN: script } };
  const words = ['image', 'mount', path.join(directory.path, 'disk.img'), directory.path];
  const { log } = runFiles(directory.path, runDirectory);
  // Of a command that was killed: no process has this number.
  writeFileSync(path.join(ensureRunDirectory(runDirectory), `starting-${2 ** 22 + 1}.log`), '');
  for (const names of [[log], [log, `${log}.1`]]) {
    const { code, stderr } = await ebb(words, options);
    assert.equal(code, 1);
    assert.match(stderr, /the daemon ended \(exit code 7\) before it had mounted anything/);
    assert.ok(stderr.includes(`    asked for ${directory.path}\n`), stderr);
    assert.deepEqual(
      readdirSync(runDirectory).map((name) => path.join(runDirectory, name)),
      names,
    );
  }
});

test('a run directory that cannot be trusted is refused as for every other mount', async () => {
  using directory = scratch();
  const runDirectory = path.join(directory.path, 'run');
  writeFileSync(runDirectory, '');
  const words = ['image', 'mount', path.join(directory.path, 'disk.img'), directory.path];
  const { code, stderr } = await ebb(words, { runDirectory });
  assert.equal(code, 1);
  assert.match(
    stderr,
    /^ebb image mount: .*run is not a directory: remove it, it may be an attack\.\n$/,
  );
});
