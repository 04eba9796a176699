/**
 * Events that no kernel has written yet. The group is one end of a socket, the test is the kernel at the other: what it
 * sends is read as events, and it gets the answers.
 */
import assert from 'node:assert/strict';
import { readlinkSync } from 'node:fs';
import { test } from 'node:test';
import { EventReader } from '../../src/fanotify/event-reader.ts';
import { EventFormatError } from '../../src/fanotify/codec.ts';
import { Group } from '../../src/fanotify/group.ts';
import { OpenFlag, openFd, setNonblocking } from '../../src/sys/fd.ts';
import { read, write } from '../../src/sys/io.ts';
import { socketPair } from '../../src/sys/socket.ts';
import type { EventTrouble, IncomingEvent } from '../../src/fanotify/event-reader.ts';
import * as golden from './golden.ts';

/** The descriptor that an event of the tests names: the reader closes it. */
function eventFd(): number {
  return openFd('/dev/null', OpenFlag.rdonly).release();
}

const isOpen = (fd: number): boolean => {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === '/dev/null';
  } catch {
    return false;
  }
};

/** The bytes with this descriptor in them. */
function named(hex: string, fd: number): Uint8Array {
  const bytes = golden.bytesOf(hex);
  new DataView(bytes.buffer).setInt32(16, fd, true);
  return bytes;
}

interface Outcome {
  readonly handled: number;
  readonly troubles: readonly EventTrouble[];
  /** Answers in hexadecimal, without the descriptor. */
  readonly answers: readonly string[];
  readonly thrown: unknown;
}

/** What becomes of these bytes. Default: all events are allowed. */
function serve(
  bytes: Uint8Array,
  handle = (event: IncomingEvent): void => {
    if (event.needsAnswer) event.allow();
  },
): Outcome {
  const [ours, kernel] = socketPair();
  using _ours = ours;
  using _kernel = kernel;
  setNonblocking(ours.fd, true);
  setNonblocking(kernel.fd, true);
  write(kernel.fd, bytes);
  const troubles: EventTrouble[] = [];
  const reader = new EventReader(Group.borrow(ours.fd, 'preContent'), (each) =>
    troubles.push(each),
  );
  let handled = 0;
  let thrown: unknown;
  try {
    while (reader.fill() > 0) {
      reader.handleAll(
        (event) => {
          handled += 1;
          handle(event);
        },
        () => undefined,
      );
    }
  } catch (error) {
    thrown = error;
  }
  const answers: string[] = [];
  const answer = new Uint8Array(8);
  while (read(kernel.fd, answer) === 8)
    answers.push(Buffer.from(answer.subarray(4)).toString('hex'));
  return { handled, troubles, answers, thrown };
}

const allow = '01000000';
const denyIo = '02000005';

test('an event without its range is denied with EIO and never handled; the next one is', () => {
  const [bad, good] = [eventFd(), eventFd()];
  const withoutRange = named(golden.range, bad);
  withoutRange[24] = 99;
  const bytes = Buffer.concat([withoutRange, named(golden.range, good)]);
  const { handled, troubles, answers, thrown } = serve(new Uint8Array(bytes));
  assert.deepEqual([handled, answers, thrown], [1, [denyIo, allow], undefined]);
  assert.deepEqual(
    troubles.map(({ kind }) => kind),
    ['malformed'],
  );
  assert.deepEqual([isOpen(bad), isOpen(good)], [false, false]);
});

test('an unknown version stops the group: nothing is guessed', () => {
  const fd = eventFd();
  const bytes = named(golden.range, fd);
  bytes[4] = 4;
  const { handled, answers, thrown } = serve(bytes);
  assert.deepEqual([handled, answers], [0, []]);
  assert.ok(thrown instanceof EventFormatError);
  assert.equal(isOpen(fd), true);
});

test('whatever a handler does, each event gets one answer and its descriptors are closed', () => {
  const handlers: readonly [
    what: string,
    handle: (event: IncomingEvent) => void,
    answer: string,
  ][] = [
    ['allows', (event) => event.allow(), allow],
    ['denies', (event) => event.deny('ENOSPC'), '0200001c'],
    ['forgets', () => undefined, denyIo],
    [
      'throws',
      () => {
        throw new Error('broken');
      },
      denyIo,
    ],
    [
      'throws after its answer',
      (event) => {
        event.allow();
        throw new Error('broken');
      },
      allow,
    ],
    [
      'answers twice',
      (event) => {
        event.allow();
        event.deny('EIO');
      },
      allow,
    ],
  ];
  for (const [what, handle, answer] of handlers) {
    const [fd, pidfd] = [eventFd(), eventFd()];
    const bytes = named(golden.pidfdAndHugeRange, fd);
    new DataView(bytes.buffer).setInt32(28, pidfd, true);
    const { answers, troubles } = serve(bytes, handle);
    assert.deepEqual(answers, [answer], what);
    assert.deepEqual([isOpen(fd), isOpen(pidfd)], [false, false], what);
    assert.equal(troubles.length, what === 'allows' || what === 'denies' ? 0 : 1, what);
  }
});

test('what is taken stays open, what is a notification is closed', () => {
  const [fd, pidfd] = [eventFd(), eventFd()];
  const bytes = named(golden.pidfdAndHugeRange, fd);
  new DataView(bytes.buffer).setInt32(28, pidfd, true);
  const { answers } = serve(bytes, (event) => {
    assert.equal(event.take(), fd);
    assert.equal(event.takePidfd(), pidfd);
  });
  assert.deepEqual([answers, isOpen(fd), isOpen(pidfd)], [[], true, true]);
  for (const each of [fd, pidfd]) closeNow(each);

  const notified = eventFd();
  const notification = named(golden.openPermission, notified);
  notification.set([0x20, 0, 0, 0], 8);
  assert.deepEqual(serve(notification).troubles, []);
  assert.equal(isOpen(notified), false);
});

/** Closes a descriptor that was given away. */
function closeNow(fd: number): void {
  Group.borrow(-1, 'content').answer(fd, 'allow');
  assert.equal(isOpen(fd), false);
}

test('an event whose file the kernel could not open is reported, not handled', () => {
  const { handled, troubles, answers } = serve(named(golden.range, -24));
  assert.deepEqual([handled, answers], [0, []]);
  assert.deepEqual(
    troubles.map(({ kind, errno }) => [kind, errno]),
    [['noDescriptor', 24]],
  );
});
