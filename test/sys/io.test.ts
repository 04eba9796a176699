import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, statSync } from 'node:fs';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { Errno } from '../../src/base/errno.ts';
import { EventFd } from '../../src/sys/event-fd.ts';
import { OpenFlag, OwnedFd, duplicateFd, openFd, setNonblocking } from '../../src/sys/fd.ts';
import { syncData, syncFile, writeAllAt, writeSmallAt } from '../../src/sys/file-io.ts';
import { Seek, pipe, pread, pwrite, read, seek, write } from '../../src/sys/io.ts';
import { PollEvent, PollSet } from '../../src/sys/poll.ts';
import { LoopFilesystem, TemporaryDirectory } from './support.ts';

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
const bytes = (value: string): Uint8Array => new Uint8Array(Buffer.from(value, 'latin1'));
const readWriteNew = OpenFlag.rdwr | OpenFlag.creat;

test('an owned descriptor is closed once and only by its owner', () => {
  const owned = openFd('/dev/null', OpenFlag.rdonly);
  const number = owned.fd;
  assert.ok(owned.isOpen);
  owned.close();
  owned.close();
  owned[Symbol.dispose]();
  assert.equal(owned.isOpen, false);
  assert.throws(() => owned.fd, { code: 'EBADF' });
  assert.throws(() => statSync(`/proc/self/fd/${number}`), { code: 'ENOENT' });

  const released = openFd('/dev/null', OpenFlag.rdonly);
  const kept = released.release();
  released.close();
  closeSync(kept);
  assert.throws(() => new OwnedFd(kept).close(), { code: 'EBADF' });
  assert.throws(() => new OwnedFd(-1), { code: 'EBADF' });
});

test('open: errors, modes, close-on-exec, relative paths, names that are not UTF-8', () => {
  using directory = new TemporaryDirectory();
  assert.throws(() => openFd(directory.join('none'), OpenFlag.rdonly), {
    code: 'ENOENT',
    message: /^open of .*none failed: No such file or directory\.$/,
  });
  assert.throws(() => openFd('a\0b', OpenFlag.rdonly), { code: 'EINVAL' });
  using parent = openFd(directory.path, OpenFlag.path | OpenFlag.directory);
  using file = openFd('\udcff', readWriteNew, 0o640, parent.fd);
  assert.equal(statSync(Buffer.from(`${directory.path}/\xff`, 'latin1')).mode & 0o777, 0o640);
  const flags = readFileSync(`/proc/self/fdinfo/${file.fd}`, 'latin1');
  assert.match(flags, /flags:\s*02/, 'O_CLOEXEC');
});

test('read and write use exactly the memory they were given', () => {
  using ends = disposablePipe();
  const out = bytes('..hello..');
  assert.equal(write(ends.writeEnd, out, 2, 5), 5);
  const into = bytes('0123456789').subarray(1, 9);
  assert.equal(read(ends.readEnd, into, 2, 4), 4);
  assert.equal(text(into), '12hell78');
  assert.equal(read(ends.readEnd, into), 1);
  assert.equal(text(into), 'o2hell78');
  const shared = new Uint8Array(new SharedArrayBuffer(6), 2);
  assert.equal(write(ends.writeEnd, bytes('abcd')), 4);
  assert.equal(read(ends.readEnd, shared), 4);
  assert.equal(text(shared), 'abcd');
  assert.throws(() => read(ends.readEnd, into, 4, 5), /Bug in Ebb/);
  assert.throws(() => write(ends.writeEnd, into, -1, 2), /Bug in Ebb/);
});

test('hot functions return -errno', () => {
  const closed = 1_000_000;
  const memory = new Uint8Array(4);
  assert.equal(read(closed, memory), -Errno.EBADF);
  assert.equal(write(closed, memory), -Errno.EBADF);
  assert.equal(pread(closed, memory, 0), -Errno.EBADF);
  assert.equal(pwrite(closed, memory, 0), -Errno.EBADF);
  assert.equal(seek(closed, 0, Seek.set), -Errno.EBADF);
  using zero = openFd('/dev/zero', OpenFlag.rdonly);
  assert.equal(write(zero.fd, memory), -Errno.EBADF);
  for (const offset of [-1, 0.5, 2 ** 53, Number.NaN]) {
    assert.equal(pread(zero.fd, memory, offset), -Errno.EINVAL);
    assert.equal(pwrite(zero.fd, memory, offset), -Errno.EINVAL);
  }
  assert.equal(seek(zero.fd, 2 ** 53, Seek.set), -Errno.EINVAL);
  const full = openSync('/dev/full', 'w');
  assert.equal(write(full, memory), -Errno.ENOSPC);
  closeSync(full);
});

