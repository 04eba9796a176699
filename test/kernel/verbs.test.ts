/** What the verbs do on a real mount: release, refresh, find, du, and options of mount that take something away. */
import assert from 'node:assert/strict';
import { chmod, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { compileHelper } from '../probes/probe.ts';
import { freshSources, mebibyte } from '../support/corpus.ts';
import { ServingHammer } from '../support/hammer.ts';
import { startLyingOriginProcess } from '../support/lying-origin.ts';
import { runEbb, withEbb } from '../support/mount.ts';
import { run, runOk, said } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const stranger = { uid: 54_321, gid: 54_321 } as const;

let directory: TemporaryDirectory;
let helper: string;

before(async () => {
  directory = await temporaryDirectory('verbs');
  await chmod(directory.path, 0o755);
  helper = await compileHelper(directory.path, 'hammer');
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

const freshSource = freshSources(() => directory.path);

/** The options in the mount table. */
async function flagsOf(point: string): Promise<string> {
  const table = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n');
  return table.find((line) => line.includes(` ${point} `))?.split(' ')[5] ?? '';
}

test('a file that was just closed can be released, and is recalled again by the next read', async () => {
  const source = freshSource();
  source.bytes('file.bin', 3 * mebibyte);
  await withEbb({ remote: source.root, options: ['--no-passthrough'] }, async (mount) => {
    const file = path.join(mount.path, 'file.bin');
    const pages = async (): Promise<number> =>
      Number(await said('fincore', '--bytes', '--noheadings', '--output', 'PAGES', file));
    for (let round = 0; round < 20; round += 1) {
      await runOk('cmp', [file, source.at('file.bin')]);
      const released = await mount.ebb(['release', file]);
      assert.equal(released.code, 0, released.stderr.toString());
    }
    await waitFor(async () => (await pages()) === 0, { what: 'the page cache to be emptied' });
    await runOk('cmp', [file, source.at('file.bin')]);
    const state = await said('getfattr', '--only-values', '-n', 'user.ebb.state', file);
    assert.equal(state, 'DUL');
    using hammer = new ServingHammer(helper);
    assert.equal(await hammer.ask(`open 0 ${file} ${source.at('file.bin')}`), 'ok 0');
    const refused = await mount.ebb(['release', file]);
    assert.equal(refused.code, 3);
    assert.match(refused.stderr.toString(), /is open through the mount/);
    assert.equal((await mount.ebb(['release', '-n', file])).code, 3);
    const why = (await mount.ebb(['explain', file])).stdout.toString();
    assert.match(why, /open +once, by pid \d+ \(\w+\)/);
    assert.match(why, /release +refused now: .*is open through the mount/);
    assert.equal(await hammer.ask('close 0'), 'ok 0');
    const isPossible = async (): Promise<boolean> =>
      /release +possible now/.test((await mount.ebb(['explain', file])).stdout.toString());
    await waitFor(isPossible, { what: 'the close to be known' });
  });
});

test('noexec holds; nosuid and nodev always do', async () => {
  const source = freshSource();
  source.text('script', '#!/bin/sh\necho ran\n');
  await chmod(source.at('script'), 0o755);
  for (const options of [
    ['-o', 'noexec,nosuid'],
    ['--noexec', '--unprivileged'],
  ]) {
    await withEbb({ remote: source.root, options }, async (mount) => {
      const script = path.join(mount.path, 'script');
      assert.equal(await said('/bin/sh', script), 'ran');
      const refused = await run('/bin/sh', ['-c', 'exec "$0"', script]);
      assert.match(refused.stderr.toString(), /Permission denied/);
      assert.match(await flagsOf(mount.path), /^ro,nosuid,nodev,noexec,/);
    });
  }
});

test('--no-allow-other keeps other users out of a mount by root', async () => {
  const source = freshSource();
  source.text('file', 'text');
  await withEbb({ remote: source.root, options: ['--no-allow-other'] }, async (mount) => {
    assert.equal(await said('cat', path.join(mount.path, 'file')), 'text');
    const other = await run('cat', [path.join(mount.path, 'file')], stranger);
    assert.match(other.stderr.toString(), /Permission denied/);
    const umount = await runEbb(['umount', mount.path], stranger);
    assert.equal(umount.code, 1);
    assert.equal(
      umount.stderr.toString(),
      `ebb umount: ${mount.path} is a mount of user 0, not yours.\n`,
    );
  });
});

test('find, ls -R and du show what is known and ask nothing; --deep lists all', async () => {
  const source = freshSource();
  source.text('top', '12345');
  source.text('sub/deep/file', '1234567');
  await using origin = await startLyingOriginProcess({ root: source.root });
  await withEbb({ remote: origin.url }, async (mount) => {
    await origin.clearLog();
    const out = async (...words: string[]): Promise<string> => {
      const { code, stdout, stderr } = await mount.ebb(words);
      assert.equal(code, 0, stderr.toString());
      return stdout.toString().trim();
    };
    const at = (name: string): string => path.join(mount.path, name);
    assert.deepEqual((await out('find', mount.path)).split('\n'), [at('sub'), at('top')]);
    assert.equal((await out('ls', '-R', mount.path)).split('\n').length, 2);
    const [short, long] = [await out('du', '-s', mount.path), await out('du', mount.path)];
    assert.equal(short, long.split('\n').at(-1)?.trim());
    assert.match(short, /^5\+ +0 /, 'at least');
    for (const words of [[], ['-s']]) {
      assert.match(await out('du', ...words, at('sub')), /^0\+ +0 /, 'nobody has listed it');
    }
    assert.equal((await origin.counters()).requests, 0, 'the remote was asked');
    const deep = (await out('find', '--deep', mount.path)).split('\n');
    assert.deepEqual(deep, [at('sub'), at('sub/deep'), at('sub/deep/file'), at('top')]);
    assert.equal((await out('find', mount.path)).split('\n').length, 4);
    for (const file of ['top', 'sub/deep/file']) await runOk('cat', [at(file)]);
    const sums = [await out('du', '-s', mount.path), await out('du', mount.path)];
    assert.match(sums[0] ?? '', /^12 +12 /);
    assert.equal(sums[0], sums[1]?.split('\n').at(-1)?.trim());
  });
});

test('refresh: patterns, reasons, and nothing with -n', async () => {
  const source = freshSource();
  for (const name of ['a.txt', 'b.txt', 'sub/c.txt']) source.text(name, 'old');
  await using origin = await startLyingOriginProcess({ root: source.root });
  await withEbb({ remote: origin.url, options: ['--ttl', '1h'] }, async (mount) => {
    const at = (name: string): string => path.join(mount.path, name);
    const refresh = (...words: string[]) => mount.ebb(['refresh', ...words]);
    await said('find', mount.path);
    assert.equal(await said('cat', at('a.txt')), 'old');
    source.text('a.txt', 'newer');
    await origin.clearLog();
    const dry = await refresh('-n', at('*.txt'), at('sub'));
    assert.match(dry.stdout.toString(), /a\.txt: would be refreshed\n/);
    assert.match(dry.stdout.toString(), /^3 entries would be refreshed/m);
    assert.equal((await origin.counters()).requests, 0);
    assert.equal(await said('cat', at('a.txt')), 'old');
    const done = await refresh(at('**/*.txt'));
    assert.equal(done.code, 0, done.stderr.toString());
    assert.match(done.stdout.toString(), /^3 entries refreshed, 1 updated$/m);
    assert.equal(await said('cat', at('a.txt')), 'newer');
    source.text('d.txt', 'new');
    source.text('sub/c.txt', 'other');
    await rm(path.join(source.root, 'b.txt'));
    const listed = await refresh(mount.path, at('sub'));
    assert.match(listed.stdout.toString(), /: refreshed, 1 new, 1 gone\n/);
    assert.match(listed.stdout.toString(), /^2 entries refreshed, 1 new, 1 updated, 1 gone$/m);
    source.text('b.txt', 'back');
    await refresh(mount.path);
    assert.match(
      (await mount.ebb(['get', mount.path])).stdout.toString(),
      /^3 files fetched \(1 here already\), 12 B in /m,
    );
    const none = await refresh(at('*.nothing'));
    assert.equal(none.code, 1);
    const some = await refresh(at('b.txt'), at('missing'));
    assert.equal(some.code, 1);
    assert.match(some.stderr.toString(), /missing: no such file or directory/);
    assert.match(some.stdout.toString(), /1 entry refreshed, no changes seen, 1 failed/);
    await origin.stopListening();
    const down = await refresh(at('b.txt'));
    assert.equal(down.code, 1);
    assert.match(down.stderr.toString(), /b\.txt: .*connection refused/i);
  });
});
