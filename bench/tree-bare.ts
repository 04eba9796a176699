/**
 * What `tree serve` of peers/tree.c does, in bare Node: answers fanotify events, and copies the 256 KiB that are asked
 * for before. One thread, no questions, no policy, no versions, no records: the least that a first byte can cost in
 * this language. `node bench/tree-bare.ts SOURCE TARGET`, ends by a signal. Root.
 */
import { fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { FanEvent } from '../src/fanotify/constants.ts';
import type { IncomingEvent } from '../src/fanotify/event-reader.ts';
import { Group } from '../src/fanotify/group.ts';
import { runLoop } from '../src/fanotify/loop.ts';
import { LoopControl } from '../src/sys/loop-control.ts';

const chunkBytes = 256 * 1024;

const [source = '', target = ''] = process.argv.slice(2);
const sourceFd = openSync(source, 'r');
// Opened before anything is marked: our own writes raise no events.
const targetFd = openSync(target, 'r+');
const sizeBytes = fstatSync(sourceFd).size;
const isHere = new Uint8Array(Math.ceil(sizeBytes / chunkBytes));
const buffer = Buffer.alloc(chunkBytes);

function bring(offsetBytes: number, countBytes: number): void {
  const endBytes = Math.min(sizeBytes, offsetBytes + countBytes);
  for (
    let chunk = Math.floor(offsetBytes / chunkBytes);
    chunk * chunkBytes < endBytes;
    chunk += 1
  ) {
    if (isHere[chunk] === 1) continue;
    const gotBytes = readSync(sourceFd, buffer, 0, chunkBytes, chunk * chunkBytes);
    if (writeSync(targetFd, buffer, 0, gotBytes, chunk * chunkBytes) !== gotBytes)
      throw new Error('a short write');
    isHere[chunk] = 1;
  }
}

using group = Group.create({ class: 'preContent' });
group.mark(target, { on: 'filesystem', events: FanEvent.preAccess | FanEvent.openPermission });
using control = LoopControl.create();
const handle = (event: IncomingEvent): void => {
  if (event.hasRange) bring(event.offset, event.count);
  event.allow();
};
process.stdout.write('ready\n');
const onTrouble = (trouble: unknown): void => console.error(trouble);
runLoop([{ group, handle, overflow: () => {} }], control, { onTrouble });
