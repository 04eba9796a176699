/** Hostile code in the server's place: what it tries, and that it gets nothing. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { closeSync, readFileSync, readSync, writeSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Errno } from '../../../src/base/errno.ts';
import { parseMountInfo } from '../../../src/base/mount-info.ts';
import { startServer } from '../../../src/image/sandbox/start.ts';
import { landlockVersion } from '../../../src/sys/landlock.ts';
import { OpenFlag, openFd, replaceFd } from '../../../src/sys/fd.ts';
import { PollEvent, PollSet } from '../../../src/sys/poll.ts';
import { socketPair } from '../../../src/sys/socket.ts';
import { closedByte } from '../../../src/image/sandbox/inherited.ts';
import { waitFor } from '../../support/wait-for.ts';
import { runOk } from '../../support/run.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const here = import.meta.dirname;
/** As in `flock 200`; hostile-script.ts knows the number. */
const strayFd = 200;
const koffi = fileURLToPath(import.meta.resolve('koffi'));

/** The last process of the chain that `pid` began. */
function serverOf(pid: number): number {
  const [child = ''] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ');
  return child.trim() === '' ? pid : serverOf(Number(child));
}

/** What the kernel says about it. */
function statusOf(pid: number): Map<string, string> {
  const lines = readFileSync(`/proc/${pid}/status`, 'latin1').split('\n');
  return new Map(lines.map((line) => line.split(/:\s*/) as [string, string]));
}

/** Where in its mount namespace `pid` has mounts that it does not start from. */
function foreignMounts(pid: number): string[] {
  const own = [
    /^\/$/,
    /^\/usr\/lib/,
    /\/bin\/node$/,
    /\/src$/,
    /\/package\.json$/,
    /^\/etc\/ld\.so\.cache$/,
    // Compiled code of the sources, where there is some.
    /\/sandbox$/,
  ];
  return parseMountInfo(readFileSync(`/proc/${pid}/mountinfo`))
    .map((one) => one.mountPoint)
    .filter((place) => place !== here && !own.some((pattern) => pattern.test(place)));
}

/** Everything up to the line's end; the writer is done or dead. */
function readLine(fd: number): string {
  const chunk = new Uint8Array(65_536);
  let text = '';
  while (!text.endsWith('\n')) {
    const count = readSync(fd, chunk);
    if (count === 0) break;
    text += Buffer.from(chunk.subarray(0, count)).toString();
  }
  return text;
}

for (const namespaces of [true, false]) {
  test(`hostile code in the server's place gets nothing, ${namespaces ? 'with' : 'without'} namespaces`, async () => {
    await using directory = await temporaryDirectory('hostile');
    const secret = path.join(directory.path, 'image');
    await writeFile(secret, 'secret');
    const listener = createServer().listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const { port } = listener.address() as AddressInfo;
    using device = openFd('/dev/null', OpenFlag.rdwr);
    using image = openFd(secret, OpenFlag.rdonly);
    const stray = path.join(directory.path, 'stray');
    {
      using file = openFd(stray, OpenFlag.wronly | OpenFlag.creat, 0o600);
      replaceFd(strayFd, file.fd);
    }
    try {
      using server = await startServer({
        script: path.join(here, 'hostile-script.ts'),
        args: [koffi, String(process.pid), secret, String(port)],
        deviceFd: device.fd,
        imageFd: image.fd,
        scripts: here,
        namespaces,
      });
      const attempts = JSON.parse(readLine(server.socket.fd)) as Record<string, string>;
      const pid = serverOf(server.child.pid ?? 0);
      const status = statusOf(pid);
      assert.equal(BigInt(`0x${status.get('CapEff')}`), 0n);
      assert.equal(BigInt(`0x${status.get('CapPrm')}`), 0n);
      assert.equal(status.get('NoNewPrivs'), '1');
      assert.equal(status.get('Seccomp'), '2');
      if (namespaces) {
        assert.equal(BigInt(`0x${status.get('CapBnd')}`), 0n);
        assert.match(status.get('NSpid') ?? '', /^\d+\s+1$/, 'a process namespace of its own');
        for (const one of [pid, server.child.pid ?? 0]) {
          assert.deepEqual(foreignMounts(one), [], 'no file system of the machine stays in use');
        }
      }
      const withoutLandlock = landlockVersion() === 0;
      for (const [name, how] of Object.entries(attempts)) {
        if (withoutLandlock && name.startsWith('while loading')) continue;
        assert.doesNotMatch(how, /^done/, `${name}: ${how}`);
      }
      assert.ok(Object.keys(attempts).length > 25, 'it tried');
      assert.equal(attempts['open /etc/passwd'], 'ENOSYS');
      assert.equal(attempts['spawn'], 'ENOSYS');
      assert.equal(attempts['write to a file that who mounts has open'], 'EBADF');
      assert.equal(readFileSync(stray, 'utf8'), '');
      assert.match(attempts['4 GiB of memory'] ?? '', /allocation failed/);
    } finally {
      closeSync(strayFd);
      listener.close();
    }
  });
}

test('outside of the sandbox the same code gets most of what it tries', async () => {
  await using directory = await temporaryDirectory('hostile');
  const secret = path.join(directory.path, 'image');
  await writeFile(secret, 'secret');
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  using image = openFd(secret, OpenFlag.rdwr);
  const [ours, theirs] = socketPair();
  using socket = ours;
  const script = path.join(here, 'hostile-script.ts');
  const child = spawn(
    process.execPath,
    [script, koffi, String(process.pid), secret, String(port)],
    {
      stdio: ['ignore', 'ignore', 'ignore', image.fd, image.fd, theirs.fd],
    },
  );
  theirs.close();
  try {
    writeSync(socket.fd, Uint8Array.of(closedByte));
    // Its first byte says that it has loaded; connections are accepted meanwhile.
    await waitFor(() => new PollSet([{ fd: socket.fd, events: PollEvent.in }]).wait(0) > 0, {
      what: 'the first word of the script',
    });
    assert.equal(readSync(socket.fd, new Uint8Array(1)), 1);
    await waitFor(() => new PollSet([{ fd: socket.fd, events: PollEvent.in }]).wait(0) > 0, {
      what: 'the report of the script',
    });
    const attempts = JSON.parse(readLine(socket.fd)) as Record<string, string>;
    const done = Object.keys(attempts).filter((name) => attempts[name]?.startsWith('done'));
    for (const name of [
      '4 GiB of memory',
      'open /etc/passwd',
      'koffi',
      'spawn',
      'TCP',
      'listen',
      'UDP',
      'thread',
    ]) {
      assert.ok(done.includes(name), `${name}: ${attempts[name]}`);
    }
    assert.ok(done.length > 18, done.join(', '));
  } finally {
    child.kill('SIGKILL');
    listener.close();
  }
});

test('every call that opens, connects, starts, traces or sends away is refused to machine code, too', async () => {
  const { stdout } = await runOk(process.execPath, [
    '--disable-warning=ExperimentalWarning',
    path.join(here, 'raw-calls.ts'),
  ]);
  const results = JSON.parse(stdout.toString()) as Record<string, number>;
  const wrong = Object.entries(results).filter(([, errno]) => errno !== Errno.ENOSYS);
  assert.deepEqual(wrong, []);
  assert.ok(Object.keys(results).length > 60);
});
