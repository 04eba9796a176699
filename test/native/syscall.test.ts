import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { FanEvent } from '../../src/fanotify/constants.ts';
import { Group } from '../../src/fanotify/group.ts';
import { Opener } from '../../src/native/opener.ts';
import {
  requesterOf,
  systemCallAtOnce,
  systemCallOf,
  systemCallText,
} from '../../src/native/requester.ts';
import { effectAtOpen, effectOfOpen, parseSystemCall } from '../../src/native/syscall.ts';
import { Listener, compileTouch, makeSparse, skip, touch } from '../fanotify/support.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const user = '0x7ffd8a3b1d58 0x7f1c2d3e4f50';

function line(number: number, ...args: readonly number[]): string {
  const hex = Array.from({ length: 6 }, (_, index) => `0x${(args[index] ?? 0).toString(16)}`);
  return `${number} ${hex.join(' ')} ${user}\n`;
}

const O_WRONLY = 1;
const O_RDWR = 2;
const O_APPEND = 0o2000;
const O_TRUNC = 0o1000;

test('what the calls of both architectures do to a file', () => {
  const cases: readonly [x64: string | undefined, arm64: string | undefined, effect: string][] = [
    [line(0, 3, 4, 5), line(63, 3, 4, 5), 'reads'],
    [line(9, 0, 4096, 1, 2, 3), line(222, 0, 4096, 1, 2, 3), 'reads'],
    [line(59, 1, 2, 3), line(221, 1, 2, 3), 'reads'],
    [line(2, 1, 0), undefined, 'reads'],
    [line(2, 1, O_RDWR), undefined, 'writes'],
    [line(2, 1, O_TRUNC), undefined, 'discards'],
    [line(257, 1, 2, 0), line(56, 1, 2, 0), 'reads'],
    [line(257, 1, 2, O_WRONLY | O_APPEND), line(56, 1, 2, O_WRONLY | O_APPEND), 'writes'],
    [line(257, 1, 2, O_WRONLY | O_TRUNC), line(56, 1, 2, O_WRONLY | O_TRUNC), 'discards'],
    // Which accesses 3 stands for is up to the driver.
    [line(257, 1, 2, 3), line(56, 1, 2, 3), 'writes'],
    [line(304, 1, 2, O_RDWR), line(265, 1, 2, O_RDWR), 'writes'],
    [line(85, 1, 2), undefined, 'discards'],
    [line(76, 1, 0), line(45, 1, 0), 'discards'],
    [line(76, 1, 17), line(45, 1, 17), 'writes'],
    [line(285, 1, 0, 0, 9), line(47, 1, 0, 0, 9), 'writes'],
    [line(437, 1, 2, 0x7000, 24), line(437, 1, 2, 0x7000, 24), 'unknown'],
    [line(426, 4, 1, 1), line(426, 4, 1, 1), 'deferred'],
    [line(9999), line(9999), 'unknown'],
  ];
  for (const [x64, arm64, effect] of cases) {
    if (x64 !== undefined) assert.equal(parseSystemCall(x64, 'x64').effect, effect, x64);
    if (arm64 !== undefined) assert.equal(parseSystemCall(arm64, 'arm64').effect, effect, arm64);
  }
  assert.equal(parseSystemCall(line(437, 1, 2, 0x7000, 24), 'x64').openHowAddress, 0x7000n);
});

test('a call that opens a file although it is known for something else opens it for who knows what', () => {
  const atOpen = (text: string): string => effectAtOpen(parseSystemCall(text, 'x64'));
  assert.equal(atOpen(line(257, 1, 2, 0)), 'reads');
  assert.equal(atOpen(line(59, 1, 2, 3)), 'reads');
  assert.equal(atOpen(line(257, 1, 2, O_TRUNC)), 'discards');
  assert.equal(atOpen(line(426, 4, 1, 1)), 'deferred');
  // openat(2) of i386 through int 0x80, and a file opened by its XFS handle.
  assert.equal(atOpen(line(295, 1, 2, O_RDWR)), 'unknown');
  assert.equal(atOpen(line(16, 1, 2, 3)), 'unknown');
});

