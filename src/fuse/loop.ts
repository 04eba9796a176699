/**
 * The blocking loop of a session thread: poll(2) on the device and the wake-up eventfd, then
 * read(2) as long as requests are there.
 *
 * Several threads may run it on the same descriptor, which must be non-blocking: poll wakes all of
 * them and all but one read EAGAIN. It never waits without the eventfd, because nothing else can
 * stop a blocked thread: not `worker.terminate()`, not closing the descriptor, and `process.exit()`
 * would wait for it for ever.
 */
import { Errno, errnoCodeOf } from '../base/errno.ts';
import { ebbError } from '../base/errors.ts';
import { read } from '../sys/io.ts';
import { PollEvent, PollSet } from '../sys/poll.ts';
import type { LoopControl } from '../sys/loop-control.ts';
import type { Session } from './session.ts';

/**
 * `stopped`: we were asked to. `unmounted`: the mount is gone. `aborted`: somebody cut the
 * connection.
 */
export type LoopEnd = 'stopped' | 'unmounted' | 'aborted';

/**
 * How many requests are read before the eventfd is looked at again. Reading on without poll(2) in
 * between is faster even for one client: the answer often brings the next request before we are
 * back.
 */
const requestsPerPollMax = 16;

/**
 * Serves until the connection ends or `control.stop()`. Blocks the calling thread. `session.end()`
 * is called before it returns. Throws EbbError for a descriptor that cannot be read.
 */
export function runLoop(
  deviceFileDescriptor: number,
  session: Session,
  control: LoopControl,
): LoopEnd {
  const waiting = new PollSet([
    { fd: deviceFileDescriptor, events: PollEvent.in },
    { fd: control.eventFileDescriptor, events: PollEvent.in },
  ]);
  try {
    for (;;) {
      if (control.isStopping) return 'stopped';
      const ready = waiting.wait(-1);
      if (ready === -Errno.EINTR) continue;
      if (ready < 0) throw ebbError(errnoCodeOf(ready) ?? 'EIO', 'poll(2) on /dev/fuse failed.');
      if (waiting.ready(1) !== 0) {
        control.drain();
        if (control.isStopping) return 'stopped';
        session.wakeup();
      }
      if (waiting.ready(0) === 0) continue;
      const end = receiveSome(deviceFileDescriptor, session);
      if (end !== undefined) return end;
    }
  } finally {
    session.end();
  }
}

/** Handles what is there, up to the bound. Undefined: wait for more. */
function receiveSome(deviceFileDescriptor: number, session: Session): LoopEnd | undefined {
  for (let count = 0; count < requestsPerPollMax; count += 1) {
    const result = read(deviceFileDescriptor, session.request.bytes);
    if (result > 0) session.receive(result);
    else return endOf(result);
  }
  return undefined;
}

/** What a failed read means for the loop. */
function endOf(result: number): LoopEnd | undefined {
  switch (-result) {
    // Nothing there, or another thread was faster; the request was withdrawn; a signal.
    case Errno.EAGAIN:
    case Errno.ENOENT:
    case Errno.EINTR:
      return undefined;
    case Errno.ENODEV:
      return 'unmounted';
    // Said instead of ENODEV when FUSE_ABORT_ERROR was agreed on.
    case Errno.ECONNABORTED:
      return 'aborted';
    default:
      throw ebbError(errnoCodeOf(result) ?? 'EIO', `reading /dev/fuse failed (${result}).`);
  }
}
