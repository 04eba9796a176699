/** Remembers what the receiver of a read threw, so that it comes out as it is and is not taken for the server's. */
import type { ObjectAttributes, RangeSink } from '../remote.ts';

export class SinkGuard implements RangeSink {
  readonly #sink: RangeSink;
  #failure: { readonly error: unknown } | undefined;

  constructor(sink: RangeSink) {
    this.#sink = sink;
  }

  /** Throws what the sink threw, if it did. */
  rethrow(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  head(attributes: ObjectAttributes): void {
    try {
      this.#sink.head(attributes);
    } catch (error) {
      throw this.#remember(error);
    }
  }

  buffer(): Uint8Array {
    try {
      return this.#sink.buffer();
    } catch (error) {
      throw this.#remember(error);
    }
  }

  filled(countBytes: number): void | Promise<void> {
    try {
      const wait = this.#sink.filled(countBytes);
      if (wait === undefined) return undefined;
      return wait.catch((error: unknown) => {
        throw this.#remember(error);
      });
    } catch (error) {
      throw this.#remember(error);
    }
  }

  #remember(error: unknown): unknown {
    this.#failure = { error };
    return error;
  }
}