test('what cannot be known is unknown: no text, 32-bit programs, not in a call; workers are deferred', () => {
  assert.equal(parseSystemCall(undefined, 'x64').effect, 'unknown');
  assert.equal(parseSystemCall('running\n', 'x64').effect, 'unknown');
  assert.equal(parseSystemCall('-1 0x7ffd8a3b1d58 0x7f1c2d3e4f50\n', 'x64').effect, 'unknown');
  // 92 is truncate(2) for i386 and chown(2) for x86-64: nobody can tell, so it must not look harmless.
  const compat = '3 0x1 0x0 0x0 0x0 0x0 0x0 0xffd8a3b0 0xf7f1c2d0\n';
  assert.equal(parseSystemCall(compat, 'x64').effect, 'unknown');
  const worker = '426 0x4 0x1 0x1 0x0 0x0 0x0 0x0 0x0\n';
  assert.equal(parseSystemCall(worker, 'x64').effect, 'deferred');
});

test('property: any text has a meaning, and a writer never looks like a reader', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      assert.equal(parseSystemCall(text, 'x64').effect, 'unknown');
    }),
  );
  fc.assert(
    fc.property(fc.nat(500), fc.array(fc.nat(), { maxLength: 6 }), (number, args) => {
      const { effect, name } = parseSystemCall(line(number, ...args), 'x64');
      if (effect === 'reads')
        assert.match(name, /^(?:p?read|mmap|exec|send|splice|copy|ioctl|io_|open)/);
    }),
  );
  fc.assert(
    fc.property(fc.nat(0o37777777), (flags) => {
      const effect = effectOfOpen(BigInt(flags));
      if ((flags & O_TRUNC) !== 0) assert.equal(effect, 'discards');
      else assert.equal(effect === 'reads', (flags & 3) === 0);
    }),
  );
});

/** A child that is blocked in open(2) of a pipe nobody has at the other end: as a requester of an open event is. */
const openers: readonly [what: string, program: string, effect: string][] = [
  ['open for writing', 'os.open(p, os.O_WRONLY)', 'writes'],
  ['open that empties', 'os.open(p, os.O_WRONLY | os.O_TRUNC)', 'discards'],
  ['open for reading', 'os.open(p, os.O_RDONLY)', 'reads'],
  ['openat2 that empties', 'openat2(os.O_WRONLY | os.O_TRUNC)', 'discards'],
  ['openat2 for reading', 'openat2(os.O_RDONLY)', 'reads'],
];

for (const [what, program, effect] of openers) {
  test(`a real requester: ${what}`, async () => {
    await using directory = await temporaryDirectory('syscall');
    const pipe = path.join(directory.path, 'pipe');
    assert.equal(spawnSync('mkfifo', [pipe]).status, 0);
    const source = `
import ctypes, os, struct, sys
p = sys.argv[1]
def openat2(flags):
    how = ctypes.create_string_buffer(struct.pack('QQQ', flags, 0, 0), 24)
    ctypes.CDLL(None, use_errno=True).syscall(437, -100, p.encode(), how, 24)
${program}
`;
    const child = spawn('python3', ['-c', source, pipe]);
    try {
      const pid = child.pid ?? 0;
      await waitFor(async () => (await systemCallOf(pid)).name.startsWith('openat'), {
        what: 'the child to open',
      });
      assert.equal((await systemCallOf(pid)).effect, effect);
      // What is in the program's memory is not looked at.
      const inRegisters = what.startsWith('openat2') ? undefined : effect;
      assert.equal(systemCallAtOnce(pid)?.effect, inRegisters);
      const asker = requesterOf(pid);
      assert.deepEqual(
        [asker.pid, asker.uid, asker.gid],
        [pid, process.getuid?.(), process.getgid?.()],
      );
      assert.match(asker.executable ?? '', /python/);
      assert.match(asker.name, /^python/);
    } finally {
      child.kill('SIGKILL');
    }
  });
}

