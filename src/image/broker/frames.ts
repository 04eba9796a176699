/** The broker's end of the socket pair: frames of a process that may have become anything. */
import { Socket } from 'node:net';
import { ebbError } from '../../base/errors.ts';
import { frameHeaderBytes, framePayloadMaxBytes } from '../messages.ts';

export interface Frame {
  readonly type: number;
  readonly payload: Uint8Array;
}

/** Puts arriving bytes together. Pure. */
export class FrameDecoder {
  #pieces: Uint8Array[] = [];
  #haveBytes = 0;

  /** The frames that are complete now. Throws EPROTO when one is larger than allowed: nothing after it counts. */
  push(bytes: Uint8Array): Frame[] {
    this.#pieces.push(bytes);
    this.#haveBytes += bytes.length;
    const frames: Frame[] = [];
    while (this.#haveBytes >= frameHeaderBytes) {
      const first = this.#joined(frameHeaderBytes);
      const view = new DataView(first.buffer, first.byteOffset, frameHeaderBytes);
      const lengthBytes = view.getUint32(4, true);
      if (lengthBytes > framePayloadMaxBytes) {
        throw ebbError('EPROTO', 'The server of the image sends nonsense.');
      }
      const totalBytes = frameHeaderBytes + lengthBytes;
      if (this.#haveBytes < totalBytes) break;
      const all = this.#joined(totalBytes);
      frames.push({
        type: view.getUint32(0, true),
        payload: all.slice(frameHeaderBytes, totalBytes),
      });
      this.#pieces = [all.subarray(totalBytes)];
      this.#haveBytes -= totalBytes;
    }
    return frames;
  }

  /** Makes the first piece at least that long. */
  #joined(lengthBytes: number): Uint8Array {
    const [first] = this.#pieces;
    if (first !== undefined && first.length >= lengthBytes) return first;
    const all = Buffer.concat(this.#pieces);
    this.#pieces = [all];
    return all;
  }
}

/** Takes the descriptor over. `onFrame` for each frame in order, `onEnd` once: closed, or nonsense came. */
export class ServerLink {
  readonly #socket: Socket;

  constructor(socketFd: number, onFrame: (frame: Frame) => void, onEnd: (error?: Error) => void) {
    this.#socket = new Socket({ fd: socketFd, readable: true, writable: true });
    const decoder = new FrameDecoder();
    this.#socket.on('data', (bytes) => {
      try {
        for (const frame of decoder.push(Buffer.from(bytes))) onFrame(frame);
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
