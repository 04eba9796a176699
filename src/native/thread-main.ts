/**
 * Entry point of the event thread (see thread.ts): loads everything, waits for the word to start, and serves the three
 * groups until it is asked to stop.
 */
import { flushCompileCache } from 'node:module';
import { parentPort } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';
import { StubHandles } from '../catalog/stubs-sqlite/handles.ts';
import { EventReader } from '../fanotify/event-reader.ts';
import { Group } from '../fanotify/group.ts';
import { runLoop } from '../fanotify/loop.ts';
import type { LoopSource } from '../fanotify/loop.ts';
import { LoopControl } from '../sys/loop-control.ts';
import type { SharedLoopControl } from '../sys/loop-control.ts';
import { mapSharedFile } from '../sys/map.ts';
import { changeJournalBytes } from './change-journal.ts';
import { Doorkeeper } from './doorkeeper.ts';
import type { DoorkeeperOptions } from './doorkeeper.ts';
import { EventHandler } from './event-handler.ts';
import type { NativeGroups } from './messages.ts';
import { ReadingTurn } from './reading-turn.ts';

/** What thread.ts says when the thread is to serve. */
export interface ThreadStart {
  readonly groups: NativeGroups;
  readonly treeId: string;
  readonly catalogPath: string;
  readonly pending: SharedArrayBuffer;
  readonly consumedStepBytes: number;
  readonly doorkeeper: DoorkeeperOptions;
  readonly control: SharedLoopControl;
  readonly port: MessagePort;
}

/** What the thread tells thread.ts about itself. */
export type ThreadReport = 'ready';

function main(start: ThreadStart): void {
  const access = Group.borrow(start.groups.access, 'preContent');
  const open = Group.borrow(start.groups.open, 'preContent');
  const changes = Group.borrow(start.groups.changes, 'notification');
  const { port, pending, treeId, consumedStepBytes } = start;
  const turn = new ReadingTurn(pending);
  using stubs = new StubHandles(start.catalogPath);
  const doorkeeper = new Doorkeeper(start.doorkeeper);
  const handler = new EventHandler({
    access,
    open,
    changes,
    changeJournal: mapSharedFile(start.groups.changeJournal, changeJournalBytes),
    port,
    treeId,
    stubs,
    doorkeeper,
    pending,
    consumedStepBytes,
  });
  const sources: LoopSource[] = [
    {
      group: changes,
      first: true,
      reader: handler.changesReader,
      handle: (event) => handler.changed(event),
      overflow: () => handler.changesLost(),
    },
    {
      group: open,
      handle: (event) => handler.opened(event),
      overflow: () => handler.permissionsLost(),
    },
    {
      group: access,
      handle: (event) => handler.accessed(event),
      overflow: () => handler.permissionsLost(),
    },
  ];
  using control = LoopControl.open(start.control);
  const report: ThreadReport = 'ready';
  parentPort?.postMessage(report);
  const onTrouble = handler.trouble.bind(handler);
  handler.takeOverChanges();
  try {
    runLoop(sources, control, {
      wakeup: () => handler.wakeup(),
      isHeld: () => handler.isHeld,
      read: (fill) => turn.read(fill),
      onTrouble,
    });
  } finally {
    // Requesters of the last moment are not left behind: what would need main is denied.
    handler.refuse();
    for (const source of sources) {
      const reader = source.reader ?? new EventReader(source.group, onTrouble);
      while (turn.read(() => reader.fill()) > 0) {
        reader.handleAll(
          (event) => source.handle(event),
          () => source.overflow(),
        );
      }
    }
    port.close();
  }
}

// Node does that when a thread ends in order, which one that is killed never does. A millisecond when nothing is new.
flushCompileCache();
parentPort?.once('message', main);
