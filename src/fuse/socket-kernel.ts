/**
 * The kernel's side of a connection over a socket: sends one request at a time and waits for its answer. A stream
 * socket serves, because nothing is under way when the next message is written.
 */
import { Socket } from 'node:net';
import { ebbError } from '../base/errors.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { Opcode } from './constants.ts';
import { WireBuffer } from './wire/buffer.ts';
import { decodeReply, encodeRequest } from './wire/message.ts';
import type { ReplyMessage, RequestMessage } from './wire/message.ts';

/** The largest request or answer. */
const messageBytesMax = 64 * 1024;
const lengthFieldBytes = 4;
const protocolMinor = 45;

export type KernelRequest = Partial<RequestMessage> & { readonly opcode: number };

export class SocketKernel implements Disposable {
  readonly #socket: Socket;
  readonly #buffer = new WireBuffer(messageBytesMax);
  #receivedBytes = 0;
  #unique = 0;
  #waiting: PromiseWithResolvers<number> | undefined;

  /** Takes over the descriptor. */
  constructor(descriptor: OwnedFd) {
    this.#socket = new Socket({ fd: descriptor.release() });
    this.#socket.on('data', (bytes: Buffer) => this.#received(bytes));
    this.#socket.on('error', (error) => this.#waiting?.reject(error));
    this.#socket.on('close', () => this.#waiting?.reject(brokenOff()));
  }

  /** The answer, whatever its errno. One request at a time. Rejects when the socket ends. */
  async ask(request: KernelRequest): Promise<ReplyMessage> {
    this.#unique += 2;
    const lengthBytes = encodeRequest(this.#buffer, { ...request, unique: this.#unique });
    this.#socket.write(this.#buffer.bytes.slice(0, lengthBytes));
    this.#receivedBytes = 0;
    this.#waiting = Promise.withResolvers<number>();
    return decodeReply(this.#buffer, await this.#waiting.promise, request.opcode);
  }

  /** INIT without any optional feature. */
  async init(): Promise<void> {
    const body = { major: 7, minor: protocolMinor, max_readahead: messageBytesMax };
    await this.ask({ opcode: Opcode.INIT, body });
  }

  #received(bytes: Uint8Array): void {
    if (this.#receivedBytes + bytes.length > messageBytesMax) {
      this.#socket.destroy(ebbError('EPROTO', 'An answer is larger than was asked for.'));
      return;
    }
    this.#buffer.bytes.set(bytes, this.#receivedBytes);
    this.#receivedBytes += bytes.length;
    const isComplete =
      this.#receivedBytes >= lengthFieldBytes && this.#receivedBytes >= this.#buffer.u32(0);
    if (isComplete) this.#waiting?.resolve(this.#receivedBytes);
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}

function brokenOff(): Error {
  return ebbError('ECONNRESET', 'The socket to the session thread ended.');
}
