/** The log: what is written, remembered and followed, each with an end. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { ManualClock } from '../../src/base/clock.ts';
import type { LogRecord } from '../../src/daemon/api.ts';
import { Logbook } from '../../src/daemon/logbook.ts';

function setUp(minimum: LogRecord['level'] = 'info'): { logbook: Logbook; lines: string[] } {
  const lines: string[] = [];
  return { lines, logbook: new Logbook(new ManualClock(0), minimum, (line) => lines.push(line)) };
}

async function all(source: AsyncIterable<LogRecord>): Promise<string[]> {
  const messages: string[] = [];
  for await (const { message } of source) messages.push(message);
  return messages;
}

const never = new AbortController().signal;

test('lines have time, level and fields; what is below the level is left out', async () => {
  const { logbook, lines } = setUp();
  logbook.log('debug', 'quiet');
  logbook.log('info', 'hello', { bytes: 5, name: 'a b' });
  assert.equal(lines.length, 1);
  assert.match(lines[0] ?? '', /^1970-01-01T00:00:00\.000Z info\s+hello bytes=5 name="a b"\n$/i);
  assert.deepEqual(await all(logbook.read(10, false, never)), ['hello']);
  assert.equal(logbook.lastError, null);
  logbook.log('warn', 'bad');
  assert.equal(logbook.lastError, 'bad');
});

test('the last lines are remembered, not all', async () => {
  const { logbook } = setUp();
  for (let count = 0; count < 25_000; count += 1) logbook.log('info', String(count));
  assert.deepEqual(await all(logbook.read(2, false, never)), ['24998', '24999']);
  assert.equal((await all(logbook.read(100_000, false, never))).length, 10_000);
  assert.deepEqual(await all(logbook.read(0, false, never)), []);
});

test('a follower sees new lines until it goes, and a lazy one loses the oldest', async () => {
  const { logbook } = setUp();
  logbook.log('info', 'old');
  const controller = new AbortController();
  const seen: string[] = [];
  const following = (async () => {
    for await (const { message } of logbook.read(1, true, controller.signal)) seen.push(message);
  })();
  await turn();
  logbook.log('info', 'new');
  await turn();
  assert.deepEqual(seen, ['old', 'new']);
  for (let count = 0; count < 5_000; count += 1) logbook.log('info', String(count));
  await turn();
  assert.equal(seen.at(-1), '4999');
  assert.ok(seen.length < 1_100, `${seen.length} lines were queued`);
  controller.abort();
  await following;
  logbook.log('info', 'unheard');
  assert.equal(seen.at(-1), '4999');
});

test('a follower whose client is gone already ends at once', async () => {
  const { logbook } = setUp();
  logbook.log('info', 'one');
  assert.deepEqual(await all(logbook.read(5, true, AbortSignal.abort())), ['one']);
});

test('trouble that repeats itself is said a few times, then counted, and is new again after a quiet minute', () => {
  const lines: string[] = [];
  const clock = new ManualClock(0);
  const logbook = new Logbook(clock, 'info', (line) => lines.push(line));
  const fail = (count: number, code: string): void => {
    for (let file = 0; file < count; file += 1)
      logbook.trouble(`failed recalls, ${code}`, `recall of f${file} failed: ${code}`, { file });
  };
  const said = (): string[] => lines.splice(0).map((line) => line.slice(25).trimEnd());
  fail(5_000, 'ENOSPC');
  assert.equal(logbook.lastError, 'recall of f4999 failed: ENOSPC');
  const first = said();
  assert.equal(first.length, 10);
  assert.equal(first[9], 'warn recall of f9 failed: ENOSPC file=9');
  // Another trouble is not lost in it.
  fail(1, 'EIO');
  assert.deepEqual(said(), ['warn recall of f0 failed: EIO file=0']);
  for (let minute = 0; minute < 60; minute += 1) {
    clock.advance(60_000);
    fail(5_000, 'ENOSPC');
  }
  const hour = said();
  assert.equal(hour.length, 60);
  assert.equal(
    hour[0],
    'warn failed recalls, ENOSPC: 4990 more within 60 s, the last: recall of f4999 failed: ENOSPC',
  );
  // Also when nothing more comes: a timer asks.
  clock.advance(60_000);
  logbook.sayCounted(clock.monotonicMs());
  assert.equal(said().length, 1);
  clock.advance(60_000);
  fail(1, 'ENOSPC');
  assert.deepEqual(said(), ['warn recall of f0 failed: ENOSPC file=0']);
});

test('however many kinds of trouble there are, what is said has an end', () => {
  const lines: string[] = [];
  const logbook = new Logbook(new ManualClock(0), 'info', (line) => lines.push(line));
  for (let kind = 0; kind < 100_000; kind += 1) logbook.trouble(`kind ${kind}`, 'bad');
  assert.ok(lines.length < 100, `${lines.length} lines`);
});

test('the counts come by themselves, without another line', (t) => {
  const lines: string[] = [];
  const clock = new ManualClock(0);
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const logbook = new Logbook(clock, 'info', (line) => lines.push(line));
  for (let file = 0; file < 12; file += 1) logbook.trouble('kind', `bad ${file}`);
  clock.advance(60_000);
  t.mock.timers.tick(60_000);
  assert.match(lines.at(-1) ?? '', /warn kind: 2 more within 60 s, the last: bad 11\n$/);
});
