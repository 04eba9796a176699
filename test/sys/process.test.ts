import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Errno } from '../../src/base/errno.ts';
import { OpenFlag, openFd } from '../../src/sys/fd.ts';
import { lastErrno } from '../../src/sys/ffi.ts';
import { read, write } from '../../src/sys/io.ts';
import { IoctlRequest, fuseBackingClose, fuseBackingOpen } from '../../src/sys/ioctl.ts';
import { dropLease, leaseKind, tryLease, tryLock } from '../../src/sys/lease.ts';
import { MountFlag, UnmountFlag, mount, unmount, unmountAsync } from '../../src/sys/mount.ts';
import {
  Capability,
  hasCapability,
  openFilesLimit,
  raiseOpenFilesLimit,
} from '../../src/sys/process.ts';
import { receiveFd, sendFd, socketPair } from '../../src/sys/socket.ts';
import { LoopFilesystem, TemporaryDirectory } from './support.ts';

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`${type}: a lease proves that nobody has the file open, and its break is seen`, async () => {
    using loop = new LoopFilesystem(type);
    const name = loop.join('file');
    writeFileSync(name, 'content');
    using file = openFd(name, OpenFlag.rdwr);
    {
      using _other = openFd(name, OpenFlag.rdonly);
      assert.equal(tryLease(file.fd, 'write'), false);
    }
    assert.equal(tryLease(file.fd, 'write'), true);
    assert.equal(leaseKind(file.fd), 'write');
    // cat waits in open(2) until the lease is dropped; SIGURG must not end this process.
    using reader = new Child('cat', [name]);
    while (leaseKind(file.fd) === 'write') await delay(2);
    assert.equal(leaseKind(file.fd), 'read');
    assert.equal(reader.output, '');
    dropLease(file.fd);
    assert.equal(await reader.exit(), 0);
    assert.equal(reader.output, 'content');
    assert.equal(leaseKind(file.fd), 'none');
    dropLease(file.fd);
  });
}

test('leases: read leases, bad descriptors', () => {
  using directory = new TemporaryDirectory();
  writeFileSync(directory.join('file'), '');
  using file = openFd(directory.join('file'), OpenFlag.rdonly);
  assert.equal(tryLease(file.fd, 'read'), true);
  assert.equal(leaseKind(file.fd), 'read');
  dropLease(file.fd);
  assert.throws(() => tryLease(1_000_000, 'write'), { code: 'EBADF' });
  assert.throws(() => leaseKind(1_000_000), { code: 'EBADF' });
  assert.throws(() => dropLease(1_000_000), { code: 'EBADF' });
});

test('a lock has one holder, and ends with it', async () => {
  using directory = new TemporaryDirectory();
  const name = directory.join('lock');
  using first = openFd(name, OpenFlag.rdwr | OpenFlag.creat);
  using second = openFd(name, OpenFlag.rdwr);
  assert.equal(tryLock(first.fd), true);
  assert.equal(tryLock(first.fd), true);
  assert.equal(tryLock(second.fd), false);
  first.close();
  assert.equal(tryLock(second.fd), true);
  second.close();
  using third = openFd(name, OpenFlag.rdwr);
  // --no-fork: the program itself holds the lock, so that killing it releases it.
  using holder = new Child('flock', ['--no-fork', name, 'sh', '-c', 'echo held; exec sleep 60']);
  while (holder.output === '') await delay(2);
  assert.equal(tryLock(third.fd), false);
  holder.process.kill('SIGKILL');
  await holder.exit();
  assert.equal(tryLock(third.fd), true);
  assert.throws(() => tryLock(1_000_000), { code: 'EBADF' });
});

test('mounts a tmpfs, remounts, binds and unmounts', async () => {
  using directory = new TemporaryDirectory();
  const [target, second] = [directory.join('a'), directory.join('b')];
  mkdirSync(target);
  mkdirSync(second);
  using _cleanup = unmountAll(target, second);
  mount({ source: 'ebb-test', target, type: 'tmpfs', flags: MountFlag.nosuid, data: 'size=64k' });
  const line = mountLine(target);
  assert.match(line, /nosuid.* - tmpfs ebb-test rw,size=64k/);
  mount({ source: target, target: second, flags: MountFlag.bind });
  writeFileSync(`${target}/x`, 'y');
  assert.equal(readFileSync(`${second}/x`, 'latin1'), 'y');
  using busy = openFd(`${second}/x`, OpenFlag.rdonly);
  assert.throws(() => unmount(second), { code: 'EBUSY' });
  await assert.rejects(unmountAsync(second), { code: 'EBUSY' });
  unmount(second, UnmountFlag.detach);
  busy.close();
  await unmountAsync(target);
  assert.equal(mountLine(target), '');
  assert.throws(() => unmount(target), { code: 'EINVAL' });
  await assert.rejects(unmountAsync(directory.join('none')), { code: 'ENOENT' });
  assert.throws(() => mount({ source: 'x', target, type: 'no-such-type' }), { code: 'ENODEV' });
});

