/** The server's end of the socket pair: blocking, because the server has one thread and waits for the answer anyway. */
import { Errno } from '../../base/errno.ts';
import { readExactly, writeAll } from '../blocking-socket.ts';
import { closedByte, InheritedFd, loadedByte } from '../sandbox/inherited.ts';
import {
  encodeAsk,
  encodeMapRequest,
  encodePrefetch,
  frameHeaderBytes,
  FrameType,
  mountedAnswer,
  noticeBytes,
} from '../messages.ts';
import type { Failed, FilePlaces, Opened } from '../messages.ts';
import type { RecallSource } from './recalled-device.ts';

const fd = InheritedFd.broker;

function sendFrame(type: number, payload: Uint8Array): void {
  const header = new Uint32Array([type, payload.length]);
  writeAll(fd, new Uint8Array(header.buffer, 0, frameHeaderBytes));
  writeAll(fd, payload);
}

function sendJson(type: number, value: object): void {
  sendFrame(type, Buffer.from(JSON.stringify(value)));
}

/** Our code is loaded. Returns when the gate behind it is closed; before that no byte of the image may be read. */
export function passGate(): void {
  writeAll(fd, Uint8Array.of(loadedByte));
  const byte = new Uint8Array(1);
  if (!readExactly(fd, byte) || byte[0] !== closedByte)
    throw new Error('the broker does not know us');
}

/** The broker mounts the image now. */
export function sayOpened(opened: Opened): void {
  sendJson(FrameType.opened, opened);
}

/** Returns when the image is mounted; undefined when it will not be. */
export function waitForMount(): 'plain' | 'mapped' | undefined {
  const answer = readAnswer();
  if (answer === mountedAnswer.mapped) return 'mapped';
  return answer === mountedAnswer.plain ? 'plain' : undefined;
}

/** One i32. */
function readAnswer(): number {
  const answer = new Int32Array(1);
  return readExactly(fd, new Uint8Array(answer.buffer)) ? (answer[0] ?? -Errno.EIO) : -Errno.EIO;
}

export function sayFailed(failed: Failed): void {
  sendJson(FrameType.failed, failed);
}

export function sayServing(): void {
  sendFrame(FrameType.serving, new Uint8Array(0));
}

export function sayEnded(): void {
  sendFrame(FrameType.ended, new Uint8Array(0));
}

export function sendTree(piece: object): void {
  sendJson(FrameType.tree, piece);
}

/** A backing id, or -errno. */
export function requestBacking(places: FilePlaces): number {
  sendFrame(FrameType.map, encodeMapRequest(places));
  return readAnswer();
}

/** A backing id, or -errno: -ENOENT when the places have to be said. */
export function requestBackingAgain(inode: number): number {
  sendFrame(FrameType.mapAgain, new Uint8Array(Float64Array.of(inode).buffer));
  return readAnswer();
}

export function releaseBacking(id: number): void {
  sendFrame(FrameType.unmap, new Uint8Array(Float64Array.of(id).buffer));
}

/** How parts of a remote image are asked for. */
export const recallSource: RecallSource = {
  ask(offsetBytes, sizeBytes, deadlineMs) {
    sendFrame(FrameType.ask, encodeAsk({ offsetBytes, sizeBytes, deadlineMs }));
    return readAnswer();
  },
  prefetch(ranges) {
    sendFrame(FrameType.prefetch, encodePrefetch(ranges));
  },
  wait(recall) {
    const notice = new Int32Array(noticeBytes / 4);
    // Others are of recalls that nobody waits for any more.
    while (readExactly(InheritedFd.notices, new Uint8Array(notice.buffer))) {
      if (notice[0] === recall) return notice[1] ?? Errno.EIO;
    }
    return Errno.EIO;
  },
};

/** Blocks until the broker is gone or kills us: Node cannot end in order behind the gate. */
export function waitForTheEnd(): never {
  const byte = new Uint8Array(1);
  for (;;) readExactly(fd, byte);
}
