/** The reading end of a channel: a device that sleeps until another thread has fetched the bytes. */
import { receiveMessageOnPort } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';
import { ebbError } from '../../base/errors.ts';
import { checkDeviceRange } from '../../ext4/block-device.ts';
import type { BlockDevice, DeviceRange } from '../../ext4/block-device.ts';
import { answerMaxBytes, ChannelState } from './channel.ts';
import type { ChannelFailure, ChannelMemory, ChannelQuestion } from './channel.ts';

export class ChannelDevice implements BlockDevice {
  readonly sizeBytes: number;
  readonly #port: MessagePort;
  readonly #state: Int32Array;
  readonly #data: Uint8Array;

  /** The port is read by nobody else. */
  constructor(memory: ChannelMemory, port: MessagePort) {
    this.sizeBytes = memory.sizeBytes;
    this.#port = port;
    this.#state = new Int32Array(memory.state);
    this.#data = new Uint8Array(memory.data);
  }

  read(offsetBytes: number, into: Uint8Array): void {
    checkDeviceRange(this, offsetBytes, into.byteLength);
    for (let done = 0; done < into.byteLength;) {
      const count = Math.min(answerMaxBytes, into.byteLength - done);
      this.#ask({ kind: 'read', offsetBytes: offsetBytes + done, sizeBytes: count });
      into.set(this.#data.subarray(0, count), done);
      done += count;
    }
  }

  prefetch(ranges: readonly DeviceRange[]): void {
    this.#post({ kind: 'prefetch', ranges: [...ranges] });
  }

  #post(question: ChannelQuestion): void {
    this.#port.postMessage(question);
  }

  #ask(question: ChannelQuestion): void {
    Atomics.store(this.#state, 0, ChannelState.asked);
    this.#post(question);
    // The answer before may have been seen before its notification came: that one wakes us up for nothing.
    while (Atomics.load(this.#state, 0) === ChannelState.asked) {
      Atomics.wait(this.#state, 0, ChannelState.asked);
    }
    if (Atomics.load(this.#state, 0) === ChannelState.answered) return;
    const failure = receiveMessageOnPort(this.#port)?.message as ChannelFailure | undefined;
    const { code = 'EIO', message = 'The image cannot be read', retryable = false } = failure ?? {};
    throw ebbError(code, message, { retryable });
  }
}
