/** One content of the tree: the file behind a node id, as the recall engine and the front ends see it. */
import { assert } from '../base/assert.ts';
import type { ContentFile } from './content.ts';
import type { DescriptorUse } from './descriptor-cache.ts';
import { contentWriteError, readContentSync, writeContent } from './local-io.ts';
import type { Residency } from './residency.ts';

/** What is known of a content before its file is opened; the catalog's row of it. */
export interface StoredFacts {
  readonly id: number;
  readonly key: string;
  readonly version: string;
  readonly sizeBytes: number;
  readonly chunkBytes: number;
  readonly bitmap: Uint8Array;
  readonly residentBytes: number;
  readonly complete: boolean;
  readonly handle: Uint8Array;
  readonly pinned: boolean;
}

/** What a content needs of its store. */
export interface ContentPort {
  /** The verified descriptor. Throws EIO (not our file), EBUSY (being released), EMFILE. */
  use(content: StoredContent): DescriptorUse;
  /**
   * Waits while too much is uncommitted or the content is being released; then counts as dirty. Rejects with
   * ENOSPC when the write would take the room that the catalog needs.
   */
  admitWrite(content: StoredContent, lengthBytes: number): Promise<void>;
  /** The file holds data that is not synced: keeps its descriptor open. */
  dirtied(content: StoredContent): void;
  /** Throws ESTALE when the content was deleted. */
  marked(content: StoredContent, addedBytes: number): void;
}

export class StoredContent implements ContentFile {
  readonly id: number;
  readonly key: string;
  readonly version: string;
  readonly sizeBytes: number;
  readonly residency: Residency;
  /** Identity of the local file (identity.ts). */
  readonly handle: Uint8Array;
  pinned: boolean;
  /** Writes under way or waiting for their turn. */
  #writing = 0;
  #lastWrite: Promise<void> = Promise.resolve();
  readonly #port: ContentPort;

  constructor(
    facts: Pick<StoredFacts, 'id' | 'key' | 'version' | 'sizeBytes' | 'handle' | 'pinned'>,
    residency: Residency,
    port: ContentPort,
  ) {
    this.id = facts.id;
    this.key = facts.key;
    this.version = facts.version;
    this.sizeBytes = facts.sizeBytes;
    this.handle = facts.handle;
    this.pinned = facts.pinned;
    this.residency = residency;
    this.#port = port;
  }

  get isWriting(): boolean {
    return this.#writing > 0;
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
      await this.#port.admitWrite(this, bytes.byteLength);
      using use = this.#port.use(this);
      try {
        await writeContent(use.fd, bytes, offsetBytes);
      } finally {
        this.#port.dirtied(this);
      }
    } catch (error) {
      throw contentWriteError(error, this.key, 'cache');
    } finally {
      ended();
      this.#writing -= 1;
    }
  }

  markResident(firstChunk: number, chunkCount: number): void {
    const run = { first: firstChunk, count: chunkCount };
    this.#port.marked(this, this.residency.bytesOf(run).lengthBytes);
    this.residency.markResident(firstChunk, chunkCount);
  }

  /** The verified descriptor of the local file, open until disposed. Throws EIO (not our file), EBUSY, EMFILE. */
  useDescriptor(): DescriptorUse {
    return this.#port.use(this);
  }

  readSync(into: Uint8Array, offsetBytes: number): number {
    using use = this.#port.use(this);
    return readContentSync(use.fd, into, offsetBytes, this, 'cache');
  }
}
