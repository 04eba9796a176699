/** A daemon's process, as its supervisor sees it: whatever becomes of it, there is an end that others wait for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DaemonProcess } from '../../src/supervisor/daemon-process.ts';

for (const [what, program] of [
  ['an event', '/nonexistent'],
  ['an exception', '/dev/null/node'],
] as const) {
  test(`one that cannot be started, which Node tells by ${what}, has ended`, async () => {
    const { execPath } = process;
    process.execPath = program;
    try {
      const parts = { script: 'unused', scriptVariable: 'EBB_UNUSED', inherited: [] };
      const daemon = DaemonProcess.start<{ kind: string }>(parts, () => assert.fail('a message'));
      assert.equal(daemon.pid, undefined);
      daemon.send({ kind: 'start' });
      daemon.kill();
      const { how, inOrder } = await daemon.ended;
      assert.equal(inOrder, false);
      assert.match(how, /ENOENT|ENOTDIR/);
    } finally {
      process.execPath = execPath;
    }
  });
}
