/** The run directory: who is believed. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import {
  ensureRunDirectory,
  findRun,
  isRunning,
  processStartTicks,
  readRunRecords,
  removeRunRecord,
  runDirectory,
  runFiles,
  runName,
  writeRunRecord,
} from '../../src/base/run-directory.ts';
import type { RunRecord } from '../../src/base/run-directory.ts';
import { oldLogsMax, tidyRunDirectory } from '../../src/cli/tidy-run-directory.ts';
import { ebb, scratch } from './support.ts';

const record = (mountPoint: string): RunRecord => ({
  pid: process.pid,
  startTicks: processStartTicks(process.pid) ?? 0,
  mountPoint,
  remote: 'http://x/',
  cacheDirectory: '/c',
  socketPath: '/s',
});

test('where it is', () => {
  assert.equal(runDirectory({}, 0), '/run/ebb');
  assert.equal(runDirectory({ XDG_RUNTIME_DIR: '/run/user/7' }, 7), '/run/user/7/ebb');
  assert.equal(runDirectory({ XDG_RUNTIME_DIR: 'relative' }, 7), '/tmp/ebb-7');
  assert.equal(runDirectory({ EBB_RUN_DIR: '/x' }, 0), '/x');
  assert.match(runName('/mnt'), /^[0-9a-f]{16}$/);
});

test('it is made private and refused when it is not', async () => {
  using temporary = scratch();
  const directory = path.join(temporary.path, 'run');
  ensureRunDirectory(directory);
  assert.equal(statSync(directory).mode & 0o7777, 0o700);
  ensureRunDirectory(directory);

  chmodSync(directory, 0o750);
  assert.throws(() => ensureRunDirectory(directory), { code: 'EACCES', message: /chmod 700/ });
  assert.throws(() => readRunRecords(directory), { code: 'EACCES' });
  const status = await ebb(['status'], { runDirectory: directory });
  assert.equal(status.code, 1);
  assert.match(status.stderr, /^ebb status: .* is open to other users/);
  chmodSync(directory, 0o700);

  const link = path.join(temporary.path, 'link');
  symlinkSync(directory, link);
  assert.throws(() => ensureRunDirectory(link), { code: 'EACCES', message: /not a directory/ });
});

test('a directory of another user is refused', { skip: process.getuid?.() !== 0 }, () => {
  using temporary = scratch();
  const directory = path.join(temporary.path, 'run');
  mkdirSync(directory, { mode: 0o700 });
  chownSync(directory, 12_345, 12_345);
  assert.throws(() => ensureRunDirectory(directory), { code: 'EACCES', message: /belongs to uid/ });
});

test('records are written, read back, and broken ones skipped', () => {
  using temporary = scratch();
  const directory = ensureRunDirectory(path.join(temporary.path, 'run'));
  assert.deepEqual(readRunRecords(path.join(temporary.path, 'none')), []);
  writeRunRecord(record('/b'), directory);
  writeRunRecord(record('/a'), directory);
  writeFileSync(path.join(directory, '0123456789abcdef.json'), '{"pid":1');
  writeFileSync(path.join(directory, '0123456789abcdee.json'), '{"pid":"1"}');
  writeFileSync(path.join(directory, 'other.json'), JSON.stringify(record('/c')));
  symlinkSync(runFiles('/a', directory).record, path.join(directory, 'fedcba9876543210.json'));
  assert.deepEqual(
    readRunRecords(directory).map((one) => one.mountPoint),
    ['/a', '/b'],
  );
  assert.equal(statSync(runFiles('/a', directory).record).mode & 0o777, 0o600);
  removeRunRecord('/a', directory);
  removeRunRecord('/a', directory);
  assert.equal(readRunRecords(directory).length, 1);
});

test('what somebody else serves by now keeps its record and its socket', async () => {
  using temporary = scratch();
  const directory = ensureRunDirectory(path.join(temporary.path, 'run'));
  const other = spawn('sleep', ['60'], { stdio: 'ignore' });
  const ended = new Promise((resolve) => void other.once('exit', resolve));
  const pid = other.pid ?? 0;
  const files = runFiles('/a', directory);
  writeRunRecord({ ...record('/a'), pid, startTicks: processStartTicks(pid) ?? 0 }, directory);
  writeFileSync(files.socket, '');
  removeRunRecord('/a', directory);
  assert.deepEqual([existsSync(files.record), existsSync(files.socket)], [true, true]);
  other.kill('SIGKILL');
  await ended;
  removeRunRecord('/a', directory);
  assert.deepEqual([existsSync(files.record), existsSync(files.socket)], [false, false]);
});

test('of services that are gone some logs are kept, and nothing of commands that were killed', () => {
  using temporary = scratch();
  const directory = ensureRunDirectory(path.join(temporary.path, 'run'));
  // No process has this number (PID_MAX_LIMIT).
  const nobody = 2 ** 22 + 1;
  const log = (mountPoint: string, ageSeconds: number): string => {
    const file = runFiles(mountPoint, directory).log;
    const timeSeconds = Date.now() / 1_000 - ageSeconds;
    writeFileSync(file, mountPoint);
    utimesSync(file, timeSeconds, timeSeconds);
    return file;
  };
  writeRunRecord(record('/served'), directory);
  const served = log('/served', 1_000);
  const old = Array.from({ length: oldLogsMax + 3 }, (_, index) => log(`/old/${index}`, index));
  const own = path.join(directory, `starting-${process.pid}.log`);
  writeFileSync(own, '');
  const left = [
    path.join(directory, `starting-${nobody}.log`),
    `${runFiles('/x', directory).record}.${nobody}`,
  ];
  for (const file of left) writeFileSync(file, '');
  tidyRunDirectory(directory);
  const kept = [served, own, ...old.slice(0, oldLogsMax)];
  assert.deepEqual(kept.filter(existsSync), kept);
  assert.deepEqual([...left, ...old.slice(oldLogsMax)].filter(existsSync), []);
});

test('a reused process id is told apart', () => {
  assert.ok(isRunning(record('/a')));
  assert.ok(!isRunning({ ...record('/a'), startTicks: 1 }));
  assert.ok(!isRunning({ pid: 2 ** 22 + 5, startTicks: 1 }));
});

test('the longest mount point wins, by components', () => {
  const records = [record('/mnt'), record('/mnt/a'), record('/mnt/ab')];
  const find = (file: string): [string, string] | undefined => {
    const found = findRun(records, file);
    return found === undefined ? undefined : [found.record.mountPoint, found.inside];
  };
  assert.deepEqual(find('/mnt'), ['/mnt', '']);
  assert.deepEqual(find('/mnt/a/x/y'), ['/mnt/a', 'x/y']);
  assert.deepEqual(find('/mnt/ab'), ['/mnt/ab', '']);
  assert.deepEqual(find('/mnt/abc'), ['/mnt', 'abc']);
  assert.equal(find('/mn'), undefined);
  assert.deepEqual(findRun([record('/')], '/x')?.inside, 'x');
});
