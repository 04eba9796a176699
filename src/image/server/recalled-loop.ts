/**
 * Serves a remote image. A request that needs what is not here is put aside as the bytes that it came in, others go on,
 * and when the broker says that the recall has ended it is handled once more from its beginning: the reader of ext4 is
 * synchronous and keeps nothing of an attempt but its caches.
 *
 * While nobody waits this is the same loop as for local images: one thread in read(2). While somebody does, /dev/fuse
 * and the notices of the broker are read by threads of libuv's pool.
 */
import { read, stat } from 'node:fs';
import { Errno } from '../../base/errno.ts';
import { ebbError } from '../../base/errors.ts';
import type { DeferredCall } from '../../fuse/filesystem.ts';
import type { Session } from '../../fuse/session.ts';
import { noticeBytes } from '../messages.ts';
import { isPassing, readRequest, servingNotice } from './device.ts';
import type { WaitingRoom } from './filesystem.ts';
import type { ChunkRange, NotHereYet, RecalledDevice } from './recalled-device.ts';

/** Requests that wait at once; more get EAGAIN. The kernel sends one for each thread that reads, and read-ahead. */
const waitingMax = 10_000;
const noticesPerRead = 64;

interface Waiting {
  readonly call: DeferredCall;
  readonly request: Uint8Array;
  readonly giveUpAtMs: number;
}

interface Awaited {
  readonly chunks: ChunkRange;
  readonly requests: Waiting[];
}

/** The threads of the pool are started with its first work, which the filter would not allow later on. */
export function startPool(): Promise<void> {
  return new Promise((resolve) => stat('/', () => resolve()));
}

export class RecalledLoop implements WaitingRoom {
  readonly #device: RecalledDevice;
  /** By the number of the recall. An entry stays until the recall has ended, also when nobody waits any more. */
  readonly #awaited = new Map<number, Awaited>();
  #waitingCount = 0;
  /** What the request under way waits for. */
  #entered: { readonly call: DeferredCall; readonly reason: NotHereYet } | undefined;
  #session: Session | undefined;

  constructor(device: RecalledDevice) {
    this.#device = device;
  }

  enter(call: DeferredCall, reason: NotHereYet): void {
    this.#entered = { call, reason };
  }

  interrupt(unique: number): void {
    if (this.#entered?.call.unique === unique) {
      this.#session?.replier.error(this.#entered.call, Errno.EINTR);
      this.#entered = undefined;
      return;
    }
    for (const { requests } of this.#awaited.values()) {
      const index = requests.findIndex(({ call }) => call.unique === unique);
      const [found] = index < 0 ? [] : requests.splice(index, 1);
      if (found === undefined) continue;
      this.#waitingCount -= 1;
      this.#session?.replier.error(found.call, Errno.EINTR);
      return;
    }
  }

  /**
   * Resolves when the mount is gone or the connection was cut. Rejects with EIO when the broker says nothing any more:
   * who waits has been told. Both descriptors block. `onServing`: once, when INIT has been answered.
   */
  serve(
    session: Session,
    deviceFd: number,
    noticesFd: number,
    onServing: () => void,
  ): Promise<void> {
    this.#session = session;
    this.#device.patience = 'throw';
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    // The session's own buffer is needed for requests that come again meanwhile.
    const fresh = new Uint8Array(session.request.bytes.length);
    const notices = new Int32Array((noticeBytes / 4) * noticesPerRead);
    const noticeTarget = new Uint8Array(notices.buffer);
    let noticesHeldBytes = 0;
    let isReadingDevice = false;
    let isReadingNotices = false;
    let hasEnded = false;
    const end = (): void => {
      hasEnded = true;
      session.end();
      resolve();
    };
    const lose = (): void => {
      reject(ebbError('EIO', 'The broker of the image says nothing any more.'));
      this.#failAll(session);
      end();
    };
    const handled = servingNotice(session, onServing);
    const receive = (count: number): void => {
      this.#receive(session, count);
      handled();
    };
    const goOn = (): void => {
      while (this.#awaited.size === 0 && !isReadingDevice) {
        const count = readRequest(deviceFd, session.request.bytes);
        if (count === undefined) return end();
        receive(count);
      }
      if (!isReadingDevice) readDevice();
      if (!isReadingNotices && this.#awaited.size > 0) readNotices();
    };
    const readDevice = (): void => {
      isReadingDevice = true;
      read(deviceFd, fresh, 0, fresh.length, null, (error, count) => {
        isReadingDevice = false;
        if (hasEnded) return;
        if (error === null) {
          session.request.bytes.set(fresh.subarray(0, count));
          receive(count);
        } else if (!isPassing(error)) return end();
        goOn();
      });
    };
    const readNotices = (): void => {
      isReadingNotices = true;
      const room = noticeTarget.length - noticesHeldBytes;
      read(noticesFd, noticeTarget, noticesHeldBytes, room, null, (error, count) => {
        isReadingNotices = false;
        if (hasEnded) return;
        if (error !== null || count === 0) return lose();
        noticesHeldBytes += count;
        const whole = Math.floor(noticesHeldBytes / noticeBytes);
        const ended = notices.slice(0, whole * (noticeBytes / 4));
        noticeTarget.copyWithin(0, whole * noticeBytes, noticesHeldBytes);
        noticesHeldBytes -= whole * noticeBytes;
        for (let at = 0; at < ended.length; at += 2) {
          this.#recallEnded(session, ended[at] ?? 0, ended[at + 1] ?? Errno.EIO);
        }
        goOn();
      });
    };
    goOn();
    return promise;
  }

  #failAll(session: Session): void {
    for (const { requests } of this.#awaited.values()) {
      for (const { call } of requests) session.replier.error(call, Errno.EIO);
    }
    this.#awaited.clear();
    this.#waitingCount = 0;
  }

  #receive(session: Session, countBytes: number): void {
    const { deadlineMs } = this.#device;
    this.#handle(session, countBytes, performance.now() + deadlineMs);
  }

  /**
   * Handles what is in the session's buffer, and puts it aside if it has to wait. `giveUpAtMs`: of performance.now(),
   * counted from when the request came first.
   */
  #handle(session: Session, countBytes: number, giveUpAtMs: number): void {
    this.#device.giveUpAtMs = giveUpAtMs;
    session.receive(countBytes);
    const entered = this.#entered;
    if (entered === undefined) return;
    this.#entered = undefined;
    const { call, reason } = entered;
    if (this.#waitingCount >= waitingMax) {
      session.replier.error(call, Errno.EAGAIN);
      return;
    }
    const { recall, chunks } = reason;
    const awaited = this.#awaited.get(recall) ?? { chunks, requests: [] };
    this.#awaited.set(recall, awaited);
    const request = session.request.bytes.slice(0, countBytes);
    awaited.requests.push({ call, request, giveUpAtMs });
    this.#waitingCount += 1;
  }

  #recallEnded(session: Session, recall: number, errno: number): void {
    const awaited = this.#awaited.get(recall);
    // Of a hint, or of who only looked.
    if (awaited === undefined) return;
    this.#awaited.delete(recall);
    this.#waitingCount -= awaited.requests.length;
    const { chunks, requests } = awaited;
    if (errno === 0) this.#device.arrived(chunks);
    for (const { request, giveUpAtMs } of requests) {
      this.#device.failure = errno === 0 ? undefined : { chunks, errno };
      session.request.bytes.set(request);
      this.#handle(session, request.length, giveUpAtMs);
    }
    this.#device.failure = undefined;
  }
}
