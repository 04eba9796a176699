/** The probes on this machine, really run. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { release } from 'node:os';
import { test } from 'node:test';
import type { DoctorReport } from '../../src/daemon/helper-api.ts';
import { examine } from '../../src/daemon/doctor.ts';
import { kernelVersion } from '../../src/daemon/doctor/kernel-checks.ts';
import { ebb, scratch } from '../cli/support.ts';

test('doctor answers every question and leaves nothing behind', async () => {
  using directory = scratch();
  const { code, stdout, stderr } = await ebb(['doctor', '--json', '--cache-dir', directory.path], {
    runDirectory: `${directory.path}/run`,
  });
  assert.equal(stderr, '');
  const report = JSON.parse(stdout) as DoctorReport;
  assert.equal(code, report.canMount ? 0 : 1);
  const names = report.checks.map((check) => check.name);
  for (const name of ['kernel', '/dev/fuse', 'passthrough', 'fusermount3', 'cache', 'leases']) {
    assert.ok(names.includes(name), name);
  }
  for (const { name, outcome, advice } of report.checks) {
    assert.equal(advice === undefined, outcome === 'ok', `${name}: what it costs, when not ok`);
  }
  assert.deepEqual(readdirSync(directory.path), ['run']);
});

test('doctor for people: one line per check and a verdict', async () => {
  using directory = scratch();
  const { stdout } = await ebb(['doctor', '--cache-dir', directory.path], {
    runDirectory: `${directory.path}/run`,
  });
  assert.ok(stdout.includes(`Linux ${release()}`));
  assert.match(stdout, /\nThis machine can(not)? mount/);
});

test('a cache that cannot be written fails, with advice', () => {
  const { canMount, checks } = examine('/proc/no/such/cache');
  assert.equal(canMount, false);
  const writable = checks.find((check) => check.name === 'cache writable');
  assert.equal(writable?.outcome, 'fail');
  assert.match(writable?.advice ?? '', /--cache-dir/);
});

test('kernel versions', () => {
  assert.deepEqual(kernelVersion('6.18.44-fc-v669'), [6, 18]);
  assert.deepEqual(kernelVersion('5.4'), [5, 4]);
  assert.deepEqual(kernelVersion('strange'), [0, 0]);
});
