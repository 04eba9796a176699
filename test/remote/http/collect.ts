/** Small helpers of the HTTP remote's tests: collect listings and bytes, wait for errors. */
import type {
  ListedObject,
  ObjectAttributes,
  RangeSink,
  Remote,
  SkippedName,
} from '../../../src/remote/remote.ts';

export const never = new AbortController().signal;

export interface Collected {
  readonly objects: readonly ListedObject[];
  readonly skipped: readonly SkippedName[];
}

/** The whole listing of a directory. */
export async function listAll(remote: Remote, key: string, signal = never): Promise<Collected> {
  const objects: ListedObject[] = [];
  const skipped: SkippedName[] = [];
  for await (const batch of remote.list(key, { signal })) {
    objects.push(...batch.objects);
    skipped.push(...batch.skipped);
  }
  return { objects, skipped };
}

/** Memory that keeps what it is given; `pauseMs` makes every `filled` wait. */
export class MemorySink implements RangeSink {
  readonly heads: ObjectAttributes[] = [];
  readonly #pieceBytes: number;
  readonly #pauseMs: number | undefined;
  readonly #pieces: Uint8Array[] = [];
  #memory: Uint8Array;
  receivedBytes = 0;
  /** True between `buffer` and `filled` being awaited: nobody may write then. */
  #busy = false;

  constructor(options: { pieceBytes?: number; pauseMs?: number } = {}) {
    this.#pieceBytes = options.pieceBytes ?? 100_000;
    this.#pauseMs = options.pauseMs;
    this.#memory = new Uint8Array(this.#pieceBytes);
  }

  head(attributes: ObjectAttributes): void {
    this.heads.push(attributes);
  }

  buffer(): Uint8Array {
    if (this.#busy) throw new Error('buffer() before the last filled() was awaited');
    return this.#memory;
  }

  filled(countBytes: number): void | Promise<void> {
    if (this.heads.length !== 1) throw new Error(`filled() after ${this.heads.length} heads`);
    if (!(countBytes > 0 && countBytes <= this.#memory.length)) throw new Error('wrong count');
    this.#pieces.push(this.#memory.slice(0, countBytes));
    this.receivedBytes += countBytes;
    if (this.#pauseMs === undefined) return undefined;
    this.#busy = true;
    return new Promise((resolve) => {
      setTimeout(() => {
        this.#busy = false;
        resolve();
      }, this.#pauseMs);
    });
  }

  bytes(): Uint8Array {
    return Buffer.concat(this.#pieces);
  }
}

export interface ReadWhat {
  readonly offsetBytes?: number;
  readonly lengthBytes?: number;
  readonly version?: string;
  readonly signal?: AbortSignal;
}

/** Reads a range into memory; gives the sink. */
export async function readInto(
  remote: Remote,
  key: string,
  what: ReadWhat = {},
  sink = new MemorySink(),
): Promise<MemorySink> {
  await remote.read(key, sink, {
    offsetBytes: what.offsetBytes ?? 0,
    lengthBytes: what.lengthBytes,
    version: what.version,
    signal: what.signal ?? never,
  });
  return sink;
}
