/** Events and answers in bytes: what the kernel wrote is understood, and anything else does no harm. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Errno, errnoCode } from '../../src/base/errno.ts';
import { EventCursor, EventFormatError } from '../../src/fanotify/codec.ts';
import { FanEvent, eventNames } from '../../src/fanotify/constants.ts';
import { denialFor, encodeResponse, isDenial, responseWord } from '../../src/fanotify/response.ts';
import * as golden from './golden.ts';

function load(cursor: EventCursor, bytes: Uint8Array): EventCursor {
  cursor.bytes.fill(0xaa);
  cursor.bytes.set(bytes);
  cursor.reset(bytes.length);
  return cursor;
}

/** The only event of a golden capture. */
function only(hex: string): EventCursor {
  const cursor = load(new EventCursor(), golden.bytesOf(hex));
  assert.equal(cursor.next(), true);
  return cursor;
}

const text = (bytes: Uint8Array | undefined): string | undefined =>
  bytes === undefined ? undefined : Buffer.from(bytes).toString('latin1');

test('golden bytes: ranges, process descriptors, permission events', () => {
  const range = only(golden.range);
  assert.deepEqual(
    [range.mask, range.fd, range.pid, range.pidfd, range.hasRange, range.offset, range.count],
    [FanEvent.preAccess, 23, 0x5345, -1, true, 4096, 4096],
  );
  assert.deepEqual([range.needsAnswer, range.problem, range.fids()], [true, undefined, []]);
  assert.equal(range.next(), false);

  const huge = only(golden.pidfdAndHugeRange);
  assert.deepEqual([huge.fd, huge.pidfd, huge.count], [23, 24, 4096]);
  assert.equal(huge.offset, Number.MAX_SAFE_INTEGER, 'behind the end of every file, not rounded');

  const open = only(golden.openPermission);
  assert.deepEqual(
    [open.mask, open.fd, open.pid, open.hasRange, open.problem, open.needsAnswer],
    [FanEvent.openPermission, 23, 0x537a, false, undefined, true],
  );
});

test('golden bytes: entries, renames, errors of the file system', () => {
  const shown = (cursor: EventCursor): unknown[] =>
    cursor.fids().map(({ kind, handle, name }) => [kind, handle.type, handle.bytes, text(name)]);
  const root = new Uint8Array([2, 0, 0, 0, 0, 0, 0, 0]);
  const file = new Uint8Array([0x0c, 0, 0, 0, 0xe7, 0x38, 0xed, 0x5d]);
  const directory = new Uint8Array([1, 8, 0, 0, 0x9d, 0xbb, 0x45, 0xc6]);

  const modified = only(golden.modified);
  assert.deepEqual(eventNames(modified.mask), ['modify', 'closeWrite']);
  assert.deepEqual([modified.fd, modified.needsAnswer], [-1, false]);
  assert.deepEqual(shown(modified), [
    ['entry', 1, root, 'file'],
    ['object', 1, file, undefined],
  ]);
  assert.equal(modified.fids()[0]?.fsid, 0x7f8d9d02a6498663n);

  const made = only(golden.directoryMade);
  assert.deepEqual(eventNames(made.mask), ['create', 'onDirectory']);
  assert.deepEqual(shown(made)[0], ['entry', 1, root, 'dir']);

  assert.deepEqual(shown(only(golden.renamed)), [
    ['oldEntry', 1, root, 'file'],
    ['newEntry', 1, directory, 'new name'],
    ['object', 1, file, undefined],
  ]);

  const error = only(golden.filesystemError);
  assert.deepEqual(
    [error.mask, error.errorNumber, error.errorCount],
    [FanEvent.filesystemError, Errno.EUCLEAN, 1],
  );
  assert.deepEqual(shown(error), [['object', 255, new Uint8Array(0), undefined]]);
});

