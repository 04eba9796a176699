/**
 * Run as `node posix-basics.ts DIRECTORY` by another process than the server: what POSIX promises
 * of files.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

const root = process.argv[2] ?? '';
const at = (...names: string[]): string => path.join(root, ...names);
const fails = (code: string, work: () => unknown): void => {
  assert.throws(work, (error: NodeJS.ErrnoException) => error.code === code, code);
};

function files(): void {
  fs.writeFileSync(at('file'), 'hello');
  fs.appendFileSync(at('file'), ' world');
  assert.equal(fs.readFileSync(at('file'), 'utf8'), 'hello world');
  fails('EEXIST', () => fs.openSync(at('file'), 'wx'));
  fails('ENOENT', () => fs.readFileSync(at('missing')));
  fails('ENOTDIR', () => fs.readFileSync(at('file', 'below')));
  fails('ENAMETOOLONG', () => fs.writeFileSync(at('n'.repeat(256)), ''));
  fs.truncateSync(at('file'), 5);
  assert.equal(fs.readFileSync(at('file'), 'utf8'), 'hello');
  fs.truncateSync(at('file'), 8);
  assert.deepEqual(fs.readFileSync(at('file')), Buffer.from('hello\0\0\0'));
  fails('EFBIG', () => fs.truncateSync(at('file'), 2 ** 52));
  fs.writeFileSync(at('file'), 'short');
  assert.equal(fs.statSync(at('file')).size, 5, 'O_TRUNC');

  const big = Buffer.alloc(5 * 1024 * 1024 + 17, 'abcdefg');
  fs.writeFileSync(at('big'), big);
  assert.ok(big.equals(fs.readFileSync(at('big'))));
  const fd = fs.openSync(at('big'), 'r+');
  fs.writeSync(fd, 'XYZ', 1_000_001);
  const part = Buffer.alloc(5);
  fs.readSync(fd, part, 0, 5, 1_000_000);
  assert.equal(part.subarray(1, 4).toString(), 'XYZ');
  fs.unlinkSync(at('big'));
  assert.equal(fs.readSync(fd, part, 0, 5, 1_000_000), 5, 'open files outlive their name');
  assert.equal(fs.fstatSync(fd).nlink, 0);
  fs.fsyncSync(fd);
  fs.closeSync(fd);
}

function attributes(): void {
  fs.chmodSync(at('file'), 0o604);
  assert.equal(fs.statSync(at('file')).mode & 0o7777, 0o604);
  fs.utimesSync(at('file'), 1, 1_700_000_000.25);
  execFileSync('touch', ['-a', '-d', '1969-12-31T23:59:58.5Z', at('file')]);
  const { atimeMs, mtimeMs } = fs.statSync(at('file'));
  assert.deepEqual([atimeMs, mtimeMs], [-1500, 1_700_000_000_250]);
  const { bsize, files: count } = fs.statfsSync(root);
  assert.deepEqual([bsize, count], [4096, 1_000_000]);
  if (process.getuid?.() === 0) {
    fs.chownSync(at('file'), 12, 34);
    assert.deepEqual([fs.statSync(at('file')).uid, fs.statSync(at('file')).gid], [12, 34]);
  }
}

function directories(): void {
  fs.mkdirSync(at('dir'));
  fails('EEXIST', () => fs.mkdirSync(at('dir')));
  fs.mkdirSync(at('dir', 'sub'));
  assert.equal(fs.statSync(at('dir')).nlink, 3);
  fails('ENOTEMPTY', () => fs.rmdirSync(at('dir')));
  fails('ENOTDIR', () => fs.rmdirSync(at('file')));
  fs.rmdirSync(at('dir', 'sub'));
  const names = Array.from(
    { length: 1500 },
    (_, index) => `entry ${index} ${'x'.repeat(index % 90)}`,
  );
  for (const name of names) fs.writeFileSync(at('dir', name), name);
  assert.deepEqual(fs.readdirSync(at('dir')).sort(), [...names].sort());
  const kinds = fs.readdirSync(at('dir'), { withFileTypes: true });
  assert.ok(kinds.every((entry) => entry.isFile()));
  const listed = execFileSync('ls', ['-l', at('dir')], { encoding: 'utf8' });
  assert.equal(listed.trim().split('\n').length, names.length + 1);
  fs.rmSync(at('dir'), { recursive: true });
  fails('ENOENT', () => fs.statSync(at('dir')));
  const raw = Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xff, 0xfe, 0x41])]);
  fs.writeFileSync(raw, 'bytes');
  const found = fs.readdirSync(root, { encoding: 'buffer' });
  assert.ok(found.some((name) => name.equals(Buffer.from([0xff, 0xfe, 0x41]))));
  fs.unlinkSync(raw);
}

function links(): void {
  fs.symlinkSync('file', at('link'));
  assert.equal(fs.readlinkSync(at('link')), 'file');
  assert.equal(fs.readFileSync(at('link'), 'utf8'), 'short');
  assert.ok(fs.lstatSync(at('link')).isSymbolicLink());
  fs.linkSync(at('file'), at('hard'));
  assert.equal(fs.statSync(at('hard')).nlink, 2);
  assert.equal(fs.statSync(at('hard')).ino, fs.statSync(at('file')).ino);
  fails('EEXIST', () => fs.linkSync(at('file'), at('hard')));
  fs.unlinkSync(at('hard'));
  assert.equal(fs.statSync(at('file')).nlink, 1);
  fs.unlinkSync(at('link'));
}

function renames(): void {
  fs.writeFileSync(at('one'), '1');
  fs.writeFileSync(at('two'), '2');
  fs.mkdirSync(at('target'));
  fs.renameSync(at('one'), at('target', 'moved'));
  fails('ENOENT', () => fs.statSync(at('one')));
  fs.renameSync(at('target', 'moved'), at('two'));
  assert.equal(fs.readFileSync(at('two'), 'utf8'), '1', 'the target was replaced');
  fails('EISDIR', () => fs.renameSync(at('two'), at('target')));
  fails('ENOTDIR', () => fs.renameSync(at('target'), at('two')));
  fails('EINVAL', () => fs.renameSync(at('target'), at('target', 'itself')));
  fs.writeFileSync(at('three'), '3');
  execFileSync('mv', ['--no-clobber', at('two'), at('three')]);
  assert.equal(fs.readFileSync(at('three'), 'utf8'), '3');
  fs.rmSync(at('target'), { recursive: true });
  fs.unlinkSync(at('two'));
  fs.unlinkSync(at('three'));
}

function extended(): void {
  execFileSync('setfattr', ['-n', 'user.colour', '-v', 'blue', at('file')]);
  execFileSync('setfattr', ['-n', 'user.shape', '-v', 'round', at('file')]);
  const shown = execFileSync('getfattr', ['-d', '--absolute-names', at('file')], {
    encoding: 'utf8',
  });
  assert.match(shown, /user\.colour="blue"\nuser\.shape="round"/);
  execFileSync('setfattr', ['-x', 'user.colour', at('file')]);
  assert.throws(() =>
    execFileSync('getfattr', ['-n', 'user.colour', at('file')], { stdio: 'pipe' }),
  );
  execFileSync('fallocate', ['-l', '10000', at('file')]);
  assert.equal(fs.statSync(at('file')).size, 10_000);
  execFileSync('fallocate', ['-p', '-o', '0', '-l', '3', at('file')]);
  assert.deepEqual(fs.readFileSync(at('file')).subarray(0, 5), Buffer.from('\0\0\0rt'));
  execFileSync('cp', ['--sparse=auto', at('file'), at('copy')]);
  assert.ok(fs.readFileSync(at('copy')).equals(fs.readFileSync(at('file'))));
  fs.copyFileSync(at('copy'), at('copy2'));
  assert.ok(fs.readFileSync(at('copy2')).equals(fs.readFileSync(at('file'))));
}

files();
attributes();
directories();
links();
renames();
extended();
assert.deepEqual(fs.readdirSync(root).sort(), ['copy', 'copy2', 'file']);
