/**
 * A server that an image has led into a loop: says that it has opened the image, and computes from then on. With
 * `reads` it reads a byte now and then, and says nonsense after a while. With `stuck` a thread of it reads the image.
 */
import { read, readSync, writeSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { FrameType } from '../../../src/image/messages.ts';
import { closedByte, InheritedFd, loadedByte } from '../../../src/image/sandbox/inherited.ts';

const fd = InheritedFd.broker;
const byte = new Uint8Array(1);
const roundMs = 20;

function send(type: number, payload: Uint8Array): void {
  writeSync(fd, new Uint8Array(Uint32Array.of(type, payload.length).buffer));
  writeSync(fd, payload);
}

function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function compute(untilMs: number): void {
  while (processorMs() < untilMs);
}

// Behind the gate no thread is made any more.
await stat('/');
writeSync(fd, Uint8Array.of(loadedByte));
readSync(fd, byte);
if (byte[0] !== closedByte) process.exit(9);
send(FrameType.opened, Buffer.from(JSON.stringify({ blockBytes: 4096, startBytes: 0 })));
for (let done = 0; done < 4;) done += readSync(fd, byte);
if (process.argv[3] === 'stuck') read(InheritedFd.image, byte, 0, 1, 0, () => undefined);
const startedMs = processorMs();
const lastsMs = process.argv[3] === 'reads' ? Number(process.argv[4]) : Infinity;
for (let doneMs = 0; doneMs < lastsMs; doneMs += roundMs) {
  compute(startedMs + doneMs + roundMs);
  if (lastsMs < Infinity) readSync(InheritedFd.image, byte, 0, 1, 0);
}
send(77, byte);
compute(Infinity);