test('a buffer of many events gives each of them, with nothing left over from the one before', () => {
  const cursor = load(
    new EventCursor(),
    new Uint8Array(Buffer.concat(golden.all.map((hex) => golden.bytesOf(hex)))),
  );
  const seen: unknown[] = [];
  while (cursor.next()) {
    seen.push([cursor.mask, cursor.fd, cursor.pidfd, cursor.offset, cursor.errorNumber]);
    const alone = only(golden.all[seen.length - 1] ?? '');
    assert.deepEqual(cursor.fids(), alone.fids());
    assert.deepEqual(seen.at(-1), [
      alone.mask,
      alone.fd,
      alone.pidfd,
      alone.offset,
      alone.errorNumber,
    ]);
  }
  assert.equal(seen.length, golden.all.length);
});

/** A golden capture with some bytes changed, and what the cursor says of it. */
function changed(hex: string, changes: readonly [at: number, byte: number][]): EventCursor {
  const bytes = golden.bytesOf(hex);
  for (const [at, byte] of changes) bytes[at] = byte;
  return load(new EventCursor(), bytes);
}

test('frames that make no sense are refused: version, lengths', () => {
  const refused: readonly [what: string, at: number, byte: number][] = [
    ['another version', 4, 4],
    ['shorter than its metadata', 0, 23],
    ['longer than what was read', 0, 49],
    ['huge', 3, 0x80],
    ['metadata shorter than it can be', 6, 23],
    ['metadata longer than the event', 6, 49],
  ];
  for (const [what, at, byte] of refused) {
    const cursor = changed(golden.range, [[at, byte]]);
    assert.throws(() => cursor.next(), EventFormatError, what);
    assert.equal(cursor.next(), false, `${what}: the rest is given up`);
  }
  const short = load(new EventCursor(), golden.bytesOf(golden.range).subarray(0, 20));
  assert.throws(() => short.next(), EventFormatError);
});

test('records that make no sense are a problem of their event alone', () => {
  const recordAt = 24;
  const problems: readonly [what: string, changes: readonly [number, number][]][] = [
    ['a record of no length', [[recordAt + 2, 0]]],
    ['a record longer than its event', [[recordAt + 2, 25]]],
    ['a range too short for its numbers', [[recordAt + 2, 20]]],
  ];
  for (const [what, changes] of problems) {
    const cursor = changed(golden.range, changes);
    assert.equal(cursor.next(), true, what);
    assert.deepEqual([cursor.problem, cursor.fd, cursor.needsAnswer], ['record', 23, true], what);
  }
  const noName = changed(golden.modified, [[24 + 2, 0x1c]]);
  assert.equal(noName.next(), true);
  assert.deepEqual([noName.problem, noName.fids()], ['record', []], 'a name without an end');
  const handle = changed(golden.modified, [[24 + 12, 200]]);
  assert.equal(handle.next(), true);
  assert.deepEqual([handle.problem, handle.fids()], ['record', []], 'a handle that is too long');
});

test('a read without its range is a problem, not a read of nothing', () => {
  // The record becomes one of a type that nobody knows: skipped by its length.
  const cursor = changed(golden.range, [[24, 99]]);
  assert.equal(cursor.next(), true);
  assert.deepEqual([cursor.problem, cursor.hasRange, cursor.count], ['noRange', false, 0]);
  assert.equal(cursor.next(), false);
  // Without any record.
  const bare = changed(golden.openPermission, [
    [10, 0x10],
    [8, 0],
  ]);
  assert.equal(bare.next(), true);
  assert.deepEqual([bare.mask, bare.problem], [FanEvent.preAccess, 'noRange']);
});

test('unknown records are skipped by their length', () => {
  const known = golden.bytesOf(golden.range);
  const unknown = new Uint8Array([77, 0, 9, 0, 1, 2, 3, 4, 5]);
  const bytes = new Uint8Array(known.length + unknown.length);
  bytes.set(known.subarray(0, 24));
  bytes.set(unknown, 24);
  bytes.set(known.subarray(24), 24 + unknown.length);
  bytes[0] = bytes.length;
  const cursor = load(new EventCursor(), bytes);
  assert.equal(cursor.next(), true);
  assert.deepEqual([cursor.problem, cursor.offset, cursor.count], [undefined, 4096, 4096]);
});

