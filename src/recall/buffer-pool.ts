/**
 * Receive buffers: a bounded number, used again. Remotes write straight into them and they are written to the
 * local file as they are, so that content is never copied in this process.
 */
import { assert } from '../base/assert.ts';

export class BufferPool {
  readonly bufferBytes: number;
  readonly buffersMax: number;
  readonly #idle: Uint8Array<ArrayBuffer>[] = [];
  readonly #waiting: ((buffer: Uint8Array<ArrayBuffer>) => void)[] = [];
  #taken = 0;
  /** The fewest that were idle at one time since `trimUnused` looked last: so many were not needed. */
  #unused = 0;

  /** `poolMaxBytes` is rounded down to whole buffers, but never below `buffersMin`. */
  constructor(bufferBytes: number, poolMaxBytes: number, buffersMin: number) {
    assert(bufferBytes > 0 && buffersMin > 0, 'a buffer pool holds buffers');
    this.bufferBytes = bufferBytes;
    this.buffersMax = Math.max(buffersMin, Math.floor(poolMaxBytes / bufferBytes));
  }

  /** Buffers handed out. */
  get taken(): number {
    return this.#taken;
  }

  /** Buffers that are kept and not handed out. */
  get idle(): number {
    return this.#idle.length;
  }

  /** Memory held, handed out or idle. */
  get heldBytes(): number {
    return (this.#taken + this.#idle.length) * this.bufferBytes;
  }

  /** A buffer, or undefined when all are taken. Its old content is still in it. */
  tryTake(): Uint8Array<ArrayBuffer> | undefined {
    if (this.#taken >= this.buffersMax || this.#waiting.length > 0) return undefined;
    this.#taken += 1;
    const buffer = this.#idle.pop() ?? Buffer.allocUnsafeSlow(this.bufferBytes);
    this.#unused = Math.min(this.#unused, this.#idle.length);
    return buffer;
  }

  /** A buffer, in order of asking. Always comes as long as every holder gives or discards its own. */
  take(): Promise<Uint8Array<ArrayBuffer>> {
    const buffer = this.tryTake();
    if (buffer !== undefined) return Promise.resolve(buffer);
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }

  /** Takes a buffer back: nobody writes into it any more. */
  give(buffer: Uint8Array<ArrayBuffer>): void {
    assert(buffer.length === this.bufferBytes, 'a buffer comes back whole');
    const next = this.#waiting.shift();
    if (next !== undefined) {
      next(buffer);
      return;
    }
    this.#taken -= 1;
    this.#idle.push(buffer);
  }

  /**
   * The holder is done but somebody else may still write into the buffer (a remote that was stopped in the
   * middle): it is never used again.
   */
  discard(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#taken -= 1;
    else next(Buffer.allocUnsafeSlow(this.bufferBytes));
  }

  /**
   * Gives back to the system, now and not when it is collected as garbage, what nobody has needed since the last call;
   * so many idle buffers stay. The ones used last are taken first, so those that go are the oldest.
   */
  trimUnused(idleMin: number): void {
    const count = Math.min(this.#unused, this.#idle.length - idleMin);
    if (count > 0) for (const { buffer } of this.#idle.splice(0, count)) buffer.transfer(0);
    this.#unused = this.#idle.length;
  }
}
