/**
 * How fast the remote is, measured, and how large a request should therefore be. Pure.
 *
 * A request should last long enough that the remote's latency hardly counts, and not so long that a reader who
 * follows the front of one request waits while the others fill the line. A fixed size cannot be right for both
 * a disk in the next rack and a server behind a modem.
 */

export interface PaceLimits {
  readonly rangeMinBytes: number;
  readonly rangeMaxBytes: number;
}

/** One finished request. */
export interface PaceSample {
  /** From the request to its first byte. */
  readonly firstByteMs: number;
  /** From the first to the last byte. */
  readonly bodyMs: number;
  readonly bodyBytes: number;
}

/** How long the body of one request should take. */
const bodyTargetMs = 300;
/** The body should take this many times as long as the wait for it. */
const bodyPerLatency = 4;
/** Bodies below this say nothing of the rate: they arrive with the first packet. */
const rateSampleMinBytes = 256 * 1024;
const newSampleWeight = 0.25;

export class Pace {
  readonly #limits: PaceLimits;
  #firstByteMs: number | undefined;
  #bytesPerMs: number | undefined;

  constructor(limits: PaceLimits) {
    this.#limits = limits;
  }

  /** Smoothed time to the first byte; undefined before the first sample. */
  get firstByteMs(): number | undefined {
    return this.#firstByteMs;
  }

  /** Smoothed rate of one request; undefined before the first sample. 1 byte/ms = 1 kB/s. */
  get bytesPerMs(): number | undefined {
    return this.#bytesPerMs;
  }

  record(sample: PaceSample): void {
    this.#firstByteMs = smoothed(this.#firstByteMs, sample.firstByteMs);
    if (sample.bodyBytes < rateSampleMinBytes) return;
    this.#bytesPerMs = smoothed(this.#bytesPerMs, sample.bodyBytes / Math.max(0.01, sample.bodyMs));
  }

  /** The size of one request of a longer run: rangeMinBytes .. rangeMaxBytes. */
  pieceBytes(): number {
    const { rangeMinBytes, rangeMaxBytes } = this.#limits;
    if (this.#bytesPerMs === undefined) return rangeMinBytes;
    const bodyMs = Math.max(bodyTargetMs, bodyPerLatency * (this.#firstByteMs ?? 0));
    return Math.min(rangeMaxBytes, Math.max(rangeMinBytes, this.#bytesPerMs * bodyMs));
  }
}

function smoothed(before: number | undefined, sample: number): number {
  return before === undefined ? sample : before + (sample - before) * newSampleWeight;
}