test('descriptors that could not be opened, and overflow, need no answer', () => {
  const overflow = changed(golden.openPermission, [
    [9, 0x40],
    [10, 0],
    ...[16, 17, 18, 19].map((at): [number, number] => [at, 0xff]),
  ]);
  assert.equal(overflow.next(), true);
  assert.deepEqual([overflow.isOverflow, overflow.needsAnswer], [true, false]);
  const noFd = changed(golden.openPermission, [
    [16, 256 - Errno.EMFILE],
    ...[17, 18, 19].map((at): [number, number] => [at, 0xff]),
  ]);
  assert.equal(noFd.next(), true);
  assert.deepEqual([noFd.fd, noFd.needsAnswer], [-Errno.EMFILE, false]);
});

test('fuzz: any bytes are events or a typed error, never out of bounds, never for ever', () => {
  const cursor = new EventCursor(4096);
  const goldens = Buffer.concat(golden.all.map((hex) => golden.bytesOf(hex)));
  const mutated = fc
    .array(fc.tuple(fc.nat(goldens.length - 1), fc.integer({ min: 0, max: 255 })), {
      maxLength: 12,
    })
    .map((changes) => {
      const bytes = new Uint8Array(goldens);
      for (const [at, byte] of changes) bytes[at] = byte;
      return bytes;
    });
  fc.assert(
    fc.property(
      fc.oneof(fc.uint8Array({ maxLength: 4096 }), mutated),
      fc.nat(600),
      (bytes, cut) => {
        const given = bytes.subarray(0, Math.max(0, bytes.length - cut));
        load(cursor, given);
        let events = 0;
        try {
          while (cursor.next()) {
            events += 1;
            assert.ok(Number.isSafeInteger(cursor.offset) && cursor.offset >= 0);
            assert.ok(Number.isSafeInteger(cursor.count) && cursor.count >= 0);
            if ((cursor.mask & FanEvent.preAccess) !== 0 && cursor.problem === undefined)
              assert.ok(cursor.hasRange);
            for (const { handle, name } of cursor.fids()) {
              assert.ok(handle.bytes.length <= 128);
              assert.ok(name === undefined || !name.includes(0));
            }
          }
        } catch (error) {
          if (!(error instanceof EventFormatError)) throw error;
        }
        assert.ok(events * 24 <= given.length);
      },
    ),
    { numRuns: 3000 },
  );
});

test('answers in bytes', () => {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  const hex = (answer: Parameters<typeof responseWord>[0], withErrno: boolean): string => {
    assert.equal(encodeResponse(view, 23, responseWord(answer, withErrno)), 8);
    return Buffer.from(bytes).toString('hex');
  };
  assert.equal(hex('allow', true), '1700000001000000');
  assert.equal(hex('EIO', true), '1700000002000005');
  assert.equal(hex('EPERM', true), '1700000002000001');
  assert.equal(hex('EDQUOT', true), '170000000200007a');
  assert.equal(hex('EIO', false), '1700000002000000');
});

test('every errno has a denial that the kernel takes', () => {
  for (let errno = -200; errno < 5000; errno += 1) assert.ok(isDenial(denialFor(errno)));
  const expected = {
    EPERM: 'EPERM EACCES EROFS',
    EIO: 'EIO ENOENT ESTALE ETIMEDOUT EHOSTUNREACH EINVAL ENOSYS EOPNOTSUPP',
    EAGAIN: 'EAGAIN ENOMEM EMFILE ENFILE EINTR',
    EBUSY: 'EBUSY EDEADLK',
    ETXTBSY: 'ETXTBSY',
    ENOSPC: 'ENOSPC',
    EDQUOT: 'EDQUOT',
  };
  for (const [denial, codes] of Object.entries(expected)) {
    for (const name of codes.split(' ')) {
      const code = errnoCode(name);
      assert.ok(code);
      assert.equal(denialFor(Errno[code]), denial, name);
    }
  }
});
