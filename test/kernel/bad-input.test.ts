/**
 * What users get wrong and what origins answer: each ends with the right exit code and a sentence, in time, with
 * nothing left mounted and no stack trace.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { makeCertificates } from '../support/certificates.ts';
import { CorpusWriter, hasControlCharacter, mebibyte } from '../support/corpus.ts';
import { fillManyEntries, hostileNames } from '../support/hostile-tree.ts';
import { mountEbb, runEbb, withEbb } from '../support/mount.ts';
import { killAtExit, killGroup, run } from '../support/run.ts';
import type { RunResult } from '../support/run.ts';
import { startNginx } from '../support/servers.ts';
import { loopFilesystem, mountsBelow, temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

let directory: TemporaryDirectory;
let source: string;

before(async () => {
  directory = await temporaryDirectory('bad');
  await chmod(directory.path, 0o755);
  source = path.join(directory.path, 'source');
  const writer = new CorpusWriter(source);
  writer.text('file.txt', 'content\n');
  writer.bytes('large.bin', 24 * mebibyte);
  for (const name of ['mnt', 'run', 'home']) await mkdir(path.join(directory.path, name));
  await chmod(path.join(directory.path, 'run'), 0o700);
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

function environment(): Record<string, string> {
  return {
    HOME: path.join(directory.path, 'home'),
    XDG_RUNTIME_DIR: path.join(directory.path, 'run'),
    XDG_CACHE_HOME: path.join(directory.path, 'home/.cache'),
  };
}

let tries = 0;

/** With a fresh cache each time, unless one is given. */
function tryMount(...parameters: string[]): Promise<RunResult> {
  tries += 1;
  const cache = ['--cache-dir', path.join(directory.path, `cache-${tries}`)];
  const withCache = parameters.includes('--cache-dir') ? [] : cache;
  return runEbb(['mount', ...withCache, ...parameters], { env: environment() });
}

const mountPoint = (): string => path.join(directory.path, 'mnt');

/** Refused with one of these exit codes and a sentence like this; nothing is mounted. */
async function assertRefused(result: RunResult, codes: number[], sentence: RegExp): Promise<void> {
  const said = `${result.stdout.toString()}${result.stderr.toString()}`;
  assert.ok(!result.timedOut, `ebb did not return: ${said}`);
  assert.ok(codes.includes(result.code ?? -1), `exit code ${result.code}: ${said}`);
  assert.match(result.stderr.toString(), sentence);
  assert.doesNotMatch(said, /\bat .*\.ts:\d+|node:internal/, 'a stack trace');
  assert.deepEqual(await mountsBelow(mountPoint()), [], 'something is mounted');
}

test('usage errors end with 2 and say what was wrong', async () => {
  const point = mountPoint();
  await assertRefused(await tryMount('--no-such-option', source, point), [2], /no-such-option/);
  await assertRefused(await tryMount('ftp://example.org/', point), [2], /ftp/);
  await assertRefused(await tryMount('http://', point), [1, 2], /URL/);
  await assertRefused(await tryMount(source), [2], /./);
  await assertRefused(await tryMount('--cache-size', 'much', source, point), [2], /much/);
  await assertRefused(await tryMount('--ttl', '-5', source, point), [2], /ttl|-5/);
  await assertRefused(await tryMount('--file-mode', '0999', source, point), [2], /0999/);
  const unknown = await runEbb(['no-such-verb'], { env: environment() });
  await assertRefused(unknown, [2], /no-such-verb/);
});

test('a mount point that is missing, no directory or busy is refused', async () => {
  const file = path.join(directory.path, 'a-file');
  await writeFile(file, '');
  const missing = path.join(directory.path, 'missing');
  await assertRefused(await tryMount(source, missing), [1, 2], /missing/);
  await assertRefused(await tryMount(source, file), [1, 2], /a-file/);
  await using mount = await mountEbb({ remote: source });
  const cache = path.join(directory.path, 'other-cache');
  const again = await mount.ebb(['mount', '--cache-dir', cache, source, mount.path]);
  assert.ok([1, 2, 3].includes(again.code ?? -1), again.stderr.toString());
  assert.equal((await mountsBelow(mount.path)).length, 1, 'mounted over itself');
  assert.ok(mount.alive());
});

