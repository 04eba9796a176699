/** One content that is kept in a local file, as the recall engine and the front ends see it, whoever keeps the file. */
import { assert } from '../base/assert.ts';
import { ebbError } from '../base/errors.ts';
import type { ContentFile } from './content.ts';
import type { DescriptorUse } from './descriptor-cache.ts';
import { contentWriteError, readContentSync } from './local-io.ts';
import type { Place } from './local-io.ts';
import type { Residency } from './residency.ts';

/** What is known of a content before its file is opened. */
export interface ContentIdentity {
  readonly id: number;
  readonly key: string;
  readonly version: string;
  readonly sizeBytes: number;
  /** What the local file is known by. */
  readonly handle: Uint8Array;
  readonly pinned: boolean;
}

/** What a content needs of its store. */
export interface ContentPort<Content> {
  /** The verified descriptor. Throws EIO (not our file), ESTALE (deleted), EBUSY (being released), EMFILE. */
  use(content: Content): DescriptorUse;
  /**
   * Waits while too much is uncommitted or the content is being released; then counts as dirty. Rejects with ENOSPC
   * when the write would take room that is reserved.
   */
  admitWrite(content: Content, lengthBytes: number): Promise<void>;
  /** As `admitWrite` where nothing has to be waited for; else false. Throws ENOSPC, ESTALE. */
  tryAdmitWrite(content: Content, lengthBytes: number): boolean;
  /** Writes in the calling thread. False: that is left to the pool. See `WritesAtOnce.write`. */
  writeAtOnce(fd: number, bytes: Uint8Array, offsetBytes: number): boolean;
  /** The file holds data that is not synced: keeps its descriptor open. */
  dirtied(content: Content): void;
  /** Throws ESTALE when the content was deleted. */
  marked(content: Content, addedBytes: number): void;
}

export abstract class LocalContent implements ContentFile {
  readonly id: number;
  readonly key: string;
  readonly version: string;
  readonly sizeBytes: number;
  readonly handle: Uint8Array;
  readonly residency: Residency;
  pinned: boolean;
  readonly #port: ContentPort<this>;
  readonly #place: Place;
  /** Writes under way or waiting for their turn. */
  #writing = 0;
  #lastWrite: Promise<void> = Promise.resolve();
  #losses = 0;

  constructor(
    facts: ContentIdentity,
    residency: Residency,
    port: ContentPort<never>,
    place: Place,
  ) {
    this.id = facts.id;
    this.key = facts.key;
    this.version = facts.version;
    this.sizeBytes = facts.sizeBytes;
    this.handle = facts.handle;
    this.pinned = facts.pinned;
    this.residency = residency;
    this.#port = port;
    this.#place = place;
  }

  get isWriting(): boolean {
    return this.#writing > 0;
  }

  /** Resolves when the writes that were asked for before have ended. */
  async idle(): Promise<void> {
    await this.#lastWrite;
  }

  /** One at a time: the kernel holds the inode's lock for a write, and the next thread would only spin for it. */
  async write(bytes: Uint8Array, offsetBytes: number): Promise<void> {
    assert(
      offsetBytes >= 0 && offsetBytes + bytes.byteLength <= this.sizeBytes,
      'content is written inside its file',
    );
    this.#writing += 1;
    const before = this.#lastWrite;
    const { promise, resolve: ended } = Promise.withResolvers<void>();
    this.#lastWrite = promise;
    try {
      await before;
      this.requireWritable();
      await this.#port.admitWrite(this, bytes.byteLength);
      this.requireWritable();
      await this.writeNow(bytes, offsetBytes);
    } catch (error) {
      throw contentWriteError(error, this.key, this.#place);
    } finally {
      ended();
      this.#writing -= 1;
    }
  }

  get losses(): number {
    return this.#losses;
  }

  lose(): void {
    this.#losses += 1;
    this.residency.clear();
  }

  markResident(firstChunk: number, chunkCount: number, lossesBefore: number): void {
    this.requireWritable();
    if (lossesBefore !== this.#losses) {
      const message = `The disk of the ${this.#place} did not take what had arrived of ${this.key}.`;
      throw ebbError('EIO', message, { retryable: true });
    }
    // In this order: what throws comes first, and a group that begins at once has these chunks in its snapshot.
    this.#port.dirtied(this);
    this.residency.markResident(firstChunk, chunkCount);
    this.#port.marked(
      this,
      this.residency.bytesOf({ first: firstChunk, count: chunkCount }).lengthBytes,
    );
  }

  readSync(into: Uint8Array, offsetBytes: number): number {
    using use = this.#port.use(this);
    return readContentSync(use.fd, into, offsetBytes, this, this.#place);
  }

  /** Throws ESTALE when nothing may be recalled into the file (any more). */
  protected abstract requireWritable(): void;

  /** Writes, and says `dirtied`, whether it succeeds or not. */
  protected abstract writeNow(bytes: Uint8Array, offsetBytes: number): Promise<void>;
}
