/** Sinks and collectors for tests of remotes. */
import assert from 'node:assert/strict';
import { EbbError } from '../../src/base/errors.ts';
import type { ErrnoCode } from '../../src/base/errno.ts';
import type {
  ListedObject,
  ObjectAttributes,
  RangeSink,
  ReadOptions,
  Remote,
  SkippedName,
} from '../../src/remote/remote.ts';

export interface CollectOptions {
  /** Size of the memory handed out, per call. Default 64 KiB each. */
  readonly bufferBytes?: (call: number) => number;
  /** Called with what `filled` was told; may wait or throw. */
  readonly onFilled?: (countBytes: number, totalBytes: number) => void | Promise<void>;
  readonly onHead?: (attributes: ObjectAttributes) => void;
}

/** Keeps what a remote delivers and fails when it breaks the rules of RangeSink. */
export class CollectingSink implements RangeSink {
  readonly #options: CollectOptions;
  readonly #parts: Buffer[] = [];
  #current: Uint8Array | undefined;
  #waiting = false;
  #calls = 0;
  heads: ObjectAttributes[] = [];
  totalBytes = 0;
  /** Set when the read has settled: nothing may come afterwards. */
  ended = false;

  constructor(options: CollectOptions = {}) {
    this.#options = options;
  }

  head(attributes: ObjectAttributes): void {
    assert.equal(this.ended, false, 'head after the end');
    assert.equal(this.heads.length, 0, 'head is called once');
    assert.equal(this.totalBytes, 0, 'head comes before the first byte');
    this.heads.push(attributes);
    this.#options.onHead?.(attributes);
  }

  buffer(): Uint8Array {
    assert.equal(this.ended, false, 'buffer after the end');
    assert.equal(this.#waiting, false, 'buffer while filled waits');
    this.#current = Buffer.alloc(this.#options.bufferBytes?.(this.#calls) ?? 65_536, 0xee);
    this.#calls += 1;
    return this.#current;
  }

  async filled(countBytes: number): Promise<void> {
    assert.equal(this.ended, false, 'filled after the end');
    assert.equal(this.heads.length, 1, 'head before the first byte');
    assert.ok(this.#current !== undefined, 'filled without buffer');
    assert.ok(Number.isInteger(countBytes) && countBytes > 0, 'filled with a count');
    assert.ok(countBytes <= this.#current.length, 'filled within the buffer');
    this.#parts.push(Buffer.from(this.#current.subarray(0, countBytes)));
    this.#current = undefined;
    this.totalBytes += countBytes;
    this.#waiting = true;
    try {
      await this.#options.onFilled?.(countBytes, this.totalBytes);
    } finally {
      this.#waiting = false;
    }
  }

  bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

export const noSignal: AbortSignal = new AbortController().signal;

export interface Collected {
  readonly bytes: Buffer;
  readonly head: ObjectAttributes | undefined;
}

/** Reads into memory; the rules of the sink are checked. */
export async function readAll(
  remote: Remote,
  key: string,
  range: Partial<ReadOptions> = {},
  sink = new CollectingSink(),
): Promise<Collected> {
  try {
    await remote.read(key, sink, {
      offsetBytes: 0,
      lengthBytes: undefined,
      version: undefined,
      signal: noSignal,
      ...range,
    });
  } finally {
    sink.ended = true;
  }
  return { bytes: sink.bytes(), head: sink.heads[0] };
}

export interface CollectedListing {
  readonly objects: ReadonlyMap<string, ListedObject>;
  readonly skipped: readonly SkippedName[];
}

/** Lists to the end; no name may come twice. */
export async function listAll(
  remote: Remote,
  key: string,
  signal: AbortSignal = noSignal,
): Promise<CollectedListing> {
  const objects = new Map<string, ListedObject>();
  const skipped: SkippedName[] = [];
  for await (const batch of remote.list(key, { signal })) {
    for (const object of batch.objects) {
      assert.ok(!objects.has(object.name), `${object.name} was listed twice`);
      objects.set(object.name, object);
    }
    skipped.push(...batch.skipped);
  }
  return { objects, skipped };
}

/** Names in a stable order. */
export function sortedNames(listing: CollectedListing): string[] {
  return [...listing.objects.keys()].toSorted();
}

/** Fails unless `work` rejects with an EbbError of one of these codes; gives the error. */
export async function rejectsWith(
  work: Promise<unknown>,
  ...codes: ErrnoCode[]
): Promise<EbbError> {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof EbbError) || !codes.includes(error.code)) {
      throw new assert.AssertionError({
        message: `expected ${codes.join(' or ')}, got ${String(error)}`,
        actual: error,
      });
    }
    return error;
  }
  throw new assert.AssertionError({ message: `expected ${codes.join(' or ')}, but it worked` });
}

/** Fails unless `work` rejects with exactly this value. */
export async function rejectsWithReason(work: Promise<unknown>, reason: unknown): Promise<void> {
  let got: unknown;
  try {
    await work;
  } catch (error) {
    got = error;
  }
  assert.equal(got, reason, 'rejects with the given reason');
}