test('offsets beyond 2^32 and up to the limit of the file system', async () => {
  // xfs: files of 8 EiB, so that offsets near 2^53 are real.
  using xfs = new LoopFilesystem('xfs');
  using file = openFd(xfs.join('sparse'), readWriteNew);
  for (const offset of [2 ** 31, 2 ** 32 + 1, 2 ** 40 + 123, 2 ** 53 - 5]) {
    const written = bytes(`<${offset.toString(36).slice(0, 2)}>`);
    assert.equal(pwrite(file.fd, written, offset), 4);
    const back = new Uint8Array(4);
    assert.equal(pread(file.fd, back, offset), 4);
    assert.deepEqual(back, written);
  }
  assert.equal(statSync(xfs.join('sparse')).size, 2 ** 53 - 1);
  assert.equal(seek(file.fd, 2 ** 33, Seek.set), 2 ** 33);
  assert.equal(seek(file.fd, 0, Seek.end), 2 ** 53 - 1);
  assert.equal(seek(file.fd, 10, Seek.end), -Errno.EOVERFLOW);
  assert.equal(seek(file.fd, 2 ** 41, Seek.data), 2 ** 53 - 4096);
  assert.equal(seek(file.fd, 2 ** 53 - 1, Seek.data), -Errno.ENXIO);
  await writeAllAt(file.fd, bytes('async'), 2 ** 45 + 7);
  const back = new Uint8Array(5);
  assert.equal(pread(file.fd, back, 2 ** 45 + 7), 5);
  assert.equal(text(back), 'async');
  await assert.rejects(writeAllAt(file.fd, back, 2 ** 53), { code: 'EOVERFLOW' });
});

test('writes report a full file system; sync works', async () => {
  using small = new LoopFilesystem('ext4');
  using file = openFd(small.join('file'), readWriteNew);
  await writeAllAt(file.fd, bytes('abc'), 0);
  await syncData(file.fd);
  await syncFile(file.fd);
  await assert.rejects(writeAllAt(file.fd, new Uint8Array(32 * 1024 * 1024), 3), {
    code: 'ENOSPC',
  });
  const filling = (): void => {
    for (let offset = 3; ; offset += 65_536) writeSmallAt(file.fd, new Uint8Array(65_536), offset);
  };
  assert.throws(filling, { code: 'ENOSPC' });
  assert.throws(() => writeSmallAt(1_000_000, bytes('abc'), 0), { code: 'EBADF' });
  const back = new Uint8Array(3);
  assert.equal(pread(file.fd, back, 0), 3);
  assert.equal(text(back), 'abc');
  await assert.rejects(syncData(1_000_000), { code: 'EBADF' });
});

test('non-blocking pipes say EAGAIN; a duplicate shares the mode', () => {
  using ends = disposablePipe();
  using duplicate = duplicateFd(ends.readEnd);
  setNonblocking(ends.readEnd, true);
  assert.equal(read(duplicate.fd, new Uint8Array(1)), -Errno.EAGAIN);
  setNonblocking(ends.readEnd, false);
  write(ends.writeEnd, bytes('x'));
  assert.equal(read(duplicate.fd, new Uint8Array(1)), 1);
  assert.throws(() => duplicateFd(1_000_000), { code: 'EBADF' });
  assert.throws(() => setNonblocking(1_000_000, true), { code: 'EBADF' });
});

test('poll tells which descriptor is ready, times out, and sees bad ones', () => {
  using ends = disposablePipe();
  using stop = EventFd.create();
  const set = new PollSet([
    { fd: ends.readEnd, events: PollEvent.in },
    { fd: stop.fd, events: PollEvent.in },
    { fd: -1, events: PollEvent.in },
  ]);
  assert.equal(set.wait(0), 0);
  assert.equal(stop.signal(), 0);
  assert.equal(stop.signal(), 0);
  assert.equal(set.wait(1000), 1);
  assert.equal(set.ready(0), 0);
  assert.equal(set.ready(1), PollEvent.in);
  assert.equal(stop.drain(), 2);
  assert.equal(stop.drain(), 0);
  assert.equal(set.wait(1), 0);
  write(ends.writeEnd, bytes('x'));
  ends.closeWriter();
  assert.equal(set.wait(-1), 1);
  assert.equal(set.ready(0), PollEvent.in | PollEvent.hup);
  set.set(2, 1_000_000, PollEvent.out);
  assert.equal(set.wait(-1), 2);
  assert.equal(set.ready(2), PollEvent.nval);
});

test('an eventfd wakes a thread that waits without a time limit', async () => {
  using stop = EventFd.create();
  const sys = new URL('../../src/sys/', import.meta.url).href;
  const worker = new Worker(
    `import { parentPort, workerData } from 'node:worker_threads';
     import { PollSet, PollEvent } from '${sys}poll.ts';
     import { EventFd } from '${sys}event-fd.ts';
     const event = EventFd.borrow(workerData);
     const set = new PollSet([{ fd: event.fd, events: PollEvent.in }]);
     parentPort.postMessage('waiting');
     const ready = set.wait(-1);
     parentPort.postMessage([ready, event.drain()]);`.replaceAll(/\n\s+/g, '\n'),
    { eval: true, workerData: stop.fd, execArgv: ['--input-type=module'] },
  );
  const messages: unknown[] = [];
  worker.on('message', (message) => {
    messages.push(message);
    if (message === 'waiting') stop.signal();
  });
  await new Promise((resolve, reject) => {
    worker.once('exit', resolve);
    worker.once('error', reject);
  });
  assert.deepEqual(messages, ['waiting', [1, 1]]);
  // Borrowed: still open here.
  assert.equal(stop.signal(), 0);
  assert.equal(stop.drain(), 1);
});

interface PipeEnds extends Disposable {
  readonly readEnd: number;
  readonly writeEnd: number;
  closeWriter(): void;
}

function disposablePipe(): PipeEnds {
  const { readEnd, writeEnd } = pipe();
  return {
    readEnd: readEnd.fd,
    writeEnd: writeEnd.fd,
    closeWriter: () => writeEnd.close(),
    [Symbol.dispose]: () => {
      readEnd.close();
      writeEnd.close();
    },
  };
}
