/** Sentences of docs/semantics.md about names, facts, space and rights that no other test shows on a real mount. */
import assert from 'node:assert/strict';
import {
  chmod,
  chown,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
} from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { freshSources, mebibyte } from '../support/corpus.ts';
import { startLyingOriginProcess } from '../support/lying-origin.ts';
import { mountEbb, withEbb } from '../support/mount.ts';
import { run, runOk, said } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';

const stranger = { uid: 54_321, gid: 54_321 } as const;

let directory: TemporaryDirectory;

before(async () => {
  directory = await temporaryDirectory('promises');
  await chmod(directory.path, 0o755);
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

const freshSource = freshSources(() => directory.path);

test('a changed file is a new inode behind the same name; who has it open keeps the old bytes', async () => {
  const source = freshSource();
  source.text('file', 'old bytes\n');
  await withEbb({ remote: source.root, options: ['--ttl', '0'] }, async (mount) => {
    const file = path.join(mount.path, 'file');
    const script = `cat "$0" >/dev/null; exec 3<"$0"; before=$(stat -c %i "$0")
      printf 'new and longer\\n' > "$1/other"; mv "$1/other" "$1/file"
      cat "$0"; [ "$before" != "$(stat -c %i "$0")" ] || echo "the same inode"; cat <&3`;
    assert.equal(
      await said('/bin/sh', '-c', script, file, source.root),
      'new and longer\nold bytes',
    );
  });
});

test('inode numbers stay over a remount', async () => {
  const source = freshSource();
  for (const name of ['a', 'b', 'sub/c']) source.text(name, name);
  await using mount = await mountEbb({ remote: source.root });
  const inodes = (): Promise<string> => said('find', mount.path, '-printf', '%i %P\\n');
  const before = await inodes();
  await mount.unmount();
  await mount.remount();
  assert.equal(await inodes(), before);
});

test('names are trusted for the time to live; refresh asks at once', async () => {
  const source = freshSource();
  for (const name of ['stays', 'goes']) source.text(name, name);
  await withEbb({ remote: source.root, options: ['--ttl', '1h'] }, async (mount) => {
    assert.equal(await said('ls', mount.path), 'goes\nstays');
    source.text('comes', 'comes');
    await rm(source.at('goes'));
    assert.equal(await said('ls', mount.path), 'goes\nstays');
    assert.notEqual((await run('cat', [path.join(mount.path, 'comes')])).code, 0);
    const refreshed = await mount.ebb(['refresh', mount.path]);
    assert.equal(refreshed.code, 0, refreshed.stderr.toString());
    assert.equal(await said('ls', mount.path), 'comes\nstays');
    assert.equal(await said('cat', path.join(mount.path, 'comes')), 'comes');
    assert.notEqual((await run('cat', [path.join(mount.path, 'goes')])).code, 0);
  });
});

test('a size that the remote does not tell is learnt before it is shown', async () => {
  const source = freshSource();
  source.bytes('file.bin', 3 * mebibyte + 5);
  await using origin = await startLyingOriginProcess({ root: source.root });
  await origin.addRule({ fault: { kind: 'chunked' }, match: { path: '/file.bin' } });
  await withEbb({ remote: origin.url }, async (mount) => {
    const file = path.join(mount.path, 'file.bin');
    assert.equal(await said('stat', '-c', '%s', file), String(3 * mebibyte + 5));
    await runOk('cmp', [file, source.at('file.bin')]);
  });
});

test('attributes of the remote are shown and listed, those of Ebb are shown only', async () => {
  const source = freshSource();
  source.text('file', 'text');
  await runOk('setfattr', ['-n', 'user.color', '-v', 'blue', source.at('file')]);
  await withEbb({ remote: source.root }, async (mount) => {
    const file = path.join(mount.path, 'file');
    const all = await said('getfattr', '--absolute-names', '-d', '-m', '-', file);
    assert.match(all, /^user\.color="blue"$/m);
    assert.doesNotMatch(all, /user\.ebb/);
    const value = (name: string): Promise<string> =>
      said('getfattr', '--absolute-names', '--only-values', '-n', `user.ebb.${name}`, file);
    assert.equal(await value('state'), 'OFL');
    await runOk('cat', [file]);
    assert.equal(await value('state'), 'DUL');
    assert.equal(await value('size'), '4');
    assert.equal(await value('resident_bytes'), '4');
    assert.equal(await value('key'), 'file');
    assert.equal(await value('pinned'), '0');
    assert.notEqual((await run('getfattr', ['-n', 'user.ebb.nonsense', file])).code, 0);
    for (const name of ['security.selinux', 'system.posix_acl_access', 'trusted.other']) {
      const refused = await run('getfattr', ['-n', name, file]);
      assert.match(refused.stderr.toString(), /Operation not supported/, name);
    }
  });
});

test('modes and owners of a directory remote are checked by the kernel, for every user', async () => {
  const source = freshSource();
  for (const name of ['for-all', 'for-root']) source.text(name, name);
  await chmod(source.at('for-root'), 0o400);
  await chown(source.at('for-all'), 1234, 5678);
  await withEbb({ remote: source.root }, async (mount) => {
    const at = (name: string): string => path.join(mount.path, name);
    assert.equal(await said('stat', '-c', '%u %g %a', at('for-all')), '1234 5678 644');
    const read = (name: string) => run('cat', [at(name)], stranger);
    assert.equal((await read('for-all')).stdout.toString(), 'for-all');
    assert.match((await read('for-root')).stderr.toString(), /Permission denied/);
    const owned = await run('/bin/sh', ['-c', 'echo x >> "$0"', at('for-all')]);
    assert.match(owned.stderr.toString(), /Read-only file system/);
    const line = (await readFile('/proc/self/mountinfo', 'utf8'))
      .split('\n')
      .find((one) => one.includes(` ${mount.path} `));
    assert.match(line ?? '', / ro,nosuid,nodev,.* - fuse\.ebb /);
  });
});

test('where the remote has access control lists, nobody may more than they allow', async () => {
  const source = freshSource();
  const grants = {
    // The group bits of the mode are the mask, not what the group may.
    masked: 'u:1111:r,g::-,m::r,o::-',
    refused: 'u:54321:-,o::r',
    'refused-group': 'g:54321:-,o::r',
    allowed: 'u:1111:r,g::r,o::r',
  };
  for (const [name, entries] of Object.entries(grants)) {
    source.text(name, name);
    await chown(source.at(name), 0, name === 'masked' ? stranger.gid : 0);
    await runOk('setfacl', ['-m', entries, source.at(name)], { debianPackage: 'acl' });
  }
  source.text('closed/file', 'below');
  await runOk('setfacl', ['-m', 'u:54321:-', source.at('closed')]);
  await withEbb({ remote: source.root }, async (mount) => {
    const names = [...Object.keys(grants), 'closed/file'];
    const reads = async (directory: string): Promise<string[]> => {
      const all = names.map((name) => run('cat', [path.join(directory, name)], stranger));
      return (await Promise.all(all)).map(({ stdout }) => stdout.toString());
    };
    await chmod(path.dirname(source.root), 0o755);
    const expected = ['', '', '', 'allowed', ''];
    assert.deepEqual(await reads(source.root), expected, 'at the remote');
    assert.deepEqual(await reads(mount.path), expected, 'through the mount');
    await runOk(
      'cat',
      names.map((name) => path.join(mount.path, name)),
    );
    await mount.ebb(['refresh', mount.path, ...names.map((name) => path.join(mount.path, name))]);
    assert.deepEqual(await reads(mount.path), expected, 'when it is here');
  });
});

test('a web server has no modes and owners: those of the options are shown', async () => {
  const source = freshSource();
  source.text('sub/file', 'text');
  await using origin = await startLyingOriginProcess({ root: source.root });
  const options = ['--uid', '1234', '--gid', '5678', '--file-mode', '0640', '--dir-mode', '0750'];
  await withEbb({ remote: origin.url, options }, async (mount) => {
    const facts = await said(
      'stat',
      '-c',
      '%u %g %a',
      ...['sub', 'sub/file'].map((n) => path.join(mount.path, n)),
    );
    assert.equal(facts, '1234 5678 750\n1234 5678 640');
  });
});

test('--min-free is hard: a recall that would pass it ends in ENOSPC, names go on', async () => {
  const source = freshSource();
  source.bytes('file.bin', 2 * mebibyte);
  const options = ['--min-free', '4P', '--deadline', '5s'];
  await withEbb({ remote: source.root, options }, async (mount) => {
    const file = path.join(mount.path, 'file.bin');
    assert.match((await run('cat', [file])).stderr.toString(), /No space left on device/);
    assert.equal(await said('stat', '-c', '%s', file), String(2 * mebibyte));
  });
});

test('verify finds a changed byte of the cache', async () => {
  const source = freshSource();
  source.bytes('file.bin', 2 * mebibyte);
  await withEbb({ remote: source.root }, async (mount) => {
    const file = path.join(mount.path, 'file.bin');
    assert.equal((await mount.ebb(['get', file])).code, 0);
    const right = await mount.ebb(['verify', file]);
    assert.equal(right.code, 0, right.stderr.toString());
    const tree = path.join(mount.cacheDirectory, 'tree');
    const names = await readdir(tree, { recursive: true });
    const sizes = await Promise.all(names.map((name) => stat(path.join(tree, name))));
    const index = sizes.findIndex((facts) => facts.isFile() && facts.size === 2 * mebibyte);
    const cached = path.join(tree, names[index] ?? '');
    await runOk('dd', [
      'if=/dev/zero',
      `of=${cached}`,
      'bs=1',
      'seek=1234567',
      'count=9',
      'conv=notrunc',
    ]);
    const wrong = await mount.ebb(['verify', file]);
    assert.equal(wrong.code, 1);
    assert.match(wrong.stderr.toString(), /differ/);
  });
});

test('df shows the file system of the cache', async () => {
  const source = freshSource();
  source.text('file', 'text');
  await withEbb({ remote: source.root }, async (mount) => {
    const total = (place: string): Promise<string> => said('df', '-B1', '--output=size', place);
    assert.equal(await total(mount.path), await total(mount.cacheDirectory));
  });
});

test('a file that moves at the remote is gone at its old name and right at its new one', async () => {
  const source = freshSource();
  source.bytes('before.bin', 300_000);
  await withEbb({ remote: source.root, options: ['--ttl', '0'] }, async (mount) => {
    await runOk('cat', [path.join(mount.path, 'before.bin')]);
    await mkdir(source.at('sub'));
    await rename(source.at('before.bin'), source.at('sub/after.bin'));
    await runOk('cmp', [path.join(mount.path, 'sub/after.bin'), source.at('sub/after.bin')]);
    assert.notEqual((await run('cat', [path.join(mount.path, 'before.bin')])).code, 0);
  });
});

test('fstab: mount(8) finds ebb by the type of the file system, options are those of ebb mount', async () => {
  const source = freshSource();
  source.text('file', 'text');
  const point = path.join(directory.path, 'fstab-point');
  await mkdir(point);
  // mount.fuse3(8) looks for the program in the standard places only.
  const name = `ebb-test-${process.pid}`;
  const link = path.join('/usr/local/bin', name);
  const cache = path.join(directory.path, 'fstab-cache');
  const options = `ttl=5m,cache_dir=${cache},_netdev,nofail,x-systemd.automount`;
  try {
    await symlink(path.join(import.meta.dirname, '../../ebb'), link);
    await runOk('mount', ['-t', `fuse.${name}`, '-o', options, source.root, point]);
    assert.equal(await said('cat', path.join(point, 'file')), 'text');
  } finally {
    await rm(link, { force: true });
    await run('umount', [point]);
  }
});
