/** What requesters get: from answers, from denials, from listeners that die, from queues that are full. Needs root. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { Errno } from '../../src/base/errno.ts';
import { EbbError } from '../../src/base/errors.ts';
import { FanEvent } from '../../src/fanotify/constants.ts';
import { Group } from '../../src/fanotify/group.ts';
import { OpenFlag, openFd } from '../../src/sys/fd.ts';
import { PollEvent, PollSet } from '../../src/sys/poll.ts';
import { openFilesLimit } from '../../src/sys/process.ts';
import { killAtExit, killGroup, runOk } from '../support/run.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';
import type { GroupOptions } from '../../src/fanotify/group.ts';
import type { Denial } from '../../src/fanotify/response.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { Listener, compileTouch, makeSparse, skip, touch } from './support.ts';

interface Bench extends AsyncDisposable {
  readonly root: string;
  readonly file: string;
  readonly program: string;
  /** A group of which the whole file system raises events. */
  watch(options?: Partial<GroupOptions>, events?: number): Group;
  pread(): ReturnType<typeof touch>;
}

/** An ext4 with one sparse file. */
async function bench(): Promise<Bench> {
  const stack = new AsyncDisposableStack();
  const directory = stack.use(await temporaryDirectory('fanotify-answers'));
  const { path: root } = stack.use(await loopFilesystem({ type: 'ext4' }));
  const program = await compileTouch(directory.path);
  const file = path.join(root, 'file');
  await makeSparse(file, 65_536);
  return {
    root,
    file,
    program,
    watch(options, events = FanEvent.preAccess) {
      const group = stack.use(Group.create({ class: 'preContent', ...options }));
      group.mark(root, { on: 'filesystem', events });
      return group;
    },
    pread: () => touch(program, 'pread', file, 0, 10),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

test(
  'the seven errnos reach the requester; any other becomes a denial that is reported',
  { skip },
  async () => {
    await using it = await bench();
    const group = it.watch();
    for (const denial of [
      'EPERM',
      'EIO',
      'EBUSY',
      'ETXTBSY',
      'EAGAIN',
      'ENOSPC',
      'EDQUOT',
    ] as const) {
      const listener = new Listener(group, (event) => event.deny(denial));
      for (const method of ['pread', 'map-private', 'pwrite', 'ftruncate', 'fallocate']) {
        const { result, errno } = await listener.during(
          touch(it.program, method, it.file, 0, 4096),
        );
        assert.deepEqual([result, errno], [-1, Errno[denial]], `${method} ${denial}`);
      }
      assert.deepEqual(listener.troubles, []);
    }
    // What the types rule out: the kernel refuses the answer, and would leave the requester waiting.
    const listener = new Listener(group, (event) => event.deny('ENOENT' as Denial));
    assert.equal((await listener.during(it.pread())).errno, Errno.EPERM);
    assert.deepEqual(
      listener.troubles.map(({ kind }) => kind),
      ['answer'],
    );
  },
);

test('groups of class content deny with EPERM', { skip }, async () => {
  await using it = await bench();
  const group = it.watch({ class: 'content' }, FanEvent.openPermission);
  const listener = new Listener(group, (event) => event.deny('EIO'));
  assert.equal((await listener.during(it.pread())).errno, Errno.EPERM);
  assert.deepEqual(listener.troubles, []);
});

test(
  'a handler that throws or forgets denies with EIO; one that takes answers later',
  { skip },
  async () => {
    await using it = await bench();
    const group = it.watch({ reportPidfd: true });
    const broken = new Error('broken');
    const handlers = [
      () => {
        throw broken;
      },
      () => undefined,
    ];
    for (const handle of handlers) {
      const listener = new Listener(group, handle);
      assert.equal((await listener.during(it.pread())).errno, Errno.EIO);
      assert.deepEqual(
        listener.troubles.map(({ kind }) => kind),
        ['handler'],
      );
    }
    const taken: number[] = [];
    const taking = new Listener(group, (event) => {
      taken.push(event.take());
      assert.throws(() => event.allow(), /answered once/);
    });
    const waiting = it.pread();
    await taking.until(1);
    assert.equal(group.answer(taken[0] ?? -1, 'EDQUOT'), 'answered');
    assert.equal((await waiting).errno, Errno.EDQUOT);
    assert.deepEqual(taking.troubles, []);
  },
);

test('descriptors do not add up', { skip }, async () => {
  await using it = await bench();
  const listener = new Listener(it.watch({ reportPidfd: true }));
  const open = (): number => openFd('/dev/null', OpenFlag.rdonly).release();
  const before = open();
  for (let round = 0; round < 5; round += 1) await listener.during(it.pread());
  assert.ok(open() <= before + 2, 'the lowest free number is hardly higher');
  assert.equal(listener.events.length, 5);
});

test(
  'a requester that is killed can be answered all the same; a number that was swept cannot',
  { skip },
  async () => {
    await using it = await bench();
    const group = it.watch();
    const taken: number[] = [];
    const listener = new Listener(group, (event) => taken.push(event.take()));
    const child = spawn(it.program, ['pread', it.file, '0', '10'], { detached: true });
    killAtExit(child);
    const exited = once(child, 'exit');
    await listener.until(1);
    child.kill('SIGKILL');
    await exited;
    assert.equal(group.answer(taken[0] ?? -1, 'allow'), 'answered');

    const waiting = it.pread();
    await listener.until(2);
    assert.equal(group.sweep(1024), 1);
    assert.equal((await waiting).errno, Errno.EIO);
    assert.equal(group.answer(taken[1] ?? -1, 'allow'), 'gone');
  },
);

/** A process that inherits the group and takes `most` events without answering. */
async function startTaker(
  group: Group,
  most: number,
): Promise<{ taken(): number[]; kill(): Promise<void> }> {
  const script = path.join(import.meta.dirname, 'taker.ts');
  const child = spawn(process.execPath, [script, String(most)], {
    stdio: ['ignore', 'pipe', 'inherit', group.fd],
    detached: true,
  });
  killAtExit(child);
  const lines: string[] = [];
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) =>
    lines.push(line),
  );
  await waitFor(() => lines.includes('ready'), { what: 'the taker', timeoutMs: 20_000 });
  const exited = once(child, 'exit');
  return {
    taken: () => lines.slice(1).map(Number),
    async kill() {
      killGroup(child);
      await exited;
    },
  };
}