test('who was let in is known when he asks, unless he runs another program by then', async () => {
  const child = spawn('sh', ['-c', 'read line; exec sleep 60']);
  try {
    const tid = child.pid ?? 0;
    const runs = async (call: string): Promise<void> => {
      const isThere = async (): Promise<boolean> => (await systemCallOf(tid)).name === call;
      await waitFor(isThere, { what: `the child to be in ${call}` });
    };
    await runs('read');
    const opener = new Opener(Infinity);
    opener.isLetIn(tid);
    const seen = opener.seenAgain(tid);
    assert.deepEqual(seen?.requester, requesterOf(tid));
    assert.equal(seen.callText, systemCallText(tid));
    assert.equal(opener.seenAgain(tid), undefined, 'once');
    opener.isLetIn(tid);
    assert.equal(opener.seenAgain(process.pid), undefined, 'somebody else');
    const late = new Opener(-1);
    late.isLetIn(tid);
    assert.equal(late.seenAgain(tid), undefined, 'too late');
    opener.isLetIn(tid);
    child.stdin.end('\n');
    const isSleeping = () => requesterOf(tid).name === 'sleep';
    await waitFor(isSleeping, { what: 'the child to run another program' });
    assert.equal(opener.seenAgain(tid), undefined, 'another program');
  } finally {
    child.kill('SIGKILL');
  }
});

test('requesters who have not fallen asleep yet are waited for', { skip }, async () => {
  await using directory = await temporaryDirectory('syscall');
  await using filesystem = await loopFilesystem({ type: 'ext4' });
  const touchProgram = await compileTouch(directory.path);
  const file = path.join(filesystem.path, 'file');
  await makeSparse(file, 4096);
  using group = Group.create({ class: 'preContent', reportTid: true });
  group.mark(filesystem.path, { on: 'filesystem', events: FanEvent.preAccess });
  const effects = new Map<string, number>();
  let asked = 0;
  let runningAtFirst = 0;
  const listener = new Listener(group, (event) => {
    asked += 1;
    if (systemCallText(event.pid)?.startsWith('running') === true) runningAtFirst += 1;
    const { pid } = event;
    const fd = event.take();
    const answer = async (): Promise<void> => {
      const { effect } = await systemCallOf(pid);
      effects.set(effect, (effects.get(effect) ?? 0) + 1);
      group.answer(fd, 'allow');
    };
    void answer();
  });
  // More requesters than processors, until one was met in that moment.
  const readers = Array.from({ length: 3 * availableParallelism() });
  for (let round = 0; round < 30 && runningAtFirst === 0; round += 1) {
    await listener.during(
      Promise.all(readers.map(() => touch(touchProgram, 'pread-many', file, 500))),
    );
  }
  assert.ok(runningAtFirst > 0);
  assert.deepEqual([...effects], [['reads', asked]]);
});

test('a thread that takes long to fall asleep is waited for', async () => {
  await using directory = await temporaryDirectory('syscall');
  const pipe = path.join(directory.path, 'pipe');
  assert.equal(spawnSync('mkfifo', [pipe]).status, 0);
  const source = `
import os, sys, time
sys.stdout.write('spins'); sys.stdout.flush()
end = time.monotonic() + 0.5
while time.monotonic() < end: pass
os.open(sys.argv[1], os.O_RDONLY)`;
  const child = spawn('python3', ['-c', source, pipe]);
  try {
    await once(child.stdout, 'data');
    const call = systemCallOf(child.pid ?? 0);
    assert.equal((await call).effect, 'reads');
  } finally {
    child.kill('SIGKILL');
  }
});

test('a thread that never sleeps is unknown, after a while', async () => {
  const child = spawn('sh', ['-c', 'while :; do :; done']);
  try {
    assert.equal((await systemCallOf(child.pid ?? 0)).effect, 'unknown');
  } finally {
    child.kill('SIGKILL');
  }
});

test('a requester that is gone is nobody', async () => {
  const gone = spawnSync('true').pid;
  assert.deepEqual(requesterOf(gone), {
    tid: gone,
    pid: gone,
    uid: 0,
    gid: 0,
    executable: undefined,
    name: '',
  });
  assert.equal((await systemCallOf(gone)).effect, 'unknown');
});
