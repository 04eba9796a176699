/**
 * How a thread that reads synchronously gets bytes from one that fetches them: a question by message, then it sleeps on
 * shared memory until the answer is there. One question at a time.
 */
import type { ErrnoCode } from '../../base/errno.ts';

/** The largest answer; larger reads are several questions. */
export const answerMaxBytes = 1024 * 1024;

export const ChannelState = { asked: 0, answered: 1, failed: 2 } as const;

/** Handed to the reading thread when it starts. */
export interface ChannelMemory {
  /** One Int32: a `ChannelState`. */
  readonly state: SharedArrayBuffer;
  /** `answerMaxBytes`. */
  readonly data: SharedArrayBuffer;
  readonly sizeBytes: number;
}

export type ChannelQuestion =
  | { readonly kind: 'read'; readonly offsetBytes: number; readonly sizeBytes: number }
  | {
      readonly kind: 'prefetch';
      readonly ranges: readonly { readonly offsetBytes: number; readonly sizeBytes: number }[];
    };

/** Sent before the state becomes `failed`. */
export interface ChannelFailure {
  readonly code: ErrnoCode;
  readonly message: string;
  readonly retryable: boolean;
}

export function newChannelMemory(sizeBytes: number): ChannelMemory {
  return {
    state: new SharedArrayBuffer(4),
    data: new SharedArrayBuffer(answerMaxBytes),
    sizeBytes,
  };
}
