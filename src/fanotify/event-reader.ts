/**
 * Events of one group as they are read and answered: sees to it that each permission event gets exactly one answer and
 * that no descriptor is left open, whatever its handler does.
 */
import { assert } from '../base/assert.ts';
import { Errno, errnoCodeOf, errnoMessage } from '../base/errno.ts';
import { ebbError } from '../base/errors.ts';
import { closeFd } from '../sys/fd.ts';
import { read } from '../sys/io.ts';
import { EventCursor } from './codec.ts';
import { permissionEvents } from './constants.ts';
import type { FidRecord } from './codec.ts';
import type { AnswerResult, Group } from './group.ts';
import type { Denial } from './response.ts';

/** What a handler sees of an event, until it returns: the object is reused. Fields: `EventCursor`. */
export interface IncomingEvent {
  readonly mask: number;
  readonly fd: number;
  readonly pid: number;
  readonly pidfd: number;
  readonly hasRange: boolean;
  readonly offset: number;
  readonly count: number;
  readonly errorNumber: number;
  readonly errorCount: number;
  readonly needsAnswer: boolean;
  fids(): FidRecord[];
  /** The requester goes on; `fd` is closed. */
  allow(): void;
  /** The requester's system call fails; `fd` is closed. From any errno: `denialFor`. */
  deny(denial: Denial): void;
  /**
   * `fd` is the caller's from now on. For a permission event: any thread answers later with `Group.answer`, which
   * closes it. For others: the caller closes it.
   */
  take(): number;
  /** As `take`, for `pidfd`: the caller closes it. */
  takePidfd(): number;
}

/** Something that should not happen, and what was done about it. */
export interface EventTrouble {
  /**
   * - `noDescriptor`: the kernel could not open the file for us (`errno`) and has denied the event by itself. EMFILE:
   *   the process has too few descriptors. EROFS: event descriptors for writing, through a read-only mount. EAGAIN:
   *   event descriptors with O_NONBLOCK, and a write lease on the file.
   * - `malformed`: an event whose records make no sense, or FAN_PRE_ACCESS without a range; denied with EIO.
   * - `handler`: it threw (`cause`) or forgot to answer; denied with EIO.
   * - `answer`: the kernel refused the answer; the requester got EPERM, or (`failed`) waits on.
   */
  readonly kind: 'noDescriptor' | 'malformed' | 'handler' | 'answer';
  /** One sentence. */
  readonly message: string;
  /** Positive; 0 when there is none. */
  readonly errno: number;
  readonly cause: unknown;
}

export type OnTrouble = (trouble: EventTrouble) => void;

export class EventReader extends EventCursor implements IncomingEvent {
  readonly group: Group;
  readonly #onTrouble: OnTrouble;
  /** `fd` has been answered or given away. */
  #isSettled = true;
  #pidfdTaken = true;

  /** `capacity`: as for `EventCursor`. */
  constructor(group: Group, onTrouble: OnTrouble, capacity?: number | Uint8Array<ArrayBuffer>) {
    super(capacity);
    this.group = group;
    this.#onTrouble = onTrouble;
  }

  /**
   * Reads what there is, as much as fits. Returns its bytes, 0 when there is nothing now. Events that the kernel could
   * not deliver (of groups without `reportFdError`) are reported; it has denied them. Throws EBADF, EINVAL when this is
   * no group.
   */
  fill(): number {
    for (;;) {
      const result = read(this.group.fd, this.bytes);
      this.reset(Math.max(0, result));
      if (result > 0) return result;
      switch (-result) {
        case 0:
        case Errno.EAGAIN:
          return 0;
        case Errno.EINTR:
          continue;
        case Errno.EBADF:
        case Errno.EINVAL:
        case Errno.EFAULT:
          throw ebbError(errnoCodeOf(result) ?? 'EIO', 'A fanotify group cannot be read.');
        default:
          this.#noDescriptor(-result);
      }
    }
  }

  /** Has `handle` called for each event that `fill` read. Throws `EventFormatError`, nothing else. */
  handleAll(handle: (event: IncomingEvent) => void, overflow: () => void): void {
    while (this.next()) {
      this.#isSettled = this.fd < 0;
      this.#pidfdTaken = this.pidfd < 0;
      let cause: unknown;
      try {
        if (this.isOverflow) overflow();
        else if (this.#isUsable()) handle(this);
      } catch (error) {
        cause = error;
        this.#trouble('handler', 'A handler of fanotify events threw.', 0, error);
      }
      this.#settle(cause);
    }
  }

  allow(): void {
    this.#answer('allow');
  }

  deny(denial: Denial): void {
    this.#answer(denial);
  }

  take(): number {
    assert(!this.#isSettled, 'an event has a descriptor and is answered or taken once');
    this.#isSettled = true;
    return this.fd;
  }

  takePidfd(): number {
    assert(!this.#pidfdTaken, 'an event has a process descriptor and it is taken once');
    this.#pidfdTaken = true;
    return this.pidfd;
  }

  #isUsable(): boolean {
    if (this.problem !== undefined) {
      const what = this.problem === 'noRange' ? 'has no range' : 'has a malformed record';
      this.#trouble('malformed', `A fanotify event ${what}: it is denied.`, 0, undefined);
      if (this.needsAnswer) this.deny('EIO');
      return false;
    }
    // -1 of other events: groups that report names.
    if (this.fd >= 0 || (this.fd === -1 && (this.mask & permissionEvents) === 0)) return true;
    this.#noDescriptor(-this.fd);
    return false;
  }

  #noDescriptor(errno: number): void {
    const why = errno === Errno.EAGAIN ? 'somebody has a write lease on it' : errnoMessage(errno);
    const message = `The kernel could not open the file of an event and has denied it: ${why}.`;
    this.#trouble('noDescriptor', message, errno, undefined);
  }

  #answer(answer: 'allow' | Denial): void {
    assert(this.needsAnswer && !this.#isSettled, 'a permission event is answered once');
    this.#isSettled = true;
    const result: AnswerResult = this.group.answer(this.fd, answer);
    if (result === 'answered' || result === 'gone') return;
    const waits = result === 'failed' ? 'it waits on' : 'it got EPERM instead';
    const message = `The kernel refused the answer ${answer} for a requester: ${waits}.`;
    this.#trouble('answer', message, 0, undefined);
  }

  #settle(cause: unknown): void {
    if (!this.#pidfdTaken) closeFd(this.pidfd);
    if (this.#isSettled) return;
    if (!this.needsAnswer) {
      closeFd(this.fd);
      return;
    }
    if (cause === undefined) {
      this.#trouble('handler', 'A handler forgot to answer a fanotify event.', 0, undefined);
    }
    this.#answer('EIO');
  }

  #trouble(kind: EventTrouble['kind'], message: string, errno: number, cause: unknown): void {
    this.#onTrouble({ kind, message, errno, cause });
  }
}