test('a remote that is not there, or not for us, is refused with the reason', async () => {
  const point = mountPoint();
  await assertRefused(await tryMount(path.join(source, 'nowhere'), point), [1, 2], /nowhere/);
  await assertRefused(await tryMount(path.join(source, 'file.txt'), point), [1, 2], /file\.txt/);
  await assertRefused(await tryMount('http://127.0.0.1:9/', point), [1], /127\.0\.0\.1:9|refused/i);
  await using origin = await startNginx({
    root: source,
    extraConfig: 'location /secret/ { return 403; } location /login/ { return 401; }',
  });
  await assertRefused(
    await tryMount(`${origin.url}absent/`, point),
    [1],
    /404|not (found|there)|no such/i,
  );
  await assertRefused(
    await tryMount(`${origin.url}secret/`, point),
    [1],
    /403|forbidden|denied|not allowed/i,
  );
  await assertRefused(
    await tryMount(`${origin.url}login/`, point),
    [1],
    /401|password|denied|log ?in|credentials/i,
  );
  await assertRefused(
    await tryMount(`${origin.url}file.txt`, point),
    [1],
    /listing|directory|404/i,
  );
});

test('a mount that failed does not keep its cache from the right remote', async () => {
  const cache = path.join(directory.path, 'cache-of-a-failure');
  await assertRefused(
    await tryMount('--cache-dir', cache, 'http://127.0.0.1:9/', mountPoint()),
    [1],
    /./,
  );
  await withEbb({ remote: source, cacheDirectory: cache }, async (mount) => {
    assert.ok(mount.alive());
  });
});

test('a directory of somebody else does not become a cache, and loses nothing', async () => {
  for (const [name, file] of [
    ['spool', 'spool/mail'],
    ['tree', 'tree/0/1'],
    ['lock', 'lock'],
  ] as const) {
    const cache = path.join(directory.path, `theirs with ${name}`);
    await mkdir(path.dirname(path.join(cache, file)), { recursive: true });
    await writeFile(path.join(cache, file), 'mine');
    const result = await tryMount('--cache-dir', cache, source, mountPoint());
    await assertRefused(result, [1], /is not a cache of Ebb, and has something else called /);
    assert.deepEqual(await readdir(cache), [name]);
    assert.equal(await readFile(path.join(cache, file), 'utf8'), 'mine');
  }
});

test('a certificate that nobody vouches for is refused, and accepted with its authority', async () => {
  const tls = makeCertificates(path.join(directory.path, 'tls'));
  await using origin = await startNginx({ root: source, tls });
  await assertRefused(await tryMount(origin.url, mountPoint()), [1], /certificate/i);
  const options = ['--ca-file', tls.caFile];
  await withEbb({ remote: origin.url, options }, async (mount) => {
    assert.equal(
      (await run('cat', [path.join(mount.path, 'file.txt')])).stdout.toString(),
      'content\n',
    );
  });
});

test('a password never shows in status, process list or messages', async () => {
  const basicAuth = { user: 'reader', password: 'opensesame-42' };
  await using origin = await startNginx({ root: source, basicAuth });
  const url = origin.url.replace('http://', 'http://reader:opensesame-42@');
  await withEbb({ remote: url }, async (mount) => {
    assert.equal(
      (await run('cat', [path.join(mount.path, 'file.txt')])).stdout.toString(),
      'content\n',
    );
    const seen = [
      JSON.stringify(await mount.status()),
      (await run('cat', [`/proc/${mount.pid}/cmdline`])).stdout.toString(),
      (await run('cat', ['/proc/self/mountinfo'])).stdout.toString(),
      await mount.logTail(),
    ];
    for (const text of seen) assert.doesNotMatch(text, /opensesame/);
  });
  const wrong = await tryMount(url.replace('-42', '-43'), mountPoint());
  await assertRefused(wrong, [1], /401|password|denied|credentials/i);
  assert.doesNotMatch(wrong.stderr.toString(), /opensesame/);
});

test('a second daemon on the same cache is refused; the first one goes on', async () => {
  await using mount = await mountEbb({ remote: source });
  const result = await tryMount('--cache-dir', mount.cacheDirectory, source, mountPoint());
  await assertRefused(result, [1, 2, 3], /cache|in use|pid/i);
  const content = await run('cat', [path.join(mount.path, 'file.txt')]);
  assert.equal(content.stdout.toString(), 'content\n');
});

