/**
 * A fanotify group: one descriptor with marks, a queue of events, and requesters who wait for answers.
 *
 * The kernel allows everything that is pending when the last descriptor of a group is closed, whoever holds it. So a
 * group that guards content is closed last, after nobody can reach the content any more; or another process holds a
 * duplicate, and its successor begins with `sweep`.
 */
import { Errno } from '../base/errno.ts';
import { AT_FDCWD, closeFd, OpenFlag } from '../sys/fd.ts';
import { fanotifyInit, fanotifyMark } from '../sys/fanotify.ts';
import { systemError } from '../sys/ffi.ts';
import { write } from '../sys/io.ts';
import { GroupFlag, MarkFlag, responseBytes, responseDeny } from './constants.ts';
import { encodeResponse, responseWord } from './response.ts';
import type { OwnedFd } from '../sys/fd.ts';
import type { Denial } from './response.ts';

/** `notification`: nobody waits. `content`: permission events. `preContent`: FAN_PRE_ACCESS, and before all others. */
export type GroupClass = 'notification' | 'content' | 'preContent';

export interface GroupOptions {
  readonly class: GroupClass;
  /**
   * Events carry file handles and names, not descriptors (FAN_REPORT_DFID_NAME_TARGET). Class `notification` only;
   * needed for events of directory entries.
   */
  readonly reportNames?: boolean;
  /** `pid` is the thread that waits. Default false. */
  readonly reportTid?: boolean;
  /** Events carry a descriptor of the process. Default false. */
  readonly reportPidfd?: boolean;
  /** An event whose descriptor cannot be opened arrives as one (Linux 6.13). Default: true with permissions. */
  readonly reportFdError?: boolean;
  /**
   * Without a limit of the queue. Default true: a full queue ALLOWS permission events unseen. False: 16,384 events
   * (/proc/sys/fs/fanotify/max_queued_events).
   */
  readonly unlimitedQueue?: boolean;
  /** Without a limit of marks. Default true. */
  readonly unlimitedMarks?: boolean;
  /**
   * `OpenFlag` bits of event descriptors. Default O_RDONLY | O_NOATIME; O_CLOEXEC and O_LARGEFILE are always set.
   * Reading an event opens its file: without O_NONBLOCK that read waits for who has a write lease on the file, with it
   * the event is denied (EPERM; it arrives as -EAGAIN).
   */
  readonly eventFlags?: number;
}

const O_LARGEFILE = 0o100000;

const namesFlags =
  GroupFlag.reportFid |
  GroupFlag.reportDirectoryFid |
  GroupFlag.reportName |
  GroupFlag.reportTargetFid;

const classFlags: Readonly<Record<GroupClass, number>> = {
  notification: 0,
  content: GroupFlag.classContent,
  preContent: GroupFlag.classPreContent,
};

function groupFlags(options: GroupOptions): number {
  const permission = options.class !== 'notification';
  let flags = GroupFlag.cloexec | GroupFlag.nonblock | classFlags[options.class];
  if (options.unlimitedQueue ?? true) flags |= GroupFlag.unlimitedQueue;
  if (options.unlimitedMarks ?? true) flags |= GroupFlag.unlimitedMarks;
  if (options.reportNames === true) flags |= namesFlags;
  if (options.reportTid === true) flags |= GroupFlag.reportTid;
  if (options.reportPidfd === true) flags |= GroupFlag.reportPidfd;
  if (options.reportFdError ?? permission) flags |= GroupFlag.reportFdError;
  return flags;
}

/** An object of this shape can be made once and used for every mark of its kind. */
export interface Mark {
  /** `inode`: that file under all its names. `mount`: all through that mount, no other. `filesystem`: all. */
  readonly on: 'inode' | 'mount' | 'filesystem';
  /** `FanEvent` bits. */
  readonly events: number;
  /** These events do not come for this object, whatever other marks say (Linux 6.0). Default false. */
  readonly ignore?: boolean;
  /**
   * For `ignore`: also after the file was modified. Default false; mounts, file systems and directories must have it.
   */
  readonly survivesModify?: boolean;
  /**
   * For `inode`: does not pin the inode in memory; the kernel drops the mark with it. Safe for `ignore`, never for
   * marks that guard something. Default false.
   */
  readonly evictable?: boolean;
}

/** An open file or directory (not O_PATH), a path (a final symlink is not followed), or a name in an open directory. */
export type MarkTarget =
  | number
  | string
  | Uint8Array
  | { readonly directoryFd: number; readonly name: string | Uint8Array };

const objectFlags: Readonly<Record<Mark['on'], number>> = {
  inode: 0,
  mount: MarkFlag.mount,
  filesystem: MarkFlag.filesystem,
};

function markFlags(mark: Mark): number {
  let flags = objectFlags[mark.on];
  if (mark.ignore === true) flags |= MarkFlag.ignore;
  if (mark.survivesModify === true) flags |= MarkFlag.ignoredSurvivesModify;
  return flags;
}

/**
 * What became of an answer. `gone`: nobody waits under that number, because somebody answered before (a sweep). That
 * the requester was killed meanwhile is not told: `answered`. `denied`: the kernel refused the answer, and took a plain
 * denial (EPERM) instead. `failed`: it refused that, too; the requester waits on.
 */
export type AnswerResult = 'answered' | 'gone' | 'denied' | 'failed';

export class Group implements Disposable {
  readonly class: GroupClass;
  readonly #fd: number;
  readonly #owned: OwnedFd | undefined;
  readonly #response = new Uint8Array(new ArrayBuffer(responseBytes));
  readonly #responseView = new DataView(this.#response.buffer);

  private constructor(fd: number, owned: OwnedFd | undefined, groupClass: GroupClass) {
    this.#fd = fd;
    this.#owned = owned;
    this.class = groupClass;
  }

