/**
 * When main is to hear of what readers of one file were served from here, so that read-ahead goes on. Each report is a
 * message, and a turn of the main thread, which is what a cold read waits for. Pure.
 */
import { streamSlackBytes } from './stream-finder.ts';

/** While a reader has not gone on for so long, its window is small, and grows by what main hears. */
const settledBytes = 16 * 1024 * 1024;
const stepMinBytes = 1024 * 1024;
/** Main takes ranges that are farther apart for two readers. */
const stepMaxBytes = streamSlackBytes;
/** The window is filled up when half of it is left (recall/readahead.ts), and that must be heard of in time. */
const stepsPerWindow = 16;

/** How much is read between two reports by who goes on for long, where the window has up to `readAheadMaxBytes`. */
export function consumedStepBytes(readAheadMaxBytes: number): number {
  return Math.min(stepMaxBytes, Math.max(stepMinBytes, readAheadMaxBytes / stepsPerWindow));
}

export interface Consumed {
  readonly offsetBytes: number;
  readonly countBytes: number;
}

export class Consumption {
  readonly #stepBytes: number;
  /** Where what goes on without a gap began, or was reported last; and its end. */
  #startBytes = 0;
  #endBytes = 0;
  /** How long it has gone on. */
  #runBytes = 0;
  #unreportedBytes = 0;

  /** `stepBytes`: see `consumedStepBytes`. */
  constructor(stepBytes: number) {
    this.#stepBytes = stepBytes;
  }

  /** Somebody was served `[offsetBytes, offsetBytes + countBytes)`. Returns what to report now. */
  served(offsetBytes: number, countBytes: number): Consumed | undefined {
    if (Math.abs(offsetBytes - this.#endBytes) > streamSlackBytes) {
      this.#startBytes = offsetBytes;
      this.#runBytes = 0;
    }
    this.#startBytes = Math.min(this.#startBytes, offsetBytes);
    this.#endBytes = offsetBytes + countBytes;
    this.#runBytes += countBytes;
    this.#unreportedBytes += countBytes;
    const stepBytes = this.#runBytes > settledBytes ? this.#stepBytes : stepMinBytes;
    if (this.#unreportedBytes < stepBytes) return undefined;
    const consumed = {
      offsetBytes: this.#startBytes,
      countBytes: this.#endBytes - this.#startBytes,
    };
    this.#unreportedBytes = 0;
    this.#startBytes = this.#endBytes;
    return consumed;
  }
}