test('a cache on a read-only filesystem is refused', async () => {
  await using filesystem = await loopFilesystem({ type: 'ext4' });
  await run('mount', ['-o', 'remount,ro', filesystem.path]);
  const result = await tryMount(
    '--cache-dir',
    path.join(filesystem.path, 'c'),
    source,
    mountPoint(),
  );
  await assertRefused(result, [1, 2], /read-only/i);
});

test('a full cache filesystem gives an errno, never wrong bytes, and heals', async () => {
  await using filesystem = await loopFilesystem({ type: 'ext4', sizeBytes: 48 * mebibyte });
  const cacheDirectory = path.join(filesystem.path, 'cache');
  await mkdir(cacheDirectory);
  const filler = path.join(filesystem.path, 'filler');
  const options = ['--min-free', '0', '--deadline', '5s'];
  await withEbb({ remote: source, cacheDirectory, options }, async (mount) => {
    await run('dd', ['if=/dev/zero', `of=${filler}`, 'bs=1M', 'count=30']);
    const copy = path.join(directory.path, 'copy');
    const copied = await run('cp', [path.join(mount.path, 'large.bin'), copy], {
      timeoutMs: 20_000,
    });
    assert.ok(!copied.timedOut, 'a reader hangs on a full cache');
    assert.notEqual(copied.code, 0, 'reading claims to have worked on a full cache');
    assert.match(copied.stderr.toString(), /No space left|Input\/output error/);
    await run('rm', [filler]);
    // A machine may be so slow that the deadline passes.
    const isHealed = async (): Promise<boolean> => {
      const files = [path.join(mount.path, 'large.bin'), path.join(source, 'large.bin')];
      const { code, stdout } = await run('cmp', files);
      assert.equal(stdout.toString(), '', 'wrong bytes');
      return code === 0;
    };
    await waitFor(isHealed, { what: 'all of it to be right' });
  });
});

test('100,000 entries in one directory', async () => {
  const wide = path.join(directory.path, 'wide');
  fillManyEntries(wide, 100_000);
  await withEbb({ remote: wide, timeoutMs: 60_000 }, async (mount) => {
    const listed = await run('/bin/sh', ['-c', 'ls -f1 "$0" | grep -c entry-', mount.path], {
      timeoutMs: 60_000,
    });
    assert.equal(listed.stdout.toString().trim(), '100000');
    const found = await run('find', [mount.path, '-name', 'entry-99999', '-size', '0']);
    assert.match(found.stdout.toString(), /entry-99999\n$/);
  });
});

test('names with control characters on a web server do no harm to others', async () => {
  const odd = path.join(directory.path, 'odd');
  const writer = new CorpusWriter(odd);
  for (const name of hostileNames) writer.text(name, name);
  await using origin = await startNginx({ root: odd });
  await withEbb({ remote: origin.url }, async (mount) => {
    for (const name of hostileNames.filter((each) => !each.startsWith('.'))) {
      const result = await run('cat', ['--', path.join(mount.path, name)]);
      const absent = result.code !== 0 && hasControlCharacter(name);
      if (!absent) assert.equal(result.stdout.toString(), name, JSON.stringify(name));
    }
    assert.equal((await run('ls', ['-lA', mount.path])).code, 0);
  });
});

test('umount of a busy mount says who holds it, then works', async () => {
  await using mount = await mountEbb({ remote: source });
  const holder = spawn('sleep', ['600'], { cwd: mount.path, detached: true, stdio: 'ignore' });
  killAtExit(holder);
  try {
    const busy = await mount.ebb(['umount', mount.path]);
    assert.notEqual(busy.code, 0, 'a busy mount was unmounted');
    assert.match(busy.stderr.toString(), new RegExp(`\\b${holder.pid}\\b`));
    assert.match(busy.stderr.toString(), /sleep/);
    assert.ok(mount.alive());
  } finally {
    const ended = once(holder, 'exit');
    killGroup(holder);
    await ended;
  }
  await mount.unmount();
});

test('umount of what is not mounted is refused', async () => {
  await assertRefused(await runEbb(['umount', mountPoint()], { env: environment() }), [1, 2], /./);
});
