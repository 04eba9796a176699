/**
 * A process that reads events of the group it inherits as descriptor 3 and answers none of them, as a daemon that is
 * killed in the middle of its work. Prints the number of each event's descriptor.
 */
import { EventCursor } from '../../src/fanotify/codec.ts';
import { read } from '../../src/sys/io.ts';
import { PollEvent, PollSet } from '../../src/sys/poll.ts';

const groupFd = 3;
/** How many are taken; what comes then stays in the queue. */
const most = Number(process.argv[2]);
const cursor = new EventCursor(4096);
const waiting = new PollSet([{ fd: groupFd, events: PollEvent.in }]);
process.stdout.write('ready\n');
for (let taken = 0; taken < most;) {
  waiting.wait(-1);
  // Room for one event with its range, so that no more than wanted are taken.
  const result = read(groupFd, cursor.bytes, 0, 48);
  cursor.reset(Math.max(0, result));
  while (cursor.next()) {
    taken += 1;
    process.stdout.write(`${cursor.fd}\n`);
  }
}
setInterval(() => undefined, 1000);
