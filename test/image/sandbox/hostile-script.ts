/**
 * What an attacker who owns the server would run: takes the server's place in its sandbox and tries everything that
 * JavaScript has. Says on the broker's socket how each attempt ended, as one line of JSON.
 */
import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import {
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { connect, createServer } from 'node:net';
import { Worker } from 'node:worker_threads';
import { closedByte, InheritedFd, loadedByte } from '../../../src/image/sandbox/inherited.ts';

const koffi = process.argv[2] ?? '';
const parentPid = Number(process.argv[3]);
/** A name in the test's own directory. */
const scratch = `${process.argv[4]}-hostile`;
/** Far behind those that Node closes by itself when it starts. */
const strayFd = 200;
const attempts: Record<string, string> = {};

function attempt(name: string, act: () => unknown): void {
  try {
    const result = act();
    attempts[name] = `done: ${typeof result}`;
  } catch (error) {
    attempts[name] = String((error as { code?: unknown }).code ?? error).slice(0, 120);
  }
}

function settled(name: string, act: (done: (how: string) => void) => void): Promise<void> {
  return new Promise((resolve) => {
    const done = (how: string): void => {
      attempts[name] = how;
      resolve();
    };
    try {
      act(done);
    } catch (error) {
      done(String((error as { code?: unknown }).code ?? error).slice(0, 120));
    }
  });
}

attempt('while loading: open /etc/passwd', () => openSync('/etc/passwd', 'r'));
attempt('while loading: read a user file', () => readFileSync(process.argv[4] ?? ''));
attempt('while loading: write a file', () => writeFileSync(scratch, 'x'));
attempt('while loading: koffi', () => createRequire(import.meta.url)(koffi) as unknown);
attempt('while loading: its own memory', () => openSync('/proc/self/mem', 'r+'));
await settled('while loading: TCP', (done) => {
  const socket = connect(Number(process.argv[5]), '127.0.0.1', () => done('done: connected'));
  socket.on('error', (error) => done((error as NodeJS.ErrnoException).code ?? 'error'));
});

writeSync(InheritedFd.broker, Uint8Array.of(loadedByte));
const byte = new Uint8Array(1);
readSync(InheritedFd.broker, byte);
if (byte[0] !== closedByte) process.exit(9);

attempt('open /etc/passwd', () => openSync('/etc/passwd', 'r'));
attempt('open what it is made of', () => openSync(import.meta.filename, 'r'));
attempt('open /proc/self/mem', () => openSync('/proc/self/mem', 'r+'));
attempt('open /dev/fuse', () => openSync('/dev/fuse', 'r+'));
attempt('open the image again', () => openSync(`/proc/self/fd/${InheritedFd.image}`, 'r+'));
attempt('write a file', () => writeFileSync(scratch, 'x'));
attempt('make a directory', () => mkdirSync(scratch));
attempt('link', () => linkSync('/etc/passwd', scratch));
attempt('stat', () => statSync('/etc'));
attempt('list', () => readdirSync('/'));
attempt('readlink', () => readlinkSync('/proc/self/exe'));
attempt('write into the image', () => writeSync(InheritedFd.image, 'x', 0));
attempt('write to a file that who mounts has open', () => writeSync(strayFd, 'x'));
attempt('koffi', () => createRequire(import.meta.url)(koffi) as unknown);
attempt('dlopen', () => {
  process.dlopen({ exports: {} }, koffi);
});
attempt('spawn', () => {
  const result = spawnSync('/bin/true');
  if (result.error !== undefined) throw result.error;
  return result.status;
});
attempt('kill the parent', () => process.kill(process.ppid, 0));
attempt('kill the broker', () => process.kill(parentPid, 0));
attempt('setuid', () => process.setuid?.(0));
attempt('4 GiB of memory', () => {
  const held: ArrayBuffer[] = [];
  try {
    // Outside of V8's heap, whose limit is another one. Nothing of it is touched.
    while (held.length < 16) held.push(new ArrayBuffer(256 * 1024 * 1024));
    return held.length;
  } finally {
    for (const buffer of held) buffer.transfer(0);
  }
});
// oxlint-disable-next-line typescript/no-implied-eval -- this is what is tried
attempt('eval', () => new Function('return 1')() as unknown);
await settled('TCP', (done) => {
  const socket = connect(Number(process.argv[5]), '127.0.0.1', () => done('done: connected'));
  socket.on('error', (error) => done((error as NodeJS.ErrnoException).code ?? 'error'));
});
await settled('unix socket', (done) => {
  const socket = connect('/run/dbus/system_bus_socket', () => done('done: connected'));
  socket.on('error', (error) => done((error as NodeJS.ErrnoException).code ?? 'error'));
});
await settled('listen', (done) => {
  const server = createServer();
  server.on('error', (error) => done((error as NodeJS.ErrnoException).code ?? 'error'));
  server.listen(0, () => done('done: listening'));
});
await settled('UDP', (done) => {
  const socket = createSocket('udp4');
  socket.on('error', (error) => done((error as NodeJS.ErrnoException).code ?? 'error'));
  socket.bind(0, () => done('done: bound'));
});
await settled('thread', (done) => {
  const worker = new Worker('1', { eval: true });
  worker.on('online', () => done('done: started'));
  worker.on('error', (error) => done((error as NodeJS.ErrnoException).code ?? 'error'));
});
writeSync(InheritedFd.broker, `${JSON.stringify(attempts)}\n`);
// Stays until the broker kills it: Node cannot end in order any more.
readSync(InheritedFd.broker, byte);
