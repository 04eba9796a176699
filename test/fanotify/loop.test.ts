/** The loop in a thread of its own, as servers run it. Needs root. */
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { Errno } from '../../src/base/errno.ts';
import { FanEvent } from '../../src/fanotify/constants.ts';
import { Group } from '../../src/fanotify/group.ts';
import { LoopControl } from '../../src/sys/loop-control.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';
import type { LoopWorkerData } from './loop-worker.ts';
import { compileTouch, makeSparse, skip, touch } from './support.ts';

interface Message {
  readonly event?: string;
  readonly inode?: number;
  readonly taken?: number;
  readonly woken?: boolean;
  readonly trouble?: string;
  readonly ended?: boolean;
}

const page = 4096;

test(
  'a loop answers, hands over, is woken, is stopped; what it throws is an answer, too',
  { skip },
  async () => {
    await using directory = await temporaryDirectory('fanotify-loop');
    await using filesystem = await loopFilesystem({ type: 'ext4' });
    const program = await compileTouch(directory.path);
    const file = path.join(filesystem.path, 'file');
    await makeSparse(file, 16 * page);
    // Several at once: while one event is read, another requester goes on.
    const files = [1, 2, 3, 4, 5, 6].map((number) => path.join(filesystem.path, `cut-${number}`));
    for (const each of files) await makeSparse(each, page);
    const inodes = files.map((each) => statSync(each).ino);
    using permission = Group.create({ class: 'preContent' });
    using notification = Group.create({ class: 'notification', reportNames: true });
    permission.mark(filesystem.path, { on: 'filesystem', events: FanEvent.preAccess });
    notification.mark(filesystem.path, { on: 'filesystem', events: FanEvent.modify });
    using control = LoopControl.create();
    const workerData: LoopWorkerData = {
      control: control.shared,
      permissionFd: permission.fd,
      notificationFd: notification.fd,
    };
    const worker = new Worker(new URL('loop-worker.ts', import.meta.url), { workerData });
    const messages: Message[] = [];
    worker.on('message', (message: Message) => {
      messages.push(message);
      if (message.taken !== undefined) permission.answer(message.taken, 'EDQUOT');
    });
    const read = async (at: number): Promise<number> =>
      (await touch(program, 'pread', file, at * page, 10)).errno;
    try {
      assert.equal(await read(0), 0);
      assert.equal(await read(1), Errno.ENOSPC);
      assert.equal(await read(2), Errno.EIO);
      assert.equal(await read(3), Errno.EIO);
      assert.equal(await read(4), Errno.EDQUOT);
      assert.deepEqual(
        messages.flatMap(({ trouble }) => trouble ?? []),
        ['handler', 'handler'],
      );
      control.wake();
      await waitFor(() => messages.some(({ woken }) => woken), { what: 'the loop to be woken' });

      // Each cut was announced before the read that follows it is handled.
      messages.length = 0;
      const rounds = 300;
      const cut = await Promise.all(
        files.map((each) => touch(program, 'trunc-read', each, rounds)),
      );
      assert.deepEqual(
        cut.map(({ result }) => result),
        files.map(() => rounds),
      );
      const alternating = Array.from({ length: rounds }, () => ['modified', 'asked']).flat();
      for (const inode of inodes) {
        const order = messages.flatMap((message) => (message.inode === inode ? message.event : []));
        assert.deepEqual(order, alternating);
      }
    } finally {
      control.stop();
    }
    await waitFor(() => messages.some(({ ended }) => ended), { what: 'the loop to end' });
    await worker.terminate();
  },
);