test('descriptors travel through a socket pair', () => {
  const [left, right] = socketPair();
  using _left = left;
  using _right = right;
  assert.equal(receiveFd(right.fd), undefined);
  using file = openFd('/proc/self/status', OpenFlag.rdonly);
  sendFd(left.fd, file.fd);
  using received = receiveFd(right.fd);
  assert.ok(received !== undefined);
  assert.notEqual(received.fd, file.fd);
  assert.equal(statSync(`/proc/self/fd/${received.fd}`).ino, statSync('/proc/self/status').ino);
  assert.match(readFileSync(`/proc/self/fdinfo/${received.fd}`, 'latin1'), /flags:\s*02/);
  write(left.fd, new Uint8Array([1]));
  assert.throws(() => receiveFd(right.fd), { code: 'EPROTO' });
  left.close();
  assert.throws(() => receiveFd(right.fd), { code: 'ECONNRESET' });
  assert.throws(() => sendFd(right.fd, file.fd), { code: 'EPIPE' });
  assert.throws(() => receiveFd(1_000_000), { code: 'EBADF' });
});

test('a message with more than one descriptor is refused and leaks none', async () => {
  const [left, right] = socketPair();
  using _left = left;
  using _right = right;
  const script = `import array,socket,sys
s=socket.socket(fileno=3)
s.sendmsg([b"x"],[(socket.SOL_SOCKET,socket.SCM_RIGHTS,array.array("i",[0,0,0]))])`;
  using sender = new Child('python3', ['-c', script], left.fd);
  assert.equal(await sender.exit(), 0, sender.output);
  const before = openDescriptors();
  assert.throws(() => receiveFd(right.fd), { code: 'EPROTO' });
  assert.equal(openDescriptors(), before);
});

test('limits and capabilities', () => {
  const limit = openFilesLimit();
  const shown = /Max open files\s+(\d+)\s+(\d+)/.exec(readFileSync('/proc/self/limits', 'latin1'));
  assert.equal(limit.soft, Number(shown?.[1]));
  assert.equal(limit.hard, Number(shown?.[2]));
  assert.deepEqual(raiseOpenFilesLimit(16), limit);
  assert.ok(raiseOpenFilesLimit(limit.soft + 1).soft >= limit.soft);
  assert.equal(hasCapability(Capability.sysAdmin), process.getuid?.() === 0);
  const dropped = spawnSync(
    'setpriv',
    ['--reuid=65534', '--clear-groups', 'grep', 'CapEff', '/proc/self/status'],
    { encoding: 'utf8' },
  );
  assert.match(dropped.stdout, /CapEff:\s+0+$/m);
});

test('the requests of /dev/fuse have the numbers of linux/fuse.h', () => {
  assert.equal(IoctlRequest.fuseBackingOpen, 0x4010e501);
  assert.equal(IoctlRequest.fuseBackingClose, 0x4004e502);
  assert.equal(IoctlRequest.ficloneRange, 0x4020940d);
});

test('the requests of /dev/fuse on a device that is not mounted', () => {
  using device = openFd('/dev/fuse', OpenFlag.rdwr);
  using file = openFd('/dev/null', OpenFlag.rdonly);
  assert.equal(fuseBackingOpen(device.fd, file.fd), -Errno.EPERM);
  assert.equal(fuseBackingClose(device.fd, 1), -Errno.EPERM);
  assert.equal(fuseBackingOpen(file.fd, file.fd), -Errno.ENOTTY);
  assert.equal(read(1_000_000, new Uint8Array(1)), -Errno.EBADF);
  assert.equal(lastErrno(), Errno.EBADF);
});

/** A child process that is killed when its scope ends. */
class Child implements Disposable {
  readonly process: ChildProcess;
  output = '';

  constructor(program: string, options: readonly string[], fd3?: number) {
    const stdio = fd3 === undefined ? [] : [fd3];
    this.process = spawn(program, options, { stdio: ['ignore', 'pipe', 'pipe', ...stdio] });
    this.process.stdout?.on('data', (data) => (this.output += String(data)));
    this.process.stderr?.on('data', (data) => (this.output += String(data)));
  }

  async exit(): Promise<number | null> {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      await once(this.process, 'close');
    }
    return this.process.exitCode;
  }

  [Symbol.dispose](): void {
    this.process.kill('SIGKILL');
  }
}

function mountLine(target: string): string {
  const lines = readFileSync('/proc/self/mountinfo', 'latin1').split('\n');
  return lines.find((line) => line.split(' ')[4] === target) ?? '';
}

function unmountAll(...targets: string[]): Disposable {
  return {
    [Symbol.dispose]: () => {
      for (const target of targets) spawnSync('umount', ['-l', target]);
    },
  };
}

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}
