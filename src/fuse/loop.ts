/**
 * The blocking loop of a session thread: poll(2) on the device and the wake-up eventfd, then one read(2).
 *
 * Several threads may run it on the same descriptor, which must be non-blocking: poll wakes all of them and all
 * but one read EAGAIN. It never waits without the eventfd, because nothing else can stop a blocked thread: not
 * `worker.terminate()`, not closing the descriptor, and `process.exit()` would wait for it for ever.
 */
import { Errno, errnoCodeOf } from '../base/errno.ts';
import { ebbError } from '../base/errors.ts';
import { read } from '../sys/io.ts';
import { PollEvent, PollSet } from '../sys/poll.ts';
import type { LoopControl } from './control.ts';
import type { Session } from './session.ts';

/** `stopped`: we were asked to. `unmounted`: the mount is gone. `aborted`: somebody cut the connection. */
export type LoopEnd = 'stopped' | 'unmounted' | 'aborted';

/**
 * Serves until the connection ends or `control.stop()`. Blocks the calling thread. `session.end()` is called
 * before it returns. Throws EbbError for a descriptor that cannot be read.
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
      const end = receiveOne(deviceFileDescriptor, session);
      if (end !== undefined) return end;
    }
  } finally {
    session.end();
  }
}

function receiveOne(deviceFileDescriptor: number, session: Session): LoopEnd | undefined {
  const count = read(deviceFileDescriptor, session.request.bytes);
  if (count > 0) {
    session.receive(count);
    return undefined;
  }
  switch (-count) {
    // Another thread was faster; the request was interrupted before it was read; a signal.
    case Errno.EAGAIN:
    case Errno.ENOENT:
    case Errno.EINTR:
      return undefined;
    case Errno.ENODEV:
      return 'unmounted';
    // With FUSE_ABORT_ERROR; also when another session's request queue was cut.
    case Errno.ECONNABORTED:
      return 'aborted';
    default:
      throw ebbError(errnoCodeOf(count) ?? 'EIO', `reading /dev/fuse failed (${count}).`);
  }
}
