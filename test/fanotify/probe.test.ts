/** What the kernel is found to do: on real file systems, and for kernels that this one is not. Needs root. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { Errno } from '../../src/base/errno.ts';
import { ebbError } from '../../src/base/errors.ts';
import { probeKernel, realKernelAnswers } from '../../src/fanotify/probe.ts';
import type { KernelAnswers, KernelReport } from '../../src/fanotify/probe.ts';
import { run, runOk } from '../support/run.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';
import { skip } from './support.ts';

const shown = ({ findings }: KernelReport): string =>
  findings.map(({ question, answer }) => `${question} ${answer}`).join(', ');

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`${type}: this kernel can all of it, and nothing is left behind`, { skip }, async () => {
    await using filesystem = await loopFilesystem({ type });
    const before = readdirSync(filesystem.path);
    const report = await probeKernel(filesystem.path);
    assert.equal(
      shown(report),
      'privilege yes, preAccess yes, filesystem yes, mapOffset yes',
      JSON.stringify(report),
    );
    assert.equal(report.isUsable, true);
    assert.deepEqual(readdirSync(filesystem.path), before);
    for (const { sentence } of report.findings) assert.match(sentence, /^[A-Z].*\.$/);
  });
}

test('file systems that cannot be watched are found out', { skip }, async () => {
  await using directory = await temporaryDirectory('fanotify-probe');
  const at = (name: string): string => path.join(directory.path, name);
  await runOk('mount', ['-t', 'tmpfs', 'none', directory.path]);
  await runOk('mkdir', ['upper', 'lower', 'work', 'overlay'].map(at));
  const layers = `upperdir=${at('upper')},lowerdir=${at('lower')},workdir=${at('work')}`;
  await runOk('mount', ['-t', 'overlay', '-o', layers, 'none', at('overlay')]);
  for (const unsuited of [directory.path, at('overlay')]) {
    const report = await probeKernel(unsuited);
    assert.equal(
      shown(report),
      'privilege yes, preAccess yes, filesystem no, mapOffset unknown',
      JSON.stringify(report),
    );
    assert.equal(report.isUsable, false);
    assert.match(report.findings[2]?.sentence ?? '', /ext4, xfs and btrfs can/);
  }
  const gone = await probeKernel(at('gone'));
  assert.equal(
    shown(gone),
    'privilege yes, preAccess unknown, filesystem unknown, mapOffset unknown',
  );
  assert.match(gone.findings[2]?.sentence ?? '', /No such file or directory/);
});

test('without privilege, and as root of a user namespace only', { skip }, async () => {
  const module = path.join(import.meta.dirname, '../../src/fanotify/probe.ts');
  const script =
    `const { probeKernel } = await import(${JSON.stringify(module)});` +
    "const { findings } = await probeKernel('/tmp'); console.log(findings[0].answer, findings[1].answer)";
  for (const [command, ...parameters] of [
    ['setpriv', '--bounding-set=-sys_admin'],
    ['unshare', '--user', '--map-root-user'],
  ]) {
    const node = [process.execPath, '--input-type=module', '-e', script];
    const { stdout, stderr } = await run(command ?? '', [...parameters, ...node]);
    assert.equal(stdout.toString(), 'no unknown\n', stderr.toString());
  }
});

/** This kernel, except for what is said. */
async function other(answers: Partial<KernelAnswers>): Promise<KernelReport> {
  await using filesystem = await loopFilesystem({ type: 'ext4' });
  return await probeKernel(filesystem.path, { ...realKernelAnswers, ...answers });
}

test('older kernels are told by what they refuse', { skip }, async () => {
  const noErrors = await other({
    release: () => '6.8.0-generic',
    createGroup: () => {
      throw ebbError('EINVAL', 'fanotify_init failed: Invalid argument.');
    },
  });
  assert.equal(
    shown(noErrors),
    'privilege yes, preAccess no, filesystem unknown, mapOffset unknown',
  );
  assert.equal(
    noErrors.findings[1]?.sentence,
    'Linux 6.8.0-generic has no FAN_PRE_ACCESS: 6.14 or newer is needed.',
  );
  const noEvent = await other({ release: () => '6.13.1', mark: () => -Errno.EINVAL });
  assert.equal(shown(noEvent), shown(noErrors));
  assert.match(noEvent.findings[1]?.sentence ?? '', /^Linux 6\.13\.1 has no FAN_PRE_ACCESS/);
});

test('a kernel that asks for the wrong range at mmap is found out', { skip }, async () => {
  const wrong = await other({
    release: () => '6.17.0',
    mappedRange: () => Promise.resolve({ offset: 0, count: 4096 }),
  });
  assert.equal(shown(wrong), 'privilege yes, preAccess yes, filesystem yes, mapOffset no');
  assert.match(
    wrong.findings[3]?.sentence ?? '',
    /^Linux 6\.17\.0 asks for a wrong range .*0\+4096/,
  );
  const none = await other({ mappedRange: () => Promise.resolve(undefined) });
  assert.match(none.findings[3]?.sentence ?? '', /no event for mmap/);
});

test('a kernel that refuses groups in spite of the capability', { skip }, async () => {
  const report = await other({
    createGroup: () => {
      throw ebbError('EPERM', 'fanotify_init failed: Operation not permitted.');
    },
  });
  assert.equal(
    shown(report),
    'privilege no, preAccess unknown, filesystem unknown, mapOffset unknown',
  );
});
