/** What the tests of the recall engine share: a local file, a remote that can be held, and shorthands. */
import {
  closeSync,
  fdatasyncSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  write,
  writeSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { ebbError } from '../../src/base/errors.ts';
import type { EbbError } from '../../src/base/errors.ts';
import type { EnsureOptions, Intent, Requester } from '../../src/recall/recall.ts';
import type {
  ListingBatch,
  ObjectAttributes,
  RangeSink,
  ReadOptions,
  Remote,
} from '../../src/remote/remote.ts';
import type { ContentFile } from '../../src/tree/content.ts';
import { Residency } from '../../src/tree/residency.ts';
import { fillPattern, patternBytes } from '../support/pattern.ts';

const writeAsync = promisify(write);

export const KiB = 1024;
export const MiB = 1024 * 1024;
export const chunk = 256 * KiB;

export interface LocalFileOptions {
  readonly id?: number;
  readonly key?: string;
  readonly version?: string;
  readonly sizeBytes: number;
  readonly chunkBytes?: number;
  /** Called before every write; may throw to fail it. */
  readonly beforeWrite?: (offsetBytes: number, lengthBytes: number) => void | Promise<void>;
  /** Of `tryWrite`: what it says, or throws. Default: true. */
  readonly mayTryWrite?: () => boolean;
}

/** A content file in a directory of its own, without the catalog behind it. */
export class LocalFile implements ContentFile, Disposable {
  readonly id: number;
  readonly key: string;
  readonly version: string;
  readonly sizeBytes: number;
  readonly residency: Residency;
  /** How often the first byte of each chunk was written. */
  readonly writesOfChunk: Map<number, number> = new Map();
  /** Counted up by a test: as if a sync had failed. */
  losses = 0;
  readonly #options: LocalFileOptions;
  readonly #directory: string;
  readonly #descriptor: number;

  constructor(options: LocalFileOptions) {
    this.#options = options;
    this.id = options.id ?? 1;
    this.key = options.key ?? 'file';
    this.version = options.version ?? 'v1';
    this.sizeBytes = options.sizeBytes;
    this.residency = Residency.create(options.sizeBytes, options.chunkBytes ?? chunk);
    this.#directory = mkdtempSync(path.join(os.tmpdir(), 'ebb-recall-'));
    this.#descriptor = openSync(path.join(this.#directory, 'content'), 'w+');
  }

  async write(bytes: Uint8Array, offsetBytes: number): Promise<void> {
    await this.#options.beforeWrite?.(offsetBytes, bytes.length);
    const { first, count } = this.residency.chunksOf(offsetBytes, bytes.length);
    for (let index = first; index < first + count; index += 1) {
      if (index * this.residency.chunkBytes < offsetBytes) continue;
      this.writesOfChunk.set(index, (this.writesOfChunk.get(index) ?? 0) + 1);
    }
    const { bytesWritten } = await writeAsync(
      this.#descriptor,
      bytes,
      0,
      bytes.length,
      offsetBytes,
    );
    if (bytesWritten !== bytes.length) throw new Error(`short write of ${bytesWritten}`);
  }

  tryWrite(bytes: Uint8Array, offsetBytes: number): boolean {
    if (this.#options.mayTryWrite?.() === false) return false;
    return writeSync(this.#descriptor, bytes, 0, bytes.length, offsetBytes) === bytes.length;
  }

  markResident(firstChunk: number, chunkCount: number, lossesBefore: number): void {
    if (lossesBefore !== this.losses) throw ebbError('EIO', 'lost', { retryable: true });
    this.residency.markResident(firstChunk, chunkCount);
  }

  readSync(into: Uint8Array, offsetBytes: number): number {
    return readSync(this.#descriptor, into, 0, into.length, offsetBytes);
  }

  /** The first difference to the pattern of `seed` in the range, or -1. */
  differenceTo(seed: number, offsetBytes: number, lengthBytes: number): number {
    const length = Math.max(0, Math.min(this.sizeBytes, offsetBytes + lengthBytes) - offsetBytes);
    const got = Buffer.alloc(length);
    if (this.readSync(got, offsetBytes) !== length) return offsetBytes;
    const expected = patternBytes(seed, length, offsetBytes);
    if (got.equals(expected)) return -1;
    return offsetBytes + got.findIndex((byte, index) => byte !== expected[index]);
  }

  /** Resident chunks whose bytes are not the pattern's. */
  wrongChunks(seed: number): number[] {
    const wrong: number[] = [];
    const { chunkBytes, chunkCount } = this.residency;
    for (let index = 0; index < chunkCount; index += 1) {
      if (!this.residency.hasChunk(index)) continue;
      if (this.differenceTo(seed, index * chunkBytes, chunkBytes) >= 0) wrong.push(index);
    }
    return wrong;
  }

  sync(): void {
    fdatasyncSync(this.#descriptor);
  }

  [Symbol.dispose](): void {
    closeSync(this.#descriptor);
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

export interface RequestSeen {
  readonly key: string;
  readonly offsetBytes: number;
  readonly lengthBytes: number | undefined;
  readonly signal: AbortSignal;
}

/**
 * One file whose bytes are a pattern. Requests wait until the test lets bytes through: `grant` gives so many
 * bytes to the request of that index, `open` lets everything through.
 */
export class HeldRemote implements Remote {
  readonly kind = 'held';
  readonly displayName = 'held:';
  supportsRanges = true;
  /** Refuse ranges although `supportsRanges` says otherwise. */
  refusesRanges = false;
  version: string | undefined = 'v1';
  sizeBytes: number;
  seed = 1;
  /** What `readReady` says; where it is true it gives the bytes. */
  ready: (() => boolean | Promise<void>) | undefined;
  /** Bytes put into the sink at once. */
  stepBytes = 64 * KiB;
  readonly seen: RequestSeen[] = [];
  active = 0;
  activeMax = 0;
  #open = false;
  readonly #credit: number[] = [];
  readonly #failures: Map<number, Error> = new Map();
  #wake: (() => void)[] = [];

  constructor(sizeBytes: number, open = false) {
    this.sizeBytes = sizeBytes;
    this.#open = open;
  }

  open(): void {
    this.#open = true;
    this.#wakeAll();
  }

  grant(index: number, bytes: number): void {
    this.#credit[index] = (this.#credit[index] ?? 0) + bytes;
    this.#wakeAll();
  }

  fail(index: number, error: Error): void {
    this.#failures.set(index, error);
    this.#wakeAll();
  }

  async *list(): AsyncIterable<ListingBatch> {
    yield { objects: [], skipped: [] };
  }

  async stat(): Promise<ObjectAttributes> {
    return { kind: 'file', sizeBytes: this.sizeBytes, version: this.version };
  }

  readReady(
    _key: string,
    _version: string,
    into: Uint8Array,
    offsetBytes: number,
  ): boolean | Promise<void> {
    const said = this.ready?.() ?? false;
    if (said === true) fillPattern(into, this.seed, offsetBytes);
    return said;
  }

  async read(key: string, sink: RangeSink, options: ReadOptions): Promise<void> {
    const { offsetBytes, lengthBytes, signal } = options;
    const index = this.seen.length;
    this.seen.push({ key, offsetBytes, lengthBytes, signal });
    this.active += 1;
    this.activeMax = Math.max(this.active, this.activeMax);
    signal.addEventListener('abort', () => this.#wakeAll(), { once: true });
    try {
      if ((this.refusesRanges || !this.supportsRanges) && lengthBytes !== undefined) {
        const { ebbError } = await import('../../src/base/errors.ts');
        throw ebbError('EOPNOTSUPP', 'whole files only');
      }
      await this.#deliver(index, sink, offsetBytes, lengthBytes, signal);
    } finally {
      this.active -= 1;
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  async #deliver(
    index: number,
    sink: RangeSink,
    offsetBytes: number,
    lengthBytes: number | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const endBytes = lengthBytes === undefined ? this.sizeBytes : offsetBytes + lengthBytes;
    let headed = false;
    for (let at = offsetBytes; at < endBytes;) {
      await this.#until(index, signal);
      if (!headed) {
        sink.head({ kind: 'file', sizeBytes: this.sizeBytes, version: this.version });
        headed = true;
      }
      const buffer = sink.buffer();
      const credit = this.#open ? Infinity : (this.#credit[index] ?? 0);
      const count = Math.min(buffer.length, endBytes - at, this.stepBytes, credit);
      fillPattern(buffer.subarray(0, count), this.seed, at);
      if (!this.#open) this.#credit[index] = credit - count;
      at += count;
      await sink.filled(count);
    }
  }

  async #until(index: number, signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      const failure = this.#failures.get(index);
      if (failure !== undefined) throw failure;
      if (this.#open || (this.#credit[index] ?? 0) > 0) return;
      await new Promise<void>((resolve) => {
        this.#wake.push(resolve);
      });
    }
  }

  #wakeAll(): void {
    const wake = this.#wake;
    this.#wake = [];
    for (const resolve of wake) resolve();
  }
}

export function requesterOf(pid: number): Requester {
  return { pid, uid: 0, gid: 0 };
}

export function by(pid: number, intent: Intent = 'demand', more: Partial<EnsureOptions> = {}) {
  return { intent, requester: requesterOf(pid), ...more };
}

export function isCode(code: string): (error: EbbError) => boolean {
  return (error) => error.code === code;
}

/**
 * Lets everything that is ready happen: promises, and writes of the thread pool. However slow the disk is: it goes on
 * until no call of the thread pool is under way over several turns of the event loop.
 */
export async function settle(): Promise<void> {
  await turn(5);
  for (let quietTurns = 0; quietTurns < 4;) {
    await turn(1);
    quietTurns = process.getActiveResourcesInfo().includes('FSReqCallback') ? 0 : quietTurns + 1;
  }
}

async function turn(durationMs: number): Promise<void> {
  await new Promise((resolve) => {
    setTimeout(resolve, durationMs);
  });
}
