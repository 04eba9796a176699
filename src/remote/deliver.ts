/**
 * What every remote that can read at an offset does alike: check the asked range against the size,
 * fill the sink's buffers in order, never promise a byte before it was verified, stop when asked
 * to.
 */
import { ebbError } from '../base/errors.ts';
import type { RangeSink, ReadOptions } from './remote.ts';

export interface ByteSource {
  /** Fills the start of `into` from `offsetBytes`; gives the count, 0 at the end of the file. */
  readAt(into: Uint8Array, offsetBytes: number): number | Promise<number>;
  /** Throws (ESTALE) unless all that was read so far is of the version that `head` announced. */
  verify(): void | Promise<void>;
}

/**
 * Where the range ends. Throws EINVAL for a range that is none, and EIO (not retryable) for one
 * that reaches beyond the end: the promise to deliver exactly these bytes cannot be kept.
 */
export function rangeEnd(
  key: string,
  sizeBytes: number,
  range: Pick<ReadOptions, 'offsetBytes' | 'lengthBytes'>,
): number {
  const { offsetBytes } = range;
  const endBytes = offsetBytes + (range.lengthBytes ?? Math.max(0, sizeBytes - offsetBytes));
  if (!Number.isSafeInteger(offsetBytes) || offsetBytes < 0 || !(endBytes >= offsetBytes)) {
    throw ebbError('EINVAL', `${offsetBytes}+${range.lengthBytes} is not a range of bytes.`);
  }
  if (endBytes > sizeBytes) {
    throw ebbError(
      'EIO',
      `${key} has ${sizeBytes} bytes: it cannot be read up to byte ${endBytes}.`,
      { retryable: false },
    );
  }
  return endBytes;
}

/**
 * Delivers `[offsetBytes, endBytes)`. Memory of the sink is written only between `buffer` and
 * `filled` and never after this settled: an aborted call waits for the read under way, then rejects
 * with the reason.
 */
export async function deliver(
  source: ByteSource,
  sink: RangeSink,
  range: { readonly key: string; readonly offsetBytes: number; readonly endBytes: number },
  signal: AbortSignal,
): Promise<void> {
  let offsetBytes = range.offsetBytes;
  while (offsetBytes < range.endBytes) {
    signal.throwIfAborted();
    const whole = sink.buffer();
    const leftBytes = range.endBytes - offsetBytes;
    const into = whole.length > leftBytes ? whole.subarray(0, leftBytes) : whole;
    const countBytes = await source.readAt(into, offsetBytes);
    await source.verify();
    signal.throwIfAborted();
    if (countBytes === 0) {
      throw ebbError('EIO', `${range.key} ended at byte ${offsetBytes} of ${range.endBytes}.`, {
        retryable: true,
      });
    }
    await sink.filled(countBytes);
    offsetBytes += countBytes;
  }
  signal.throwIfAborted();
}
