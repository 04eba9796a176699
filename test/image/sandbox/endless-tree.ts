/** A server that was taken over: instead of the tree of a native mount it says nothing, at great length. */
import { readSync, writeSync } from 'node:fs';
import { FrameType } from '../../../src/image/messages.ts';
import { closedByte, InheritedFd, loadedByte } from '../../../src/image/sandbox/inherited.ts';

const fd = InheritedFd.broker;

function send(type: number, payload: Uint8Array): void {
  writeSync(fd, new Uint8Array(Uint32Array.of(type, payload.length).buffer));
  for (let done = 0; done < payload.length;) done += writeSync(fd, payload, done);
}

writeSync(fd, Uint8Array.of(loadedByte));
const byte = new Uint8Array(1);
readSync(fd, byte);
if (byte[0] !== closedByte) process.exit(9);
send(FrameType.opened, Buffer.from(JSON.stringify({ blockBytes: 4096, startBytes: 0 })));
const piece = Buffer.from(
  JSON.stringify({ nodes: [], isLast: false, more: '-'.repeat(16 * 1024 * 1024) }),
);
for (;;) send(FrameType.tree, piece);
