/**
 * The blocking loop of a thread that serves fanotify groups: poll(2) on them and on the wake-up eventfd, then read(2).
 *
 * It never waits without the eventfd, because nothing else can stop a blocked thread. It must not run in a thread that
 * other work depends on, and never in one that itself opens or reads what is marked: it would wait for its own answer.
 */
import { Errno, errnoCodeOf } from '../base/errno.ts';
import { ebbError } from '../base/errors.ts';
import { PollEvent, PollSet } from '../sys/poll.ts';
import { EventFormatError } from './codec.ts';
import { EventReader } from './event-reader.ts';
import type { LoopControl } from '../sys/loop-control.ts';
import type { IncomingEvent, OnTrouble } from './event-reader.ts';
import type { Group } from './group.ts';

/** A group and who handles its events. */
export interface LoopSource {
  readonly group: Group;
  /**
   * What is in this group's queue when an event of another one has been read is handled before that event. For
   * notifications that permission events must not overtake: open(2) with O_TRUNC raises FAN_MODIFY before it returns,
   * so whoever acts on a later FAN_PRE_ACCESS of that file has seen it. Default false.
   */
  readonly first?: boolean;
  /** How much one read(2) takes at most. Default 16 KiB: about 290 events with ranges. */
  readonly bufferBytes?: number;
  /** What reads the events. Default: an `EventReader` of the loop's own. */
  readonly reader?: Pick<EventReader, 'fill' | 'handleAll'>;
  /** Must answer or `take` permission events. What it throws is reported, and the event denied with EIO. */
  handle(event: IncomingEvent): void;
  /** The queue was full: events are lost. Cannot happen to groups with an unlimited queue. */
  overflow(): void;
}

export interface LoopHandlers {
  /** After `LoopControl.wake`. */
  wakeup?(): void;
  /**
   * True: sources that are not `first` are not read, and their requesters wait. May change in `wakeup` only. Default:
   * never.
   */
  isHeld?(): boolean;
  /**
   * Runs each read of a source that is not `first`: while one reads, the kernel opens the files of the events. Default:
   * at once.
   */
  read?(read: () => number): number;
  readonly onTrouble: OnTrouble;
}

interface Served {
  readonly source: LoopSource;
  readonly reader: Pick<EventReader, 'fill' | 'handleAll'>;
  /** `reader.fill`. */
  readonly fill: () => number;
  readonly pollIndex: number;
}

/**
 * Serves until `control.stop()`. Blocks the calling thread. Events that were read are all handled before it returns;
 * those in the queues stay there, and their requesters wait. Sources that are not `first` are served in their order,
 * one read each, so that none starves another.
 *
 * Throws EPROTO when the kernel writes events that cannot be read: requesters whose events were read with them wait
 * until the group is swept or closed. Throws EBADF and others for a group that cannot be read.
 */
export function runLoop(
  sources: readonly LoopSource[],
  control: LoopControl,
  handlers: LoopHandlers,
): void {
  const served = sources.map((source, index) => {
    const reader =
      source.reader ?? new EventReader(source.group, handlers.onTrouble, source.bufferBytes);
    return { source, reader, fill: () => reader.fill(), pollIndex: index + 1 };
  });
  const first = served.filter(({ source }) => source.first === true);
  const others = served.filter(({ source }) => source.first !== true);
  const waiting = new PollSet([
    { fd: control.eventFileDescriptor, events: PollEvent.in },
    ...sources.map(({ group }) => ({ fd: group.fd, events: PollEvent.in })),
  ]);
  let isHeld = false;
  for (;;) {
    if (control.isStopping) return;
    const ready = waiting.wait(-1);
    if (ready === -Errno.EINTR) continue;
    if (ready < 0)
      throw ebbError(errnoCodeOf(ready) ?? 'EIO', 'poll(2) on fanotify groups failed.');
    if (waiting.ready(0) !== 0) {
      control.drain();
      if (control.isStopping) return;
      handlers.wakeup?.();
      if (isHeld !== (handlers.isHeld?.() === true)) {
        isHeld = !isHeld;
        // Also what was found ready just now is not read any more.
        for (const { source, pollIndex } of others) {
          waiting.set(pollIndex, isHeld ? -1 : source.group.fd, PollEvent.in);
        }
      }
    }
    for (const one of first) {
      if (waiting.ready(one.pollIndex) !== 0) drain(one);
    }
    for (const one of others) {
      if (waiting.ready(one.pollIndex) === 0) continue;
      if ((handlers.read?.(one.fill) ?? one.fill()) === 0) continue;
      for (const earlier of first) drain(earlier);
      handleAll(one);
    }
  }
}

/** Handles all that is there. */
function drain(one: Served): void {
  while (one.fill() > 0) handleAll(one);
}

function handleAll({ source, reader }: Served): void {
  try {
    reader.handleAll(
      (event) => source.handle(event),
      () => source.overflow(),
    );
  } catch (error) {
    if (!(error instanceof EventFormatError)) throw error;
    throw ebbError('EPROTO', error.message, { cause: error });
  }
}
