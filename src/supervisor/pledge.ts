/**
 * A service manager's pledge to start another supervisor: a pair of sockets, one end of which lies in its descriptor
 * store (descriptor-store.ts). The other end hangs up the moment the manager lets go of its own, whatever it does that
 * for. Nobody ever writes into either.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { OwnedFd } from '../sys/fd.ts';
import { PollEvent, PollSet } from '../sys/poll.ts';
import { socketPair } from '../sys/socket.ts';

const lookEveryMs = 50;

export interface Pledge extends Disposable {
  /** For this process and its daemons. */
  readonly ours: OwnedFd;
  /** For the manager: broken unless it is given away before it is closed. */
  readonly theirs: OwnedFd;
}

export function makePledge(): Pledge {
  const [ours, theirs] = socketPair();
  return {
    ours,
    theirs,
    [Symbol.dispose]() {
      ours.close();
      theirs.close();
    },
  };
}

/** Whether somebody has the other end. */
export function isHeld(end: number): boolean {
  const poll = new PollSet([{ fd: end, events: 0 }]);
  poll.wait(0);
  return (poll.ready(0) & (PollEvent.hup | PollEvent.nval)) === 0;
}

/** Resolves with true when nobody has the other end any more; with false when somebody still has it after `maxMs`. */
export async function untilReleased(end: number, maxMs: number): Promise<boolean> {
  const endsAtMs = performance.now() + maxMs;
  while (isHeld(end)) {
    if (performance.now() >= endsAtMs) return false;
    await sleep(lookEveryMs);
  }
  return true;
}