  /**
   * A new group, non-blocking and close-on-exec. Throws EPERM (CAP_SYS_ADMIN in the initial user namespace), EINVAL
   * (this kernel has not all of it), EMFILE.
   */
  static create(options: GroupOptions): Group {
    const eventFlags = options.eventFlags ?? OpenFlag.rdonly | OpenFlag.noatime;
    const flags = groupFlags(options);
    // Descriptor flags mean nothing to groups that report names, and some are refused.
    const fd = fanotifyInit(
      flags,
      options.reportNames === true ? 0 : eventFlags | OpenFlag.cloexec | O_LARGEFILE,
    );
    return Group.adopt(fd, options.class);
  }

  /** A group that was inherited or received: owned from now on. */
  static adopt(fd: OwnedFd, groupClass: GroupClass): Group {
    return new Group(fd.fd, fd, groupClass);
  }

  /** For another thread of the process that owns the group: uses the number, never closes it. */
  static borrow(fd: number, groupClass: GroupClass): Group {
    return new Group(fd, undefined, groupClass);
  }

  get fd(): number {
    return this.#owned === undefined ? this.#fd : this.#owned.fd;
  }

  /**
   * Adds to the marks of an object. Throws EOPNOTSUPP (this file system cannot; FAN_PRE_ACCESS: ext4, xfs, btrfs can),
   * EINVAL (not a file or directory; FAN_PRE_ACCESS with `onDirectory`; class), EEXIST (contradicts marks that are
   * there), EXDEV (btrfs subvolume and `reportNames`), ENOENT, ENOSPC.
   */
  mark(target: MarkTarget, mark: Mark): void {
    const result = this.tryMark(target, mark);
    if (result < 0) throw systemError(-result, 'fanotify_mark', shown(target));
  }

  /** Takes events off an object's mark. Throws ENOENT when there is no such mark. */
  unmark(target: MarkTarget, mark: Mark): void {
    const result = this.tryUnmark(target, mark);
    if (result < 0) throw systemError(-result, 'fanotify_mark(remove)', shown(target));
  }

  /** `mark` that returns 0 or -errno. Hot. */
  tryMark(target: MarkTarget, mark: Mark): number {
    const evictable = mark.evictable === true ? MarkFlag.evictable : 0;
    return this.#change(MarkFlag.add | markFlags(mark) | evictable, target, mark.events);
  }

  /** `unmark` that returns 0 or -errno. Hot. */
  tryUnmark(target: MarkTarget, mark: Mark): number {
    return this.#change(MarkFlag.remove | markFlags(mark), target, mark.events);
  }

  /** Takes off all marks of one kind, ignore marks included. */
  flush(on: Mark['on']): void {
    const result = fanotifyMark(this.fd, MarkFlag.flush | objectFlags[on], 0, AT_FDCWD);
    if (result < 0) throw systemError(-result, 'fanotify_mark(flush)');
  }

  #change(flags: number, target: MarkTarget, events: number): number {
    if (typeof target === 'number') return fanotifyMark(this.fd, flags, events, target);
    const all = flags | MarkFlag.dontFollow;
    if (typeof target === 'string' || target instanceof Uint8Array) {
      return fanotifyMark(this.fd, all, events, AT_FDCWD, target);
    }
    return fanotifyMark(this.fd, all, events, target.directoryFd, target.name);
  }

  /**
   * Answers the requester of an event and closes the event's descriptor, in this order: a number that is free may
   * already be another event's. Any thread of the process that read the event; never blocks. Groups of class
   * `content` know no errno but EPERM. Hot.
   */
  answer(eventFd: number, answer: 'allow' | Denial): AnswerResult {
    const result = this.#respond(eventFd, answer);
    closeFd(eventFd);
    return result;
  }

  #respond(eventFd: number, answer: 'allow' | Denial): AnswerResult {
    const result = this.#write(eventFd, responseWord(answer, this.class === 'preContent'));
    if (result === responseBytes) return 'answered';
    if (result === -Errno.ENOENT) return 'gone';
    const plain = this.#write(eventFd, responseDeny);
    if (plain === responseBytes) return 'denied';
    return plain === -Errno.ENOENT ? 'gone' : 'failed';
  }

  /**
   * For a successor that inherited the group: denies (EIO; class `content`: EPERM) what a predecessor had read and not
   * answered. The kernel knows these events by the numbers that their descriptors had, so every number 0 ..
   * `numbersMax`-1 is tried. Must come before the first read of the group: new events may get the same numbers. Returns
   * how many were denied. About a microsecond for each number. Throws EINVAL when the group is not of its class, EBADF:
   * then nobody was denied.
   */
  sweep(numbersMax: number): number {
    let denied = 0;
    const word = responseWord('EIO', this.class === 'preContent');
    for (let number = 0; number < numbersMax;) {
      const result = this.#write(number, word);
      // Several processes may have left the same number behind: it is tried until nobody waits under it.
      if (result === responseBytes) denied += 1;
      else if (result === -Errno.ENOENT) number += 1;
      else throw systemError(-result, 'answering stale fanotify events');
    }
    return denied;
  }

  #write(eventFd: number, word: number): number {
    encodeResponse(this.#responseView, eventFd, word);
    for (;;) {
      const result = write(this.fd, this.#response);
      if (result !== -Errno.EINTR) return result;
    }
  }

  /** Closes it, when it is owned: with the last descriptor of the group all that is pending is allowed. */
  [Symbol.dispose](): void {
    this.#owned?.close();
  }
}

function shown(target: MarkTarget): string {
  if (typeof target === 'number') return `descriptor ${target}`;
  if (typeof target === 'string') return target;
  if (target instanceof Uint8Array) return Buffer.from(target).toString();
  return shown(target.name);
}
