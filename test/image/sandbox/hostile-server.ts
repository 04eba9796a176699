/**
 * A server that was taken over: says that it has opened the image, and then asks the broker for what it must not get.
 * The last word is nonsense. What the broker answered goes to standard error, as JSON.
 */
import { readSync, writeSync } from 'node:fs';
import { closedByte, InheritedFd, loadedByte } from '../../../src/image/sandbox/inherited.ts';
import { encodeMapRequest, FrameType } from '../../../src/image/messages.ts';

const fd = InheritedFd.broker;
const { imageBytes } = JSON.parse(process.argv[2] ?? '') as { imageBytes: number };
const mib = 1024 * 1024;

function send(type: number, payload: Uint8Array): void {
  writeSync(fd, new Uint8Array(Uint32Array.of(type, payload.length).buffer));
  writeSync(fd, payload);
}

function answer(): number {
  const value = new Int32Array(1);
  const bytes = new Uint8Array(value.buffer);
  for (let done = 0; done < 4;) done += readSync(fd, bytes, done, 4 - done, null);
  return value[0] ?? 0;
}

function map(
  extents: readonly (readonly [file: number, image: number, length: number])[],
  sizeBytes = mib,
): number {
  const inode = Math.floor(Math.random() * 1e9);
  const runs = Float64Array.from(extents.flat());
  send(FrameType.map, encodeMapRequest({ inode, sizeBytes, runs }));
  return answer();
}

writeSync(fd, Uint8Array.of(loadedByte));
const byte = new Uint8Array(1);
readSync(fd, byte);
if (byte[0] !== closedByte) process.exit(9);
send(
  FrameType.opened,
  Buffer.from(JSON.stringify({ blockBytes: 4096, startBytes: 0, label: 7, notes: 'x' })),
);
const answers: Record<string, number> = { opened: answer() };
answers['inside'] = map([[0, 0, mib]]);
answers['behind the end'] = map([[0, imageBytes, 4096]]);
answers['over the end'] = map([[0, imageBytes - 4096, 8192]]);
answers['far behind'] = map([[0, 2 ** 45, 4096]]);
answers['before the start'] = map([[0, -4096, 4096]]);
answers['no number'] = map([[0, Number.NaN, 4096]]);
answers['overlapping'] = map([
  [0, 0, 8192],
  [4096, 16384, 4096],
]);
answers['unordered'] = map([
  [8192, 0, 4096],
  [0, 16384, 4096],
]);
answers['between blocks'] = map([[0, 100, 4096]]);
answers['longer than the file'] = map([[0, 0, 2 * mib]]);
answers['endless file'] = map([], Infinity);
answers['negative file'] = map([], -1);
answers['too large a table'] = map(
  [
    [0, 0, 4096],
    [8192, 0, 4096],
  ],
  2 ** 44,
);
// 128 MiB, which the broker would write to the disk.
answers['a large table'] = map([[4096, 0, 4096]], 2 ** 36);
send(FrameType.mapAgain, new Uint8Array(Float64Array.of(77).buffer));
answers['never mapped'] = answer();
for (const id of [0, -1, 1e9, Number.NaN, answers['inside'] ?? 0, answers['inside'] ?? 0]) {
  send(FrameType.unmap, new Uint8Array(Float64Array.of(id).buffer));
}
writeSync(2, `${JSON.stringify(answers)}\n`);
const nonsense = process.argv[3] ?? '';
if (nonsense === 'type') send(77, new Uint8Array(3));
if (nonsense === 'length')
  writeSync(fd, new Uint8Array(Uint32Array.of(FrameType.map, 0xffff_ffff).buffer));
if (nonsense === 'json') send(FrameType.opened, Buffer.from('{'));
if (nonsense === 'map') send(FrameType.map, new Uint8Array(5));
if (nonsense === 'ended') send(FrameType.ended, new Uint8Array(0));
for (;;) {
  try {
    readSync(fd, byte);
  } catch {
    // The broker has hung up (ECONNRESET). Said aloud it would stand behind the answers.
  }
}
