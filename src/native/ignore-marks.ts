/**
 * Marks by which the kernel leaves a file's events out. All of them evictable: dropped with the inode, and then the
 * next event makes them anew. One that cannot be set costs time and nothing else.
 */
import { Errno } from '../base/errno.ts';
import { FanEvent } from '../fanotify/constants.ts';
import type { Group, Mark } from '../fanotify/group.ts';

const ignored = { on: 'inode', ignore: true, survivesModify: true, evictable: true } as const;
const access: Mark = { ...ignored, events: FanEvent.preAccess };
const open: Mark = { ...ignored, events: FanEvent.openPermission };
const contentChanges: Mark = { ...ignored, events: FanEvent.modify | FanEvent.closeWrite };
const allChanges: Mark = { ...ignored, events: contentChanges.events | FanEvent.deleteSelf };

export interface MarkedGroups {
  readonly access: Group;
  readonly open: Group;
  readonly changes: Group;
}

export class IgnoreMarks {
  readonly #groups: MarkedGroups;

  constructor(groups: MarkedGroups) {
    this.#groups = groups;
  }

  /** Nobody is asked about the file until `askAgain`. */
  neverAsk(fd: number): void {
    this.#groups.access.tryMark(fd, access);
    this.#groups.open.tryMark(fd, open);
  }

  /** Throws when a mark is there and stays. */
  askAgain(fd: number): void {
    for (const [group, mark] of [
      [this.#groups.access, access],
      [this.#groups.open, open],
    ] as const) {
      const result = group.tryUnmark(fd, mark);
      if (result < 0 && result !== -Errno.ENOENT) group.unmark(fd, mark);
    }
  }

  /** What is done to the file's content is nobody's business; that it is deleted still is. */
  neverTellOfContent(fd: number): void {
    this.#groups.changes.tryMark(fd, contentChanges);
  }

  /** The file is none of ours. */
  neverTell(fd: number): void {
    this.#groups.changes.tryMark(fd, allChanges);
  }
}
