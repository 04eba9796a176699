/**
 * What the broker gives to a launcher (enter.ts), which starts while the broker is still being loaded and knows nothing
 * of the image: the server's arguments and descriptors, over the socket that becomes the server's. A length (u32), that
 * much JSON, then the descriptors, one with each byte.
 */
import { ebbError } from '../../base/errors.ts';
import { replaceFd } from '../../sys/fd.ts';
import { PollEvent, PollSet } from '../../sys/poll.ts';
import { receiveFd, sendFd } from '../../sys/socket.ts';
import { readExactly, writeAll } from '../blocking-socket.ts';
import { InheritedFd } from './inherited.ts';

export interface Task {
  readonly args: readonly string[];
  readonly deviceFd: number;
  readonly imageFd: number;
  /** The server's end of the socket for notices; undefined: the image is local. */
  readonly noticesFd?: number | undefined;
}

interface Words {
  readonly args: readonly string[];
  readonly isNoticed: boolean;
}

const lengthBytes = 4;

/** Throws EPIPE when the launcher has ended. */
export function sendTask(socketFd: number, task: Task): void {
  const { args, deviceFd, imageFd, noticesFd } = task;
  const words: Words = { args, isNoticed: noticesFd !== undefined };
  const text = Buffer.from(JSON.stringify(words));
  writeAll(socketFd, new Uint8Array(Uint32Array.of(text.length).buffer));
  writeAll(socketFd, text);
  for (const fd of [deviceFd, imageFd, ...(noticesFd === undefined ? [] : [noticesFd])]) {
    sendFd(socketFd, fd);
  }
}

/**
 * Waits for a task, and puts its descriptors where the server finds them (`InheritedFd`). Returns its arguments. Throws
 * ECONNRESET when the broker has gone.
 */
export function receiveTask(socketFd: number): readonly string[] {
  const [textBytes = 0] = new Uint32Array(receive(socketFd, lengthBytes).buffer);
  const text = new TextDecoder().decode(receive(socketFd, textBytes));
  const { args, isNoticed } = JSON.parse(text) as Words;
  const { device, image, notices } = InheritedFd;
  for (const place of [device, image, ...(isNoticed ? [notices] : [])]) receiveAt(socketFd, place);
  return args;
}

function receiveAt(socketFd: number, place: number): void {
  const waiting = new PollSet([{ fd: socketFd, events: PollEvent.in }]);
  for (;;) {
    using received = receiveFd(socketFd);
    if (received !== undefined) return replaceFd(place, received.fd);
    waiting.wait(-1);
  }
}

function receive(socketFd: number, count: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(count);
  if (!readExactly(socketFd, bytes)) throw ebbError('ECONNRESET', 'The broker has gone.');
  return bytes;
}
