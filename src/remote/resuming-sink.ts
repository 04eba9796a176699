/**
 * The sink of a read that may take several tries: knows what was delivered, and of which version.
 */
import { ebbError, toEbbError } from '../base/errors.ts';
import { describeSameContent } from './attributes.ts';
import type { ObjectAttributes, RangeSink, ReadOptions } from './remote.ts';

/** Where bytes go that were delivered already (whole files only). */
const discardBytes = 256 * 1024;

export class ResumingSink implements RangeSink {
  readonly #key: string;
  readonly #sink: RangeSink;
  readonly #options: ReadOptions;
  #head: ObjectAttributes | undefined;
  #deliveredBytes = 0;
  /** The sink's memory that no try has filled yet: the next try goes on with it. */
  #buffer: Uint8Array | undefined;
  #discard: Uint8Array | undefined;
  #skipBytes = 0;
  #wholeOnly = false;
  #pending: Promise<void> | undefined;
  #sinkFailure: { readonly error: unknown } | undefined;

  constructor(key: string, sink: RangeSink, options: ReadOptions) {
    this.#key = key;
    this.#sink = sink;
    this.#options = options;
  }

  /** Bytes passed to the real sink, over all tries. */
  get deliveredBytes(): number {
    return this.#deliveredBytes;
  }

  /** Set when the real sink threw: that ends the read. */
  get sinkFailure(): { readonly error: unknown } | undefined {
    return this.#sinkFailure;
  }

  /** Whether what comes next can be proved to belong to what was delivered. */
  get canResume(): boolean {
    return this.#deliveredBytes === 0 || this.#version !== undefined;
  }

  get #version(): string | undefined {
    return this.#options.version ?? this.#head?.version;
  }

  get #isWhole(): boolean {
    return this.#options.offsetBytes === 0 && this.#options.lengthBytes === undefined;
  }

  /**
   * Resolves when the real sink has taken what it was given last; the next try must not begin
   * before.
   */
  async idle(): Promise<void> {
    await this.#pending?.catch(() => {});
  }

  /** What to ask for in the next try; `done` when all was delivered although the try failed. */
  next(supportsRanges: boolean): ReadOptions | 'done' {
    const { offsetBytes, lengthBytes } = this.#options;
    const delivered = this.#deliveredBytes;
    const sizeBytes = this.#head?.sizeBytes;
    const wantedBytes =
      lengthBytes ?? (sizeBytes === undefined ? undefined : sizeBytes - offsetBytes);
    if (delivered > 0 && delivered === wantedBytes) return 'done';
    this.#wholeOnly ||= !supportsRanges && this.#isWhole;
    const common = { signal: this.#options.signal, version: this.#version };
    if (this.#wholeOnly) {
      this.#skipBytes = delivered;
      return { ...common, offsetBytes: 0, lengthBytes: undefined };
    }
    return {
      ...common,
      offsetBytes: offsetBytes + delivered,
      lengthBytes: lengthBytes === undefined ? undefined : lengthBytes - delivered,
    };
  }

  /**
   * True once: a try to go on failed because ranges of this file are ignored, and reading the whole
   * of it again can do it.
   */
  becameWholeOnly(error: unknown): boolean {
    if (this.#wholeOnly || !this.#isWhole || !this.canResume) return false;
    if (this.#deliveredBytes === 0 || toEbbError(error).code !== 'EOPNOTSUPP') return false;
    this.#wholeOnly = true;
    return true;
  }

  head(attributes: ObjectAttributes): void {
    if (this.#head === undefined) {
      this.#head = attributes;
      this.#guard(() => this.#sink.head(attributes));
      return;
    }
    const versions = [this.#head.version, attributes.version];
    const same =
      versions[0] === undefined
        ? describeSameContent(this.#head, attributes)
        : versions[0] === versions[1];
    if (!same) throw ebbError('ESTALE', `${this.#key} changed while it was being read.`);
  }

  buffer(): Uint8Array {
    if (this.#skipBytes > 0) {
      this.#discard ??= new Uint8Array(discardBytes);
      return this.#discard.subarray(0, Math.min(this.#skipBytes, discardBytes));
    }
    this.#buffer ??= this.#guard(() => this.#sink.buffer());
    return this.#buffer;
  }

  filled(countBytes: number): void | Promise<void> {
    if (this.#skipBytes > 0) {
      this.#skipBytes -= countBytes;
      return;
    }
    this.#buffer = undefined;
    this.#deliveredBytes += countBytes;
    const pending = this.#guard(() => this.#sink.filled(countBytes));
    if (pending === undefined) return;
    this.#pending = this.#watch(pending);
    return this.#pending;
  }

  async #watch(pending: Promise<void>): Promise<void> {
    try {
      await pending;
    } catch (error) {
      this.#sinkFailure ??= { error };
      throw error;
    }
  }

  #guard<T>(call: () => T): T {
    try {
      return call();
    } catch (error) {
      this.#sinkFailure ??= { error };
      throw error;
    }
  }
}
