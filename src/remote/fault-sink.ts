/** The part of fault injection that stands in the stream of bytes. */
import type { ObjectAttributes, RangeSink } from './remote.ts';

/**
 * Breaches of the contract; each must be noticed further out, except `flippedByte`, which only a
 * checksum can see.
 */
export type EvilFault =
  /** Claims success after this many bytes. */
  | { readonly kind: 'endsEarly'; readonly after: number }
  /** Goes on with this many bytes that nobody asked for. */
  | { readonly kind: 'sendsMore'; readonly countBytes: number }
  | { readonly kind: 'noHead' }
  | { readonly kind: 'headTwice' }
  | { readonly kind: 'headLate' }
  | { readonly kind: 'wrongVersion' }
  | { readonly kind: 'noVersion' }
  /** Says a size that is this much larger (or smaller). */
  | { readonly kind: 'wrongSize'; readonly byBytes: number }
  /** Says that it filled more than the buffer holds. */
  | { readonly kind: 'overfills' }
  /** Does not wait for `filled`. */
  | { readonly kind: 'ignoresBackpressure' }
  /** Keeps the sink and writes into it after the read has ended. */
  | { readonly kind: 'goesOnAfterEnd' }
  /** Swallows what the sink throws, and claims success. */
  | { readonly kind: 'swallowsErrors' }
  /** One wrong bit in the byte at this place of the read. */
  | { readonly kind: 'flippedByte'; readonly at: number };

const evilKinds: ReadonlySet<string> = new Set<EvilFault['kind']>([
  'endsEarly',
  'sendsMore',
  'noHead',
  'headTwice',
  'headLate',
  'wrongVersion',
  'noVersion',
  'wrongSize',
  'overfills',
  'ignoresBackpressure',
  'goesOnAfterEnd',
  'swallowsErrors',
  'flippedByte',
]);

export function isEvil(fault: { readonly kind: string }): fault is EvilFault {
  return evilKinds.has(fault.kind);
}

/** Thrown to stop the inner remote; never seen outside. */
class StopSignal extends Error {
  override readonly name = 'StopSignal';
}

export class FaultySink {
  readonly #sink: RangeSink;
  readonly #evil: EvilFault | undefined;
  /** Ordinary faults strike here. */
  readonly #strikeAtBytes: number;
  readonly #strike: () => Promise<void>;
  #passedBytes = 0;
  #buffer: Uint8Array = new Uint8Array();
  #head: ObjectAttributes | undefined;

  constructor(
    sink: RangeSink,
    evil: EvilFault | undefined,
    strikeAtBytes: number,
    strike: () => Promise<void>,
  ) {
    this.#sink = sink;
    this.#evil = evil;
    this.#strikeAtBytes = strikeAtBytes;
    this.#strike = strike;
  }

  async run(read: (between: RangeSink) => Promise<void>): Promise<void> {
    try {
      await read({
        head: (attributes) => this.#onHead(attributes),
        buffer: () => this.#onBuffer(),
        filled: (countBytes) => this.#onFilled(countBytes),
      });
    } catch (error) {
      if (error instanceof StopSignal) return;
      if (this.#evil?.kind !== 'swallowsErrors') throw error;
    }
    await this.#afterwards();
  }

  #limitBytes(): number {
    return this.#evil?.kind === 'endsEarly' ? this.#evil.after : this.#strikeAtBytes;
  }

  #onHead(attributes: ObjectAttributes): void {
    this.#head = attributes;
    const evil = this.#evil;
    if (evil?.kind === 'noHead' || evil?.kind === 'headLate') return;
    this.#sink.head(falsified(attributes, evil));
    if (evil?.kind === 'headTwice') this.#sink.head(attributes);
  }

  /** Cut so that a fault strikes at exactly its byte. */
  #onBuffer(): Uint8Array {
    const whole = this.#sink.buffer();
    const leftBytes = Math.max(1, this.#limitBytes() - this.#passedBytes);
    this.#buffer = whole.length > leftBytes ? whole.subarray(0, leftBytes) : whole;
    return this.#buffer;
  }

  async #onFilled(countBytes: number): Promise<void> {
    const evil = this.#evil;
    if (evil?.kind === 'flippedByte') this.#flip(evil.at - this.#passedBytes, countBytes);
    const told = evil?.kind === 'overfills' ? this.#buffer.length + 1 : countBytes;
    const pending = this.#sink.filled(told);
    if (evil?.kind === 'ignoresBackpressure') void Promise.resolve(pending).catch(() => {});
    else await pending;
    this.#passedBytes += countBytes;
    if (evil?.kind === 'headLate' && this.#head !== undefined) this.#sink.head(this.#head);
    if (this.#passedBytes < this.#limitBytes()) return;
    if (evil?.kind === 'endsEarly') throw new StopSignal();
    await this.#strike();
  }

  #flip(at: number, countBytes: number): void {
    if (at >= 0 && at < countBytes) this.#buffer[at] = (this.#buffer[at] ?? 0) ^ 0x10;
  }

  async #afterwards(): Promise<void> {
    if (this.#evil?.kind === 'sendsMore') {
      let leftBytes = this.#evil.countBytes;
      while (leftBytes > 0) {
        const into = this.#sink.buffer();
        const countBytes = Math.min(leftBytes, into.length);
        into.fill(0x58, 0, countBytes);
        await this.#sink.filled(countBytes);
        leftBytes -= countBytes;
      }
    }
    if (this.#evil?.kind === 'goesOnAfterEnd') {
      setImmediate(() => {
        try {
          this.#sink.buffer().fill(0x58);
          void Promise.resolve(this.#sink.filled(1)).catch(() => {});
        } catch {
          // Refused, as it should be.
        }
      });
    }
  }
}

function falsified(attributes: ObjectAttributes, evil: EvilFault | undefined): ObjectAttributes {
  switch (evil?.kind) {
    case 'wrongVersion':
      return { ...attributes, version: `${attributes.version}-not` };
    case 'noVersion':
      return { ...attributes, version: undefined };
    case 'wrongSize':
      return { ...attributes, sizeBytes: (attributes.sizeBytes ?? 0) + evil.byBytes };
    default:
      return attributes;
  }
}
