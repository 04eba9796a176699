/** Who else listens on a file system, and reads past us through the descriptors that the kernel gives him. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { isGivenDescriptors, listenerCheck } from '../../src/daemon/doctor/listener-checks.ts';
import { treeChecks } from '../../src/daemon/doctor/tree-checks.ts';
import { FanEvent } from '../../src/fanotify/constants.ts';
import { Group } from '../../src/fanotify/group.ts';
import type { GroupOptions, Mark } from '../../src/fanotify/group.ts';
import { run } from '../support/run.ts';
import { loopFilesystem } from '../support/temporary.ts';

const notified: GroupOptions = { class: 'notification' };

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`${type}: doctor names the programs that are given descriptors of files there`, async () => {
    await using filesystem = await loopFilesystem({ type });
    const elsewhere = path.join(filesystem.path, '..');
    const tree = path.join(filesystem.path, 'tree');
    mkdirSync(tree);
    const found = async (
      options: GroupOptions,
      mark: Partial<Mark>,
      at = tree,
    ): Promise<string> => {
      using group = Group.create(options);
      group.mark(at, { on: 'inode', events: FanEvent.closeWrite, ...mark });
      const check = await listenerCheck(tree);
      assert.equal(check.outcome, check.found === 'none' ? 'ok' : 'warn');
      return check.found;
    };
    const us = new RegExp(`\\(pid ${process.pid}\\)`);
    for (const on of ['inode', 'mount', 'filesystem'] as const)
      assert.match(await found(notified, { on }), us, on);
    assert.match(await found({ class: 'content' }, { on: 'filesystem' }), us);
    // They get handles, are asked first, or listen elsewhere.
    const handles: GroupOptions = { ...notified, reportNames: true };
    assert.equal(await found(handles, { on: 'filesystem' }), 'none');
    assert.equal(await found({ class: 'preContent' }, { on: 'filesystem' }), 'none');
    assert.equal(await found(notified, { on: 'inode' }, elsewhere), 'none');
    const all = (await treeChecks(tree)).map(({ name }) => name);
    assert.ok(all.includes('other listeners'), all.join(', '));
  });
}

test('what fdinfo says of a group', () => {
  const places = { device: 0x700004, mountIds: new Set([0x1f]) };
  const says = (...lines: readonly string[]): boolean =>
    isGivenDescriptors(`pos:\t0\nmnt_id:\t31\n${lines.join('\n')}\n`, places);
  const flags = 'fanotify flags:6 event-flags:8000';
  const mark = 'fanotify sdev:700004 mflags:0 mask:10000 ignored_mask:0';
  assert.equal(says(flags, mark), true);
  assert.equal(says(flags), false, 'it watches nothing');
  assert.equal(says(mark), false, 'it is no group');
  assert.equal(says(flags, mark.replace('700004', '700005')), false);
  assert.equal(says(flags, mark.replace('mask:10000', 'mask:0')), false, 'it ignores events');
  assert.equal(says(flags, 'fanotify mnt_id:1f mflags:0 mask:20 ignored_mask:0'), true);
  assert.equal(says(flags, 'fanotify mnt_id:31 mflags:0 mask:20 ignored_mask:0'), false);
});

test('who is not root sees none but his own, and is told of no failure', async () => {
  const module = path.join(import.meta.dirname, '../../src/daemon/doctor/listener-checks.ts');
  const script = `const { listenersOn } = await import(${JSON.stringify(module)});
    console.log((await listenersOn('/')).length)`;
  const node = [process.execPath, '--input-type=module', '-e', script];
  const { code, stderr } = await run('setpriv', ['--reuid=65534', '--clear-groups', ...node]);
  assert.equal(code, 0, stderr.toString());
});
