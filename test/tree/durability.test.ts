/** Invariant I2: a claim is durable only after its bytes. Faults are injected where the kernel would report them. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { ebbError } from '../../src/base/errors.ts';
import { syncEach } from '../../src/sys/sync-many.ts';
import { ResidencyLog } from '../../src/tree/durability.ts';
import type { LoggedContent } from '../../src/tree/durability.ts';
import { contentPath } from '../../src/tree/layout.ts';
import { Residency } from '../../src/tree/residency.ts';
import { waitFor } from '../support/wait-for.ts';
import { openCache, sourceBytes, temporaryDirectory } from './support/cache.ts';
import { FailingDisk } from './support/failing-disk.ts';

interface TestLog {
  readonly log: ResidencyLog<LoggedContent>;
  readonly events: string[];
  readonly committed: Map<number, Residency>;
  /** Set by a test: what happens during the sync of this descriptor. */
  duringSync: (fd: number) => Promise<void>;
  beforeCommit: () => void;
}

/** Files of 100 bytes in chunks of 10; the descriptor of file n is 1000 + n. */
function testLog(limits = {}): TestLog {
  const events: string[] = [];
  const committed = new Map<number, Residency>();
  const tested: Omit<TestLog, 'log'> = {
    events,
    committed,
    duringSync: () => Promise.resolve(),
    beforeCommit: () => undefined,
  };
  const log = new ResidencyLog<LoggedContent>(
    {
      use: ({ id }) => ({ fd: 1000 + id, [Symbol.dispose]: () => events.push(`close ${id}`) }),
      syncData: (fds, onFailed) =>
        syncEach(
          fds,
          async (fd) => {
            await tested.duringSync(fd);
            events.push(`sync ${fd - 1000}`);
          },
          onFailed,
        ),
      commit: (rows) => {
        tested.beforeCommit();
        events.push(`commit ${rows.map(({ id }) => id).join()}`);
        for (const row of rows) committed.set(row.id, Residency.decode(row.bitmap, 100, 10));
      },
      mark: (file, row) => events.push(`mark ${file.id} ${row.residentBytes}`),
      syncFailed: (file) => events.push(`failed ${file.id}`),
      commitFailed: () => events.push('not committed'),
    },
    { commitIntervalMs: 60_000, ...limits },
  );
  return Object.assign(tested, { log });
}

function file(id: number): LoggedContent {
  const residency = Residency.create(100, 10);
  return { id, residency, lose: () => residency.clear() };
}

function mark(log: ResidencyLog<LoggedContent>, content: LoggedContent, chunk: number): void {
  content.residency.markResident(chunk, 1);
  log.marked(content, 10);
}

test('sync, then commit, then mark; all of a group in one transaction', async () => {
  const { log, events, committed } = testLog();
  const [a, b] = [file(1), file(2)];
  mark(log, a, 0);
  mark(log, b, 3);
  mark(log, a, 1);
  assert.equal(events.length, 0);
  await log.flush();
  const commit = events.indexOf('commit 1,2');
  assert.ok(events.indexOf('sync 1') < commit && events.indexOf('sync 2') < commit);
  assert.deepEqual(events.slice(commit + 1), ['mark 1 20', 'close 1', 'mark 2 10', 'close 2']);
  assert.deepEqual(committed.get(1)?.runs(), [{ first: 0, count: 2 }]);
  assert.equal(log.uncommittedBytes, 0);
  await log.flush();
  assert.equal(events.length, 7);
});

test('what is marked during a sync waits for the next group', async () => {
  const tested = testLog();
  const { log, committed, events } = tested;
  const a = file(1);
  mark(log, a, 0);
  tested.duringSync = () => {
    mark(log, a, 5);
    tested.duringSync = () => Promise.resolve();
    return Promise.resolve();
  };
  await log.flush();
  await log.flush();
  const marks = events.filter((event) => event.startsWith('mark'));
  assert.deepEqual(marks, ['mark 1 10', 'mark 1 20']);
  assert.deepEqual(committed.get(1)?.residentChunks, 2);
});

