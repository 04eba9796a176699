/** Small parts of the daemon: teardown, bounded memory, patterns, sentences. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { test } from 'node:test';
import { systemClock } from '../../src/base/clock.ts';
import { stateSummary } from '../../src/daemon/control/explain.ts';
import { RecallViews } from '../../src/daemon/control/recall-views.ts';
import { KernelNotices } from '../../src/daemon/mount/kernel-notices.ts';
import { OpenFlag, openFd } from '../../src/sys/fd.ts';
import { BoundedMap } from '../../src/base/bounded-map.ts';
import { encodeInvalidateEntry } from '../../src/fuse/notifier.ts';
import { socketPair } from '../../src/sys/socket.ts';
import { globPathMatcher } from '../../src/daemon/glob.ts';
import { Teardown } from '../../src/daemon/teardown.ts';

test('teardown goes backwards, over failures, once', async () => {
  const teardown = new Teardown();
  const seen: string[] = [];
  teardown.add('first', () => void seen.push('first'));
  teardown.add('throws', () => {
    throw new Error('at once');
  });
  teardown.add('rejects', () => Promise.reject(new Error('later')));
  teardown.add('last', async () => {
    await Promise.resolve();
    seen.push('last');
  });
  const problems: string[] = [];
  const note = (what: string, { message }: Error): void =>
    void problems.push(`${what}: ${message}`);
  await Promise.all([teardown.run(note), teardown.run(note)]);
  assert.deepEqual(seen, ['last', 'first']);
  assert.deepEqual(problems, ['rejects: later', 'throws: at once']);
});

test('a bounded map forgets what was set longest ago', () => {
  const map = new BoundedMap<number, string>(2);
  map.set(1, 'a').set(2, 'b').set(1, 'c').set(3, 'd');
  assert.deepEqual(
    [...map],
    [
      [1, 'c'],
      [3, 'd'],
    ],
  );
});

function viewsOf(pids: readonly number[]): RecallViews {
  const totals = {
    inFlight: 0,
    waiting: 0,
    requests: 1,
    recalledBytes: 7,
    failures: 0,
    retries: 0,
  };
  const account = { recalls: 1, bytes: 7, contentId: 1, key: 'a' };
  return new RecallViews(
    {
      totals: () => totals,
      flights: () => [],
      requesters: () => pids.map((pid) => ({ ...account, requester: { pid, uid: 0, gid: 0 } })),
    },
    systemClock,
  );
}

const commandsOf = (views: RecallViews): readonly string[] =>
  views.top().requesters.map(({ command }) => command);

test('top names processes as the kernel does, without waiting for a lock of theirs', () => {
  const parent = readFileSync(`/proc/${process.ppid}/comm`, 'utf8').trimEnd();
  const pids = [process.ppid, process.pid, 2 ** 22 + 1];
  assert.deepEqual(commandsOf(viewsOf(pids)), [parent, 'ebb', '[gone]']);
});

test('top knows how those were called that have ended since they waited', async () => {
  const child = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] });
  const pid = child.pid ?? 0;
  const views = viewsOf([pid]);
  views.began({ pid, uid: 0, gid: 0 });
  child.stdin.end();
  await once(child, 'exit');
  assert.deepEqual(commandsOf(views), ['cat']);
});

test('patterns of paths', () => {
  const cases: [pattern: string, path: string, matches: boolean][] = [
    ['*', 'a', true],
    ['*', '.hidden', true],
    ['*', 'a/b', false],
    ['**', 'a/b/c', true],
    ['**', '.a/.b', true],
    ['**/*.iso', 'x.iso', true],
    ['**/*.iso', 'a/b/x.iso', true],
    ['**/*.iso', 'a/x.iso/y', false],
    ['a/**', 'a/b', true],
    ['a/**', 'a', false],
    ['a/**/z', 'a/z', true],
    ['a/**/b/**/z', 'a/b/x/b/y/z', true],
    ['a/**/b/**/z', 'a/x/y/z', false],
    ['a?c/[0-9]', 'abc/7', true],
    ['a?c/[!0-9]', 'abc/7', false],
    ['a\\*b', 'a*b', true],
    ['a\\*b', 'axb', false],
    ['{a,b}', '{a,b}', true],
    ['{a,b}', 'a', false],
    ['A', 'a', false],
    ['gr\udcc3*', 'gr\udcc3\udcb6', true],
  ];
  for (const [pattern, path, expected] of cases) {
    assert.equal(globPathMatcher(pattern)(path), expected, `${pattern} and ${path}`);
  }
  const slow = globPathMatcher(`${'**/a/'.repeat(40)}b`);
  assert.equal(slow(`${'a/'.repeat(200)}c`), false);
});

test('the session thread is woken for names that somebody may remember, not for a first listing', () => {
  const told: boolean[] = [];
  const notices = new KernelNotices();
  using device = openFd('/dev/null', OpenFlag.rdwr);
  notices.connect(device.fd, (_message, wake) => void told.push(wake));
  const first = { kind: 'directory', directoryId: 2, gone: [], appeared: [] } as const;
  notices.changed({ ...first, namesChanged: true });
  notices.changed({ ...first, namesChanged: true, appeared: [Buffer.from('new')] });
  notices.changed({ ...first, namesChanged: false });
  notices.changed({ kind: 'facts', nodeId: 3 });
  assert.deepEqual(told, [false, true, false, false]);
  notices.disconnect();
});

test('who waits until the kernel knows of names waits for those that changed before, and not for ever', async () => {
  const notices = new KernelNotices();
  await notices.told(60_000);
  const [ours, kernels] = socketPair();
  using _ours = ours;
  const kernel = new Socket({ fd: kernels.release() });
  notices.connect(ours.fd, () => undefined);
  // More than the socket takes before somebody reads.
  const appeared = Array.from({ length: 5_000 }, (_unused, index) => Buffer.from(`name ${index}`));
  const change = { kind: 'directory', directoryId: 2, gone: [], namesChanged: true } as const;
  notices.changed({ ...change, appeared });
  await notices.told(1);
  let bytes = 0;
  kernel.on('data', (part) => (bytes += part.length));
  await notices.told(60_000);
  const messageBytes = encodeInvalidateEntry(2, Buffer.from('name')).length;
  assert.ok(bytes > (appeared.length - 1) * messageBytes, `${bytes} bytes were told`);
  notices.changed({ ...change, appeared });
  notices.disconnect();
  await notices.told(60_000);
  kernel.destroy();
});

test('why a read failed is said in whole sentences, whether the reason is one or not', () => {
  for (const reason of ['x.org: it cut the connection.', 'x.org: it cut the connection']) {
    assert.equal(
      stateSummary('OFL', reason, 5),
      'The last read failed: x.org: it cut the connection. It is tried again at the next read.',
    );
  }
});
