/** Waking a thread that is blocked: never missed, and no system call when it has not looked yet. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LoopControl } from '../../src/sys/loop-control.ts';
import { EventFd } from '../../src/sys/event-fd.ts';

test('a wake-up is signalled once until it was taken, and after that again', () => {
  using control = LoopControl.create();
  const other = LoopControl.open(control.shared);
  const event = EventFd.borrow(control.eventFileDescriptor);
  other.wake();
  other.wake();
  assert.equal(event.drain(), 1, 'two wake-ups were one signal');
  control.drain();
  other.wake();
  assert.equal(event.drain(), 1, 'after it was taken the next one signals');
  other.wake();
  other.stop();
  assert.equal(event.drain(), 1, 'stop signals whatever was before');
  assert.equal(control.isStopping, true);
});
