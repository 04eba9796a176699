/** A body that must have exactly as many bytes as were asked for, on its way into the sink. */
import { ebbError } from '../../base/errors.ts';
import type { RangeSink } from '../remote.ts';
import type { BodyTarget } from './transport.ts';

export class ExactTarget implements BodyTarget {
  readonly #sink: RangeSink;
  readonly #expectedBytes: number | undefined;
  readonly #mayStopEarly: boolean;
  readonly #what: string;
  #receivedBytes = 0;
  #overflow: Uint8Array | undefined;
  #isSatisfied = false;

  /** `expectedBytes` undefined: any length. `mayStopEarly`: more than that may come and is not wanted. */
  constructor(
    sink: RangeSink,
    expectedBytes: number | undefined,
    mayStopEarly: boolean,
    what: string,
  ) {
    this.#sink = sink;
    this.#expectedBytes = expectedBytes;
    this.#mayStopEarly = mayStopEarly;
    this.#what = what;
  }

  /** All bytes that were asked for are in the sink, and their last `filled` was awaited. */
  get isSatisfied(): boolean {
    return this.#isSatisfied;
  }

  buffer(): Uint8Array {
    if (this.#expectedBytes === undefined) return this.#sink.buffer();
    const leftBytes = this.#expectedBytes - this.#receivedBytes;
    if (leftBytes <= 0) {
      // The byte too many lands here, never in the sink.
      this.#overflow ??= new Uint8Array(1);
      return this.#overflow;
    }
    const memory = this.#sink.buffer();
    return memory.length > leftBytes ? memory.subarray(0, leftBytes) : memory;
  }

  filled(countBytes: number): void | Promise<void> {
    if (this.#overflow !== undefined) throw this.#wrongLength('more');
    const wait = this.#sink.filled(countBytes);
    this.#receivedBytes += countBytes;
    if (!this.#mayStopEarly || this.#receivedBytes !== this.#expectedBytes) return wait;
    if (wait === undefined) return this.#stop();
    return wait.then(() => this.#stop());
  }

  /** Ends the request: the caller sees `isSatisfied` and takes it for success. */
  #stop(): never {
    this.#isSatisfied = true;
    throw enough;
  }

  /** The body has ended. Throws EIO when bytes are missing. */
  end(): void {
    if (this.#expectedBytes !== undefined && this.#receivedBytes < this.#expectedBytes) {
      throw this.#wrongLength('fewer');
    }
  }

  #wrongLength(which: 'more' | 'fewer'): Error {
    const message = `${this.#what} came with ${which} bytes than the ${this.#expectedBytes} promised.`;
    return ebbError('EIO', message, { retryable: true });
  }
}

const enough = new Error('All bytes that were asked for have come.');
