/** The broker's end of the socket pair: frames of a process that may have become anything. */
import { Socket } from 'node:net';
import { ebbError } from '../../base/errors.ts';
import { frameHeaderBytes, payloadMaxBytes } from '../messages.ts';

export interface Frame {
  readonly type: number;
  readonly payload: Uint8Array;
}

const firstCapacityBytes = 64 * 1024;

/** Puts arriving bytes together, in one piece of memory however small they come. Pure. */
export class FrameDecoder {
  #bytes = new Uint8Array(firstCapacityBytes);
  #haveBytes = 0;

  /**
   * The frames that are complete now; `bytes` is not kept. Throws EPROTO when one is larger than its type may be:
   * nothing after it counts.
   */
  push(bytes: Uint8Array): Frame[] {
    this.#append(bytes);
    const view = new DataView(this.#bytes.buffer);
    const frames: Frame[] = [];
    let at = 0;
    while (this.#haveBytes - at >= frameHeaderBytes) {
      const lengthBytes = view.getUint32(at + 4, true);
      const type = view.getUint32(at, true);
      if (lengthBytes > payloadMaxBytes(type)) {
        throw ebbError('EPROTO', 'The server of the image sends nonsense.');
      }
      const endAt = at + frameHeaderBytes + lengthBytes;
      if (this.#haveBytes < endAt) break;
      frames.push({
        type,
        payload: this.#bytes.slice(at + frameHeaderBytes, endAt),
      });
      at = endAt;
    }
    if (at > 0) this.#bytes.copyWithin(0, at, this.#haveBytes);
    this.#haveBytes -= at;
    return frames;
  }

  #append(bytes: Uint8Array): void {
    const neededBytes = this.#haveBytes + bytes.length;
    if (neededBytes > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(neededBytes, this.#bytes.length * 2));
      larger.set(this.#bytes.subarray(0, this.#haveBytes));
      this.#bytes = larger;
    }
    this.#bytes.set(bytes, this.#haveBytes);
    this.#haveBytes = neededBytes;
  }
}

/** Takes the descriptor over. `onFrame` for each frame in order, `onEnd` once: closed, or nonsense came. */
export class ServerLink {
  readonly #socket: Socket;

  constructor(socketFd: number, onFrame: (frame: Frame) => void, onEnd: (error?: Error) => void) {
    this.#socket = new Socket({ fd: socketFd, readable: true, writable: true });
    const decoder = new FrameDecoder();
    this.#socket.on('data', (bytes: Buffer) => {
      try {
        for (const frame of decoder.push(bytes)) onFrame(frame);
      } catch (error) {
        this.#socket.destroy();
        onEnd(error instanceof Error ? error : new Error(String(error)));
      }
    });
    this.#socket.on('error', onEnd);
    this.#socket.on('close', () => onEnd());
  }

  /** Answers a `map`: a backing id or -errno. */
  answer(value: number): void {
    const isTaken = this.#socket.write(new Uint8Array(Int32Array.of(value).buffer));
    if (isTaken || this.#socket.isPaused()) return;
    // Who takes no answers is asked for no more questions: otherwise they would be queued without end.
    this.#socket.pause();
    this.#socket.once('drain', () => this.#socket.resume());
  }

  close(): void {
    this.#socket.destroy();
  }
}
