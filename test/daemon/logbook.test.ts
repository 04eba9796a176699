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