test('a failed sync takes back the whole claim of that file and of no other', async () => {
  const tested = testLog();
  const { log, events, committed } = tested;
  const [a, b] = [file(1), file(2)];
  mark(log, a, 0);
  await log.flush();
  assert.equal(committed.get(1)?.residentChunks, 1);
  mark(log, a, 1);
  mark(log, b, 2);
  tested.duringSync = (fd) =>
    fd === 1001 ? Promise.reject(ebbError('EIO', 'disk')) : Promise.resolve();
  await log.flush();
  assert.equal(a.residency.residentChunks, 0);
  assert.equal(committed.get(1)?.residentChunks, 0, 'also what was committed before');
  assert.equal(committed.get(2)?.residentChunks, 1);
  assert.ok(events.includes('mark 1 0') && events.includes('failed 1'));
  assert.ok(!events.includes('failed 2'));
});

test('sync and commit fail together: the loss is told all the same, and never claimed afterwards', async () => {
  const tested = testLog();
  const { log, events, committed } = tested;
  const a = file(1);
  mark(log, a, 0);
  tested.duringSync = () => Promise.reject(ebbError('EIO', 'disk'));
  tested.beforeCommit = () => {
    throw ebbError('ENOSPC', 'full');
  };
  await assert.rejects(log.flush(), { code: 'ENOSPC' });
  assert.ok(events.includes('failed 1'), 'the next sync knows of no error any more');
  tested.duringSync = () => Promise.resolve();
  tested.beforeCommit = () => undefined;
  await log.flush();
  assert.equal(committed.get(1)?.residentChunks, 0);
});

test('a refused commit is tried again; the claims in memory stay', async () => {
  const tested = testLog();
  const { log, events, committed } = tested;
  const a = file(1);
  mark(log, a, 0);
  tested.beforeCommit = () => {
    throw ebbError('ENOSPC', 'full');
  };
  await assert.rejects(log.flush(), { code: 'ENOSPC' });
  assert.deepEqual(events, ['sync 1', 'not committed']);
  assert.equal(a.residency.residentChunks, 1);
  assert.equal(log.uncommittedBytes, 10);
  tested.beforeCommit = () => undefined;
  await log.flush();
  assert.equal(committed.get(1)?.residentChunks, 1);
  assert.equal(log.uncommittedBytes, 0);
});

test('commits by itself: after a while, and at once when much is uncommitted', async () => {
  const timed = testLog({ commitIntervalMs: 20 });
  mark(timed.log, file(1), 0);
  const keepAlive = setInterval(() => undefined, 10);
  try {
    while (timed.committed.size === 0) await sleep(5);
  } finally {
    clearInterval(keepAlive);
  }
  const bounded = testLog({ uncommittedBytesMax: 20 });
  mark(bounded.log, file(1), 0);
  await sleep(1);
  assert.equal(bounded.committed.size, 0);
  mark(bounded.log, file(2), 0);
  while (bounded.committed.size < 2) await sleep(1);
});

test('writers wait while too much is uncommitted, and hear when it cannot be committed', async () => {
  const tested = testLog({ uncommittedBytesMax: 10 });
  const { log } = tested;
  tested.beforeCommit = () => {
    throw ebbError('ENOSPC', 'full');
  };
  mark(log, file(1), 0);
  mark(log, file(2), 0);
  assert.equal(log.isFull, true);
  await assert.rejects(log.drained(), { code: 'ENOSPC' });
  tested.beforeCommit = () => undefined;
  await log.drained();
  assert.equal(log.isFull, false);
  await log.flush();
});

test('who waits until something is committed does not have it committed sooner', async () => {
  const tested = testLog();
  const { log, committed } = tested;
  await log.committed(1);
  mark(log, file(1), 0);
  mark(log, file(2), 0);
  let isOver = false;
  const waiting = log.committed(1).then(() => (isOver = true));
  const forgotten = log.committed(2);
  await log.forget(2);
  await forgotten;
  await sleep(5);
  assert.deepEqual([isOver, committed.size], [false, 0]);
  tested.beforeCommit = () => {
    throw ebbError('ENOSPC', 'full');
  };
  await assert.rejects(log.flush(), { code: 'ENOSPC' });
  await sleep(1);
  assert.equal(isOver, false, 'it is still queued');
  tested.beforeCommit = () => assert.equal(isOver, false);
  await log.flush();
  await waiting;
  assert.equal(committed.has(1), true);
});

