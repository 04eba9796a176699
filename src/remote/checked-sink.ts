/**
 * The sink that stands between a remote and the real one: a small state machine that lets through
 * only what the contract allows, and remembers the first reason not to.
 */
import { ebbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import { attributesProblem } from './attributes.ts';
import type { ObjectAttributes, RangeSink, ReadOptions } from './remote.ts';

/** Where a remote may look whether more comes than was asked for. */
const overrunBytes = 16 * 1024;

export class CheckedSink implements RangeSink {
  readonly #key: string;
  readonly #sink: RangeSink;
  readonly #options: ReadOptions;
  /** Bytes that must come in all; undefined while the size is not known. */
  #expectedBytes: number | undefined;
  #passedBytes = 0;
  #headSeen = false;
  #buffer: Uint8Array | undefined;
  #bufferIsOverrun = false;
  #waiting = false;
  #ended = false;
  #failure: { readonly error: unknown } | undefined;

  constructor(key: string, sink: RangeSink, options: ReadOptions) {
    this.#key = key;
    this.#sink = sink;
    this.#options = options;
    this.#expectedBytes = options.lengthBytes;
  }

  /**
   * The first thing that went wrong: what the real sink threw, or what the remote did against the
   * contract.
   */
  get failure(): unknown {
    return this.#failure?.error;
  }

  head(attributes: ObjectAttributes): void {
    this.#proceed('head');
    if (this.#headSeen) throw this.#broken('announced its content twice');
    this.#headSeen = true;
    const problem = attributesProblem(attributes);
    if (problem !== undefined) throw this.#broken(`announced ${problem}`);
    if (attributes.kind !== 'file') throw this.#broken(`announced a ${attributes.kind}`);
    this.#checkVersion(attributes.version);
    this.#checkSize(attributes.sizeBytes);
    this.#forward(() => this.#sink.head(attributes));
  }

  buffer(): Uint8Array {
    this.#proceed('buffer');
    if (!this.#headSeen) throw this.#broken('sent content before announcing it');
    if (this.#buffer !== undefined) return this.#buffer;
    const leftBytes = (this.#expectedBytes ?? Infinity) - this.#passedBytes;
    this.#bufferIsOverrun = leftBytes === 0;
    if (this.#bufferIsOverrun) {
      this.#buffer = new Uint8Array(overrunBytes);
    } else {
      const whole = this.#forward(() => this.#sink.buffer());
      this.#buffer = whole.length > leftBytes ? whole.subarray(0, leftBytes) : whole;
    }
    return this.#buffer;
  }

  filled(countBytes: number): void | Promise<void> {
    this.#proceed('filled');
    const buffer = this.#buffer;
    this.#buffer = undefined;
    if (buffer === undefined) throw this.#broken('filled memory that it was not given');
    if (!Number.isSafeInteger(countBytes) || countBytes <= 0 || countBytes > buffer.length) {
      throw this.#broken(`filled ${countBytes} of ${buffer.length} bytes`);
    }
    if (this.#bufferIsOverrun) throw this.#broken('sent more than was asked for');
    this.#passedBytes += countBytes;
    const pending = this.#forward(() => this.#sink.filled(countBytes));
    if (pending === undefined) return;
    this.#waiting = true;
    return this.#settled(pending);
  }

  /** Why a read that claims success is none; undefined when all has come. */
  shortfall(): EbbError | undefined {
    if (this.#waiting) return this.#broken('ended before its last bytes were taken');
    if (this.#expectedBytes === 0) return undefined;
    if (!this.#headSeen) return this.#broken('announced nothing');
    if (this.#expectedBytes !== undefined && this.#passedBytes !== this.#expectedBytes) {
      return this.#broken(`sent ${this.#passedBytes} of ${this.#expectedBytes} bytes`);
    }
    return undefined;
  }

  /** The read has settled: whatever comes now is refused. */
  end(): void {
    this.#ended = true;
  }

  async #settled(pending: Promise<void>): Promise<void> {
    try {
      await pending;
    } catch (error) {
      this.#failure ??= { error };
      throw error;
    } finally {
      this.#waiting = false;
    }
  }

  #checkVersion(version: string | undefined): void {
    const asked = this.#options.version;
    if (asked === undefined || asked === version) return;
    throw this.#fail(
      version === undefined
        ? this.#error('EIO', 'did not say which version it sends')
        : this.#error('ESTALE', 'holds another version than the one that was asked for'),
    );
  }

  #checkSize(sizeBytes: number | undefined): void {
    if (sizeBytes === undefined) return;
    const { offsetBytes, lengthBytes } = this.#options;
    this.#expectedBytes ??= Math.max(0, sizeBytes - offsetBytes);
    if (offsetBytes + (lengthBytes ?? 0) <= sizeBytes) return;
    throw this.#fail(
      ebbError('EIO', `${this.#key} has ${sizeBytes} bytes: what was asked for is beyond them.`, {
        retryable: false,
      }),
    );
  }

  /** Nothing more after a failure or the end; nothing while the sink is still busy. */
  #proceed(call: string): void {
    if (this.#failure !== undefined) throw this.#failure.error;
    if (this.#ended) throw this.#broken(`went on (${call}) after its read had ended`);
    if (this.#waiting) throw this.#broken(`went on (${call}) while its bytes were being taken`);
  }

  #forward<T>(call: () => T): T {
    try {
      return call();
    } catch (error) {
      this.#failure ??= { error };
      throw error;
    }
  }

  #broken(what: string): EbbError {
    return this.#fail(this.#error('EIO', what));
  }

  #fail(error: EbbError): EbbError {
    this.#failure ??= { error };
    return error;
  }

  #error(code: 'EIO' | 'ESTALE', what: string): EbbError {
    return ebbError(code, `The remote ${what} (${this.#key}).`, { retryable: code === 'EIO' });
  }
}
