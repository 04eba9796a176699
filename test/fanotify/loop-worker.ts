/** The thread of loop.test.ts: what it does with an event depends on where the file is touched. */
import { fstatSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { Group } from '../../src/fanotify/group.ts';
import { runLoop } from '../../src/fanotify/loop.ts';
import { LoopControl } from '../../src/sys/loop-control.ts';
import type { IncomingEvent } from '../../src/fanotify/event-reader.ts';
import type { LoopSource } from '../../src/fanotify/loop.ts';
import type { SharedLoopControl } from '../../src/sys/loop-control.ts';

export interface LoopWorkerData {
  readonly control: SharedLoopControl;
  readonly permissionFd: number;
  readonly notificationFd: number;
}

const page = 4096;
const { control, permissionFd, notificationFd } = workerData as LoopWorkerData;
const post = (message: unknown): void => parentPort?.postMessage(message);

const act: Record<number, (event: IncomingEvent) => void> = {
  0: (event) => event.allow(),
  1: (event) => event.deny('ENOSPC'),
  2: () => {
    throw new Error('broken');
  },
  3: () => undefined,
  4: (event) => post({ taken: event.take() }),
};

const permissions: LoopSource = {
  group: Group.borrow(permissionFd, 'preContent'),
  handle(event) {
    post({ event: 'asked', inode: fstatSync(event.fd).ino });
    act[event.offset / page]?.(event);
  },
  overflow: () => post({ overflow: true }),
};
const notifications: LoopSource = {
  group: Group.borrow(notificationFd, 'notification'),
  first: true,
  handle(event) {
    const bytes = event.fids().find(({ kind }) => kind === 'object')?.handle.bytes;
    // A handle of ext4 begins with the number of the inode.
    const inode = bytes && new DataView(bytes.buffer).getUint32(0, true);
    post({ event: 'modified', inode });
  },
  overflow: () => post({ overflow: true }),
};

// The order of the list does not matter for what must be first.
runLoop([permissions, notifications], LoopControl.open(control), {
  wakeup: () => post({ woken: true }),
  onTrouble: ({ kind }) => post({ trouble: kind }),
});
post({ ended: true });