test('what is forgotten is not claimed, not even by a group under way', async () => {
  const tested = testLog();
  const { log, committed } = tested;
  const [a, b] = [file(1), file(2)];
  mark(log, a, 0);
  await log.forget(1);
  await log.flush();
  assert.equal(committed.size, 0);
  mark(log, b, 0);
  const gate = Promise.withResolvers<void>();
  tested.duringSync = () => gate.promise;
  const flushed = log.settled(2);
  const forgotten = log.forget(2).then(() => committed.has(2));
  gate.resolve();
  assert.equal(await forgotten, true, 'the group ended before');
  await flushed;
});

test('writers go on when the files that had written too much were forgotten', async () => {
  const tested = testLog({ uncommittedBytesMax: 10 });
  const { log } = tested;
  const gate = Promise.withResolvers<void>();
  tested.duringSync = () => gate.promise;
  const [a, b] = [file(1), file(2)];
  mark(log, a, 0);
  for (const chunk of [0, 1, 2]) mark(log, b, chunk);
  const settled = log.settled(1);
  await log.forget(2);
  gate.resolve();
  await settled;
  // What was forgotten while nothing was under way, too.
  assert.equal(log.uncommittedBytes, 0);
  assert.equal(log.isFull, false);
  await log.drained();
});

test('a flush waits for what is queued when it is asked for, whoever commits it, and for nothing later', async () => {
  const tested = testLog();
  const { log, committed } = tested;
  const [a, b, later] = [file(1), file(2), file(3)];
  mark(log, a, 0);
  const settled = log.settled(1);
  mark(log, b, 0);
  // Wakes up before the flush does, and begins the group that the flush waits for.
  const other = log.settled(2);
  tested.duringSync = () => {
    mark(log, later, committed.size);
    return Promise.resolve();
  };
  await log.flush();
  assert.ok(committed.has(2));
  await Promise.all([settled, other]);
  // Files are being written all the time.
  await log.flush();
  assert.equal(log.uncommittedBytes > 0, true);
});

test('at most four files are synced at the same time', async () => {
  const tested = testLog();
  const { log, committed } = tested;
  let [running, most] = [0, 0];
  tested.duringSync = async () => {
    running += 1;
    most = Math.max(most, running);
    await sleep(1);
    running -= 1;
  };
  for (let id = 1; id <= 30; id += 1) mark(log, file(id), 0);
  await log.flush();
  assert.deepEqual([most, committed.size], [4, 30]);
});

test('through the store: a sync that fails leaves nothing claimed anywhere', async () => {
  using directory = temporaryDirectory();
  const disk = new FailingDisk();
  const cache = openCache(directory.path, { syncData: disk.syncData });
  const content = cache.add('f', 100_000);
  await cache.fill(content, 0, 2);
  await cache.store.log.flush();
  assert.equal(cache.catalog.content(content.id)?.residentBytes, 8_192);
  disk.fails = true;
  await cache.fill(content, 2, 2);
  await cache.store.log.flush();
  assert.equal(content.residency.residentChunks, 0);
  assert.equal(cache.catalog.content(content.id)?.residentBytes, 0);
  assert.equal(cache.problems[0]?.kind, 'sync failed');
  cache.abandon();
});

test('bytes that a failed sync lost are not claimed by who marks them afterwards', async () => {
  using directory = temporaryDirectory();
  const disk = new FailingDisk();
  const cache = openCache(directory.path, { syncData: disk.syncData });
  const content = cache.add('f', 16 * 4_096);
  const { losses } = content;
  await content.write(sourceBytes(0, 8 * 4_096), 0);
  disk.fails = true;
  await cache.store.log.flush();
  disk.fails = false; // The kernel says it once.
  await content.write(sourceBytes(8 * 4_096, 8 * 4_096), 8 * 4_096);
  const refused = { code: 'EIO', retryable: true };
  assert.throws(() => content.markResident(0, 16, losses), refused);
  await cache.store.log.flush();
  assert.equal(content.residency.residentChunks, 0);
  assert.equal(cache.catalog.content(content.id)?.residentBytes, 0);
  await cache.fill(content);
  await cache.store.log.flush();
  assert.equal(cache.catalog.content(content.id)?.complete, true, 'who begins anew is believed');
  cache.abandon();
});

