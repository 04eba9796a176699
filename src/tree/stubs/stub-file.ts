/** One stub, loaded: what the recall engine writes into. */
import { StubChange } from '../../base/stub-facts.ts';
import type { StubFacts } from '../../base/stub-facts.ts';
import { assert } from '../../base/assert.ts';
import { ebbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import { Seek, seek } from '../../sys/io.ts';
import { fileStatus, setFileTimes } from '../../sys/stat.ts';
import type { FileTime } from '../../sys/stat.ts';
import type { DescriptorUse } from '../descriptor-cache.ts';
import { contentWriteError, readContentSync, writeContent } from '../local-io.ts';
import type { Residency } from '../residency.ts';
import { truncateFile } from '../truncate.ts';
import type { StubFile } from './stub-store.ts';

/** What a stub needs of its store. */
export interface StubPort {
  /** Writes do not move mtime by themselves. */
  readonly isInvisible: boolean;
  /** The descriptor of the file. Throws ESTALE (deleted), EBUSY (being released), EMFILE. */
  use(file: LoadedStub): DescriptorUse;
  /** Waits while too much is uncommitted or the file is being released. Rejects with ENOSPC. */
  admitWrite(file: LoadedStub, lengthBytes: number): Promise<void>;
  /** The file holds data that is not synced. */
  dirtied(file: LoadedStub): void;
  /** Throws ESTALE when the stub was forgotten. */
  marked(file: LoadedStub, addedBytes: number): void;
  /**
   * Somebody changed the file past Ebb: reports it. That is not recorded as the user's change: what was not here
   * would be shown as his, poison and all.
   */
  changedPastUs(file: LoadedStub, message: string): void;
}

export class LoadedStub implements StubFile {
  readonly id: number;
  readonly key: string;
  readonly version: string;
  readonly sizeBytes: number;
  readonly mtime: FileTime;
  readonly handle: Uint8Array;
  readonly residency: Residency;
  /** As recorded, durably. */
  change: StubChange;
  pinned: boolean;
  /** Changes that are being recorded: nothing is recalled meanwhile. */
  holds = 0;
  /** Writes under way or waiting for their turn. */
  #writing = 0;
  #lastWrite: Promise<void> = Promise.resolve();
  readonly #port: StubPort;

  constructor(facts: StubFacts, residency: Residency, port: StubPort) {
    this.id = facts.id;
    this.key = facts.key;
    this.version = facts.version;
    this.sizeBytes = facts.sizeBytes;
    this.mtime = { seconds: facts.mtimeSeconds, nanoseconds: facts.mtimeNanoseconds };
    this.handle = facts.handle;
    this.change = facts.change;
    this.pinned = facts.pinned;
    this.residency = residency;
    this.#port = port;
  }

  get settled(): boolean {
    return (
      this.residency.complete ||
      this.change === StubChange.discarding ||
      this.change === StubChange.dirty
    );
  }

  get isWriting(): boolean {
    return this.#writing > 0;
  }

  /** Resolves when the writes that were asked for before have ended. */
  async idle(): Promise<void> {
    await this.#lastWrite;
  }

  /** One at a time, so that the mtime found before is not that of another write of ours. */
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
      this.#requireClean();
      await this.#port.admitWrite(this, bytes.byteLength);
      this.#requireClean();
      await this.#writeInside(bytes, offsetBytes);
    } catch (error) {
      throw contentWriteError(error, this.key, 'tree');
    } finally {
      ended();
      this.#writing -= 1;
    }
  }

  markResident(firstChunk: number, chunkCount: number): void {
    this.#requireClean();
    const run = { first: firstChunk, count: chunkCount };
    this.#port.marked(this, this.residency.bytesOf(run).lengthBytes);
    this.residency.markResident(firstChunk, chunkCount);
  }

  readSync(into: Uint8Array, offsetBytes: number): number {
    using use = this.#port.use(this);
    return readContentSync(use.fd, into, offsetBytes, this, 'tree');
  }

  /** The size is checked before and after: nobody may shorten the file and have us make it longer again. */
  async #writeInside(bytes: Uint8Array, offsetBytes: number): Promise<void> {
    using use = this.#port.use(this);
    const { sizeBytes, atime, mtime } = fileStatus(use.fd);
    if (sizeBytes !== this.sizeBytes) throw this.#changedPastUs(sizeBytes);
    try {
      await writeContent(use.fd, bytes, offsetBytes);
    } finally {
      this.#port.dirtied(this);
      const after = fileStatus(use.fd).sizeBytes;
      if (after !== this.sizeBytes) {
        if (after === offsetBytes + bytes.byteLength) cutBack(use.fd, offsetBytes);
        // oxlint-disable-next-line no-unsafe-finally -- worse than whatever the write failed with
        throw this.#changedPastUs(after);
      }
      // Both times: setting mtime alone raises FAN_MODIFY, as if a user had written (fsnotify_change(), Linux 6.18).
      if (!this.#port.isInvisible) setFileTimes(use.fd, atime, mtime);
    }
  }

  #changedPastUs(sizeBytes: number): EbbError {
    const message =
      `${this.key} has ${sizeBytes} bytes instead of ${this.sizeBytes}: it was changed past Ebb, ` +
      'and is not recalled into.';
    this.#port.changedPastUs(this, message);
    return ebbError('ESTALE', message, { retryable: false });
  }

  #requireClean(): void {
    if (this.change === StubChange.clean && this.holds === 0) return;
    throw ebbError('ESTALE', `${this.key} is being changed here: nothing is recalled into it.`, {
      retryable: false,
    });
  }
}

/**
 * The file was shortened while we wrote at `offsetBytes`, behind its new end. Where that was cannot be known, only that
 * nothing but a hole lies between it and our bytes: it ends there, to the block. (All of it after O_TRUNC, the one
 * way of shortening that is not stopped by an event.)
 */
function cutBack(fd: number, offsetBytes: number): void {
  let end = 0;
  for (let at = 0; at < offsetBytes; at = end) {
    const data = seek(fd, at, Seek.data);
    if (data < 0 || data >= offsetBytes) break;
    end = Math.min(seek(fd, data, Seek.hole), offsetBytes);
  }
  truncateFile(fd, end);
}