test(
  'requesters of a listener that died wait while another process holds the group; sweep ends them with EIO',
  { skip },
  async () => {
    await using it = await bench();
    const group = it.watch();
    const taker = await startTaker(group, 3);
    let ended = 0;
    const reads = Array.from({ length: 5 }, async () => {
      const touched = await it.pread();
      ended += 1;
      return touched;
    });
    await waitFor(() => taker.taken().length === 3, { what: 'three events taken' });
    await taker.kill();
    // This process held a duplicate all the time. A child that starts and ends shows that nobody was let go meanwhile.
    await runOk('true', []);
    assert.equal(ended, 0);
    // Its predecessor's numbers, which it does not know, before its own first read.
    assert.equal(group.sweep(1024), 3);
    await waitFor(() => ended === 3, { what: 'three requesters' });
    const listener = new Listener(group);
    const results = (await listener.during(Promise.all(reads))).map(({ errno }) => errno);
    assert.deepEqual(
      results.toSorted((a, b) => a - b),
      [0, 0, Errno.EIO, Errno.EIO, Errno.EIO],
    );
    assert.equal(listener.events.length, 2, 'those in the queue were still there');
    assert.equal(group.sweep(1024), 0);
  },
);

test(
  'a sweep that the kernel refuses is an error, not a sweep that found nobody',
  { skip },
  async () => {
    await using it = await bench();
    const content = it.watch({ class: 'content' }, FanEvent.openPermission);
    assert.equal(content.sweep(16), 0);
    assert.throws(() => Group.borrow(content.fd, 'preContent').sweep(16), { code: 'EINVAL' });
    assert.throws(() => Group.borrow(-1, 'content').sweep(16), { code: 'EBADF' });
  },
);

test('control: with the last descriptor of a group everybody is let go', { skip }, async () => {
  await using it = await bench();
  const group = it.watch();
  const listener = new Listener(group, (event) => event.take());
  const waiting = it.pread();
  await listener.until(1);
  group[Symbol.dispose]();
  assert.deepEqual(await waiting, { result: 10, errno: 0, nonzero: 0 });
});

const queueMax = Number(readFileSync('/proc/sys/fs/fanotify/max_queued_events', 'latin1'));

