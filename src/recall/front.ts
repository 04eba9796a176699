/**
 * The first bytes that somebody waits for, in the turn in which they are asked for, where the remote has them ready
 * (`Remote.readReady`) and the local file can take them without waiting. Nothing of a recall is begun for them: no
 * flight, no waiter, and no claim. Their chunk follows in the ordinary way.
 */
import { toEbbError } from '../base/errors.ts';
import type { Remote } from '../remote/remote.ts';
import type { ContentFile } from '../tree/content.ts';
import type { RecallLimits } from './limits.ts';
import type { Reserve } from './recall.ts';

/** Half of the usual chunk: who needs more gets chunks. */
const frontMaxBytes = 128 * 1024;

/**
 * How much of a part of a chunk comes first for who needs `neededBytes` of it: a multiple of `frontBytes`; undefined:
 * no less than all of it. Writing twice instead of once has to be worth it.
 */
export function frontOf(
  neededBytes: number,
  lengthBytes: number,
  chunkBytes: number,
  { frontBytes }: Pick<RecallLimits, 'frontBytes'>,
): number | undefined {
  const front = Math.ceil(neededBytes / frontBytes) * frontBytes;
  return front <= chunkBytes / 2 && front < lengthBytes ? front : undefined;
}

export interface FrontOptions {
  readonly remote: Pick<Remote, 'readReady'>;
  readonly limits: Pick<RecallLimits, 'frontBytes'>;
  readonly reserve: Reserve;
}

export class Front {
  readonly #options: FrontOptions;
  readonly #bytes = new Uint8Array(frontMaxBytes);

  constructor(options: FrontOptions) {
    this.#options = options;
  }

  /**
   * True: the range is in the file, as `EnsureOptions.onBytes` says it. False: not this way. A promise, which never
   * rejects: to be asked again when it has settled. Throws what makes every write to this file fail.
   */
  bring(file: ContentFile, offsetBytes: number, lengthBytes: number): boolean | Promise<void> {
    const { remote, limits, reserve } = this.#options;
    const { residency } = file;
    const chunks = residency.chunksOf(offsetBytes, lengthBytes);
    if (chunks.count !== 1 || residency.hasChunk(chunks.first)) return false;
    const chunk = residency.bytesOf(chunks);
    const neededBytes = Math.min(offsetBytes + lengthBytes, file.sizeBytes) - chunk.offsetBytes;
    const front = frontOf(neededBytes, chunk.lengthBytes, residency.chunkBytes, limits);
    if (front === undefined || front > frontMaxBytes) return false;
    if (file.tryWrite === undefined) return false;
    const into = this.#bytes.subarray(0, front);
    const isRead = remote.readReady?.(file.key, file.version, into, chunk.offsetBytes) ?? false;
    if (isRead !== true) return isRead;
    try {
      const reserved = reserve(front, 'demand');
      if (reserved !== undefined) {
        // The recall that follows waits for it, and hears what becomes of it.
        reserved.catch(() => undefined);
        return false;
      }
      return file.tryWrite(into, chunk.offsetBytes);
    } catch (error) {
      // Room can be made for who waits.
      if (['ENOSPC', 'EDQUOT'].includes(toEbbError(error).code)) return false;
      throw error;
    }
  }
}
