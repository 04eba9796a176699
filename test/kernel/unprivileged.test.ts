/**
 * Everything without root: a user with nothing but fusermount3, a home directory and a cache mounts, reads, fetches,
 * releases and unmounts. The test itself needs root only to become that user.
 */
import assert from 'node:assert/strict';
import { chmod, chown, mkdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { compileHelper } from '../probes/probe.ts';
import { buildCorpus } from '../support/corpus.ts';
import { startStress } from '../support/hammer.ts';
import { withEbb } from '../support/mount.ts';
import type { EbbMount } from '../support/mount.ts';
import { openFuseToEverybody } from '../support/fuse-device.ts';
import { dropPages } from '../support/kernel-caches.ts';
import { requireProgram, run, runOk } from '../support/run.ts';
import type { RunResult } from '../support/run.ts';
import { startNginx } from '../support/servers.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { ebbAttributes } from '../support/virtual-attributes.ts';

/** `nobody`: fusermount3 insists on an account with a name. */
const user = { uid: 65_534, gid: 65_534 } as const;

let directory: TemporaryDirectory;
let source: string;

before(async () => {
  assert.equal(process.getuid?.(), 0, 'this test becomes another user: it needs root');
  await requireProgram('fusermount3', 'fuse3');
  await openFuseToEverybody();
  directory = await temporaryDirectory('unprivileged');
  await chmod(directory.path, 0o755);
  source = path.join(directory.path, 'source');
  await mkdir(source);
  buildCorpus(source);
  const program = path.join(source, 'program');
  await runOk('cp', ['/bin/true', program]);
  await chmod(program, 0o755);
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

function asUser(mount: EbbMount, script: string): Promise<RunResult> {
  const text = `cd "$MOUNT" || exit 126\n${script}`;
  const env = { MOUNT: mount.path, SOURCE: source };
  return run('/bin/sh', ['-c', text], { ...user, env, timeoutMs: 60_000 });
}

async function okAsUser(mount: EbbMount, script: string): Promise<string> {
  const result = await asUser(mount, script);
  assert.equal(result.code, 0, `${script}\n${result.stdout.toString()}${result.stderr.toString()}`);
  return result.stdout.toString().trim();
}

async function ebbOk(mount: EbbMount, ...parameters: string[]): Promise<string> {
  const result = await mount.ebb(parameters);
  const said = `${result.stdout.toString()}${result.stderr.toString()}`;
  assert.equal(result.code, 0, `ebb ${parameters.join(' ')}: ${said}`);
  return said;
}

/** The whole life of a mount. */
async function wholeFlow(mount: EbbMount): Promise<void> {
  const status = await mount.status();
  assert.equal(status.privileged, false);
  assert.equal(status.passthrough, false, 'passthrough needs CAP_SYS_ADMIN');
  const facts = await readFile(`/proc/${mount.pid}/status`, 'utf8');
  assert.match(facts, new RegExp(`^Uid:\\s+${user.uid}\\s+${user.uid}\\s+${user.uid}`, 'm'));
  assert.match(facts, /^CapEff:\s+0+$/m);

  await okAsUser(mount, 'diff -r . "$SOURCE"');
  await okAsUser(mount, './program');
  const refused = await asUser(mount, 'echo x > new');
  assert.notEqual(refused.code, 0);
  assert.match(refused.stderr.toString(), /Read-only file system|Permission denied/);

  const file = path.join(mount.path, 'large/forty.bin');
  const state = async (): Promise<string | undefined> =>
    (await ebbAttributes(mount.path, ['large/forty.bin'], 'state', user)).get('large/forty.bin');
  assert.equal(await state(), 'DUL');
  await ebbOk(mount, 'release', file);
  assert.equal(await state(), 'OFL');
  // What the page cache still has needs no recall.
  await dropPages(file, user);
  await okAsUser(
    mount,
    'tail -c 10 large/forty.bin | cmp - "$SOURCE/large/forty.bin" -i 0:41943030',
  );
  assert.equal(await state(), 'PAR');
  await ebbOk(mount, 'get', file);
  assert.equal(await state(), 'DUL');
  await ebbOk(mount, 'pin', file);
  assert.equal((await mount.ebb(['release', file])).code, 3, 'a pinned file was released');
  await ebbOk(mount, 'unpin', file);
  await ebbOk(mount, 'explain', file);
  await ebbOk(mount, 'ls', '-R', mount.path);
  await okAsUser(mount, 'diff -r . "$SOURCE"');
}

async function assertPrivate(mount: EbbMount): Promise<void> {
  // FUSE without allow_other: not even root may look.
  const result = await run('ls', [mount.path], { timeoutMs: 10_000 });
  assert.notEqual(result.code, 0, 'root can see a private mount');
  const other = await run('ls', [mount.path], { uid: 54_322, gid: 54_322, timeoutMs: 10_000 });
  assert.notEqual(other.code, 0, 'another user can see a private mount');
  const cache = await stat(mount.cacheDirectory);
  assert.equal(cache.uid, user.uid);
}

test('a user without rights has the whole of it, over a directory', async () => {
  await withEbb({ remote: source, user }, async (mount) => {
    await wholeFlow(mount);
    await assertPrivate(mount);
    await mount.unmount();
    await mount.remount();
    await okAsUser(mount, 'diff -r . "$SOURCE"');
    await mount.unmount();
  });
});

test('a user without rights has the whole of it, over HTTP', async () => {
  await using origin = await startNginx({ root: source });
  const options = ['--file-mode', '0555'];
  await withEbb({ remote: origin.url, options, user }, async (mount) => {
    await wholeFlow(mount);
    await mount.unmount();
  });
});

test('readers of that user, with the daemon killed under them, see no wrong byte', async () => {
  const helper = await compileHelper(directory.path, 'hammer');
  await using origin = await startNginx({ root: source });
  const cacheDirectory = path.join(directory.path, 'cache');
  await mkdir(cacheDirectory);
  await chown(cacheDirectory, user.uid, user.gid);
  await withEbb({ remote: origin.url, user, cacheDirectory }, async (mount) => {
    const names = ['large/forty.bin', 'lines.txt', 'mixed/noise-5m.bin', 'mixed/hole-middle.bin'];
    const place = { helper, mount: mount.path, source, names, ...user };
    await using stress = startStress({ ...place, readers: 4, seconds: 1, seed: 7 });
    for (const report of await stress.finish(30_000)) {
      assert.equal(report.wrong, undefined);
      assert.deepEqual(report.errors, {});
    }
    await using again = startStress({ ...place, readers: 4, seconds: 60, seed: 8 });
    await sleep(300);
    await mount.killAll();
    for (const report of await again.stop()) assert.equal(report.wrong, undefined);
    const cleaned = await mount.ebb(['umount', mount.path]);
    assert.equal(cleaned.code, 0, `a user cannot clean up: ${cleaned.stderr.toString()}`);
    await mount.remount();
    await okAsUser(mount, names.map((name) => `cmp ${name} "$SOURCE/${name}"`).join(' && '));
  });
});