/** Opens `many` files: as many events that nobody waits for. */
async function flood(it: Bench, many: number): Promise<void> {
  const { result } = await touch(it.program, 'open-many', path.join(it.root, 'many'), many);
  assert.equal(result, many);
}

test(
  'a flooded queue: nobody is allowed unseen, unless the queue has a limit',
  { skip },
  async () => {
    await using it = await bench();
    const many = queueMax + 500;
    await mkdir(path.join(it.root, 'many'));
    await touch(it.program, 'make-many', path.join(it.root, 'many'), many);
    const events = FanEvent.preAccess | FanEvent.open;
    {
      const group = it.watch({}, events);
      await flood(it, many);
      const listener = new Listener(group, (event) => {
        if (event.needsAnswer) event.deny('EIO');
      });
      const waiting = it.pread();
      const { errno } = await listener.during(waiting);
      assert.equal(errno, Errno.EIO);
      assert.ok(listener.events.length > many);
      assert.equal(listener.overflows, 0);
      group[Symbol.dispose]();
    }
    // Control: this is what the unlimited queue is for.
    const limited = it.watch({ unlimitedQueue: false }, events);
    await flood(it, many);
    assert.deepEqual(await it.pread(), { result: 10, errno: 0, nonzero: 0 });
    const listener = new Listener(limited);
    listener.poll();
    assert.equal(listener.overflows, 1);
    assert.equal(listener.events.length, queueMax);
  },
);

test('without a free descriptor a read is denied, not answered with zeros', { skip }, async () => {
  await using it = await bench();
  const { soft, hard } = openFilesLimit();
  for (const reportFdError of [true, false]) {
    const group = it.watch({ reportFdError });
    const listener = new Listener(group);
    // The requester is on its way before this process cannot start anything any more.
    const waiting = it.pread();
    const queued = new PollSet([{ fd: group.fd, events: PollEvent.in }]);
    await waitFor(() => queued.wait(0) === 1, { what: 'the event' });
    const filling: OwnedFd[] = [];
    await runOk('prlimit', [`--pid=${process.pid}`, `--nofile=${fdsNow() + 60}:${hard}`]);
    try {
      fill(filling);
      listener.poll();
    } finally {
      for (const each of filling) each.close();
      await runOk('prlimit', [`--pid=${process.pid}`, `--nofile=${soft}:${hard}`]);
    }
    const { result, errno } = await waiting;
    assert.deepEqual([result, errno], [-1, Errno.EPERM]);
    assert.deepEqual(
      listener.troubles.map((trouble) => [trouble.kind, trouble.errno]),
      [['noDescriptor', Errno.EMFILE]],
    );
    group[Symbol.dispose]();
  }
});

/** A number above all descriptors of this process. */
function fdsNow(): number {
  using highest = openFd('/dev/null', OpenFlag.rdonly);
  return highest.fd + 20;
}

function fill(into: OwnedFd[]): void {
  try {
    for (;;) into.push(openFd('/dev/null', OpenFlag.rdonly));
  } catch (error) {
    if (!(error instanceof EbbError) || error.code !== 'EMFILE') throw error;
  }
}

test('events with names tell entries and their directory', { skip }, async () => {
  await using it = await bench();
  using group = Group.create({ class: 'notification', reportNames: true });
  const events =
    FanEvent.create |
    FanEvent.delete |
    FanEvent.rename |
    FanEvent.closeWrite |
    FanEvent.onDirectory;
  group.mark(it.root, { on: 'filesystem', events });
  const seen: string[] = [];
  const listener = new Listener(group, (event) => {
    const names = event
      .fids()
      .map(({ kind, name }) => `${kind} ${name && Buffer.from(name).toString()}`);
    seen.push(names.join(', '));
  });
  const made = path.join(it.root, 'made');
  await writeFile(made, 'x');
  await touch(it.program, 'rename', made, 0, 0, path.join(it.root, 'moved'));
  await touch(it.program, 'unlink', path.join(it.root, 'moved'));
  listener.poll();
  // Equal ones that follow each other are one.
  assert.deepEqual(seen, [
    'entry made, object undefined',
    'oldEntry made, newEntry moved, object undefined',
    'entry moved, object undefined',
  ]);
  assert.deepEqual(
    listener.events.map(({ names }) => names),
    ['closeWrite|create', 'rename', 'delete'],
  );
});