test('what is wholly here is recorded once it is durable, after a restart, and no longer than it is here', async () => {
  using directory = temporaryDirectory();
  const disk = new FailingDisk();
  const cache = openCache(directory.path, { syncData: disk.syncData });
  const [content, partly] = [cache.add('f', 3 * 4_096), cache.add('g', 3 * 4_096)];
  await cache.fill(content);
  await cache.fill(partly, 0, 2);
  assert.deepEqual([content.residency.complete, content.residency.isRecorded], [true, false]);
  await cache.store.log.flush();
  assert.deepEqual([content.residency.isRecorded, partly.residency.isRecorded], [true, false]);
  disk.fails = true;
  await cache.fill(partly, 2, 1);
  await cache.fill(content, 1, 1);
  await cache.store.log.flush();
  assert.deepEqual([content.residency.isRecorded, partly.residency.isRecorded], [false, false]);
  disk.fails = false;
  await cache.fill(content);
  await cache.store.log.flush();
  assert.equal(content.residency.isRecorded, true);
  cache.abandon();
  const again = openCache(directory.path);
  assert.equal(again.store.get(content.id)?.residency.isRecorded, true);
  assert.equal(again.store.get(partly.id)?.residency.isRecorded, false);
  again.abandon();
});

test('a chunk that makes a group begin at once is in its record', async () => {
  using directory = temporaryDirectory();
  const limits = { uncommittedBytesMax: 4 * 4_096, commitIntervalMs: 60_000 };
  const cache = openCache(directory.path, { limits });
  const content = cache.add('f', 4 * 4_096);
  await cache.fill(content);
  await cache.store.log.flush();
  assert.equal(cache.catalog.content(content.id)?.complete, true);
  cache.abandon();
});

test('what is marked after a loss is not claimed by the group that met the loss', async () => {
  const tested = testLog();
  const { log, committed } = tested;
  const [a, b] = [file(1), file(2)];
  mark(log, a, 0);
  mark(log, b, 0);
  tested.duringSync = async (fd) => {
    if (fd === 1001) throw ebbError('EIO', 'disk');
    await waitFor(() => a.residency.residentChunks === 0, { what: 'the claim is taken back' });
    mark(log, a, 5);
    tested.duringSync = () => Promise.resolve();
    tested.beforeCommit = () => {
      tested.beforeCommit = () => assert.deepEqual(committed.get(1)?.residentChunks, 0);
    };
  };
  await log.flush();
  await log.flush();
  assert.deepEqual(committed.get(1)?.runs(), [{ first: 5, count: 1 }]);
});

test('killed at any moment: every claimed chunk is the source, and reported claims are kept', async () => {
  using directory = temporaryDirectory();
  const cacheDirectory = path.join(directory.path, 'cache');
  const program = path.join(import.meta.dirname, 'support', 'recalling-process.ts');
  let claimedChunks = 0;
  for (let round = 0; round < 12; round += 1) {
    const child = spawn(process.execPath, [program, cacheDirectory, String(round)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.on('data', (data: Buffer) => (output += data.toString()));
    const exited = once(child, 'exit');
    while (!output.includes('\n') && child.exitCode === null) await sleep(2);
    await sleep(5 + ((round * 37) % 120));
    child.kill('SIGKILL');
    await exited;
    assert.equal(child.signalCode, 'SIGKILL', output);

    const lines = output.split('\n').slice(0, -1);
    const reported = new Map(lines.map((line) => line.split(' ').map(Number) as [number, number]));
    claimedChunks += verify(cacheDirectory, reported);
  }
  assert.ok(claimedChunks > 0, 'something was claimed');
});

/** Opens the cache as a new daemon would. Returns how many chunks it claims; all of them are checked. */
function verify(cacheDirectory: string, reported: ReadonlyMap<number, number>): number {
  const cache = openCache(cacheDirectory);
  let claimed = 0;
  try {
    for (const row of cache.catalog.contents(0, 10_000)) {
      const residency = Residency.decode(row.bitmap, row.sizeBytes, row.chunkBytes);
      assert.ok(row.residentBytes >= (reported.get(row.id) ?? 0), 'a committed claim was lost');
      assert.equal(residency.residentBytes, row.residentBytes);
      const fd = openSync(contentPath(cacheDirectory, row.id), 'r');
      for (const run of residency.runs()) {
        const { offsetBytes, lengthBytes } = residency.bytesOf(run);
        const found = new Uint8Array(lengthBytes);
        readSync(fd, found, 0, lengthBytes, offsetBytes);
        assert.deepEqual(found, sourceBytes(offsetBytes, lengthBytes));
        claimed += run.count;
      }
      closeSync(fd);
    }
  } finally {
    cache.abandon();
  }
  return claimed;
}
