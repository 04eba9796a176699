/**
 * The contract between the tree (local content) and the rest: one local file per content, addressed by id.
 * Implementation: content-store.ts. All of it lives in the daemon's main thread; the residency bitmap's memory
 * is shared with the front end's thread.
 */
import type { Residency } from './residency.ts';

export interface ContentFile {
  readonly id: number;
  readonly key: string;
  readonly version: string;
  readonly sizeBytes: number;
  /** Which chunks are here (in memory; may be ahead of the durable record, never behind the bytes: I2). */
  readonly residency: Residency;
  /**
   * Writes verified bytes of this version. Resolves when they are in the page cache of the local file; the
   * caller then marks chunks resident. Rejects with ENOSPC/EDQUOT/EFBIG/EIO, or ESTALE when the content was
   * deleted meanwhile (EbbError).
   */
  write(bytes: Uint8Array, offsetBytes: number): Promise<void>;
  /**
   * As `write`, in the calling thread, where that waits for nobody and nothing else is being written. False: nothing
   * was written, `write` will do it or say why not. Throws as it. Absent: never.
   */
  tryWrite?(bytes: Uint8Array, offsetBytes: number): boolean;
  /** How often the disk did not take what had been written. Whoever writes remembers it from before the first write. */
  readonly losses: number;
  /**
   * Marks whole chunks resident in memory and queues them for the durable record (data sync, then commit).
   * `lossesBefore`: `losses` from before the first byte of them was written. Throws EIO (retryable) when there were
   * more since, for nobody knows which bytes are gone; ESTALE when the content was deleted meanwhile.
   */
  markResident(firstChunk: number, chunkCount: number, lossesBefore: number): void;
  /**
   * Reads resident bytes into `into` (synchronous pread; for daemon-side use such as `verify`). The caller has
   * checked residency. Returns the count.
   */
  readSync(into: Uint8Array, offsetBytes: number): number;
}
