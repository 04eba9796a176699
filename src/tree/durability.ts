/**
 * From "in the page cache" to "in the record": invariant I2.
 *
 * Chunks that were marked resident in memory are collected and committed in groups. For each group, in this order
 * and no other:
 *   1. take a snapshot of each bitmap (everything it claims has been written, but maybe only to the page cache);
 *   2. sync the files' data;
 *   3. commit the snapshots of the files whose sync succeeded (one durable transaction of the catalog);
 *   4. write the marks.
 * A chunk marked after 1 waits for the next group. A crash anywhere loses claims, never makes false ones.
 *
 * When a sync fails, the kernel has dropped the dirty pages (fsync(2), NOTES): nobody knows which bytes are on the
 * disk. The whole claim of that file is taken back, in memory, in the catalog and in the mark. The kernel says so once:
 * the next sync of the same descriptor succeeds. What was written before and is marked afterwards would be claimed by
 * it; so a content counts its losses, and refuses to be marked by a writer who began before one (`lose`).
 *
 * Descriptors of dirty files stay open from the first write to the sync: an error that the kernel met in between
 * is reported to descriptors that were open then.
 */
import { assert } from '../base/assert.ts';
import type { EbbError } from '../base/errors.ts';
import type { DescriptorUse } from './descriptor-cache.ts';
import type { Residency } from './residency.ts';

export const commitIntervalMsDefault = 1_000;
/**
 * A group begins at the latest with so many bytes, and writers wait at twice as many: what a crash can cost to fetch
 * again, and what a burst can bring faster than the disk takes it. The kernel's own limits of dirty pages hold, too.
 */
export const uncommittedBytesMaxDefault = 512 * 1024 * 1024;
/** Each pins a descriptor. */
export const dirtyFilesMax = 256;

/** What the catalog keeps of a content's residency. */
export interface ResidencyRow {
  readonly id: number;
  readonly bitmap: Uint8Array;
  readonly residentBytes: number;
  readonly complete: boolean;
}

/** A content, as far as the log must know it. */
export interface LoggedContent {
  readonly id: number;
  readonly residency: Residency;
  /** What was written may not be on the disk: nothing of it is claimed, also not what is yet to be marked. */
  lose(): void;
}

/** What the log does to the outside; the store and the daemon provide it. */
export interface DurabilityPort<File extends LoggedContent> {
  /** Opens (or has open) the file and keeps the descriptor until disposed. */
  use(file: File): DescriptorUse;
  /**
   * fdatasync(2) of these. `onFailed` is told at once of each, by its place, whose data was lost (EIO, ENOSPC, EDQUOT).
   * Resolves when all has been tried.
   */
  syncData(
    fds: readonly number[],
    onFailed: (index: number, error: EbbError) => void,
  ): Promise<void>;
  /** Durable when it returns; unknown ids are passed over. Throws when nothing was committed. */
  commit(rows: readonly ResidencyRow[]): void;
  /** Writes the mark for what was committed. Must not throw; a claim that cannot be lowered is removed. */
  mark(file: File, row: ResidencyRow, fd: number): void;
  /** A file's data may be lost: its claim was taken back in memory, the record follows. Must not throw. */
  syncFailed(file: File, error: unknown): void;
  /** The group was not committed; it stays queued. */
  commitFailed(error: unknown): void;
}

export interface DurabilityLimits {
  readonly commitIntervalMs?: number;
  readonly uncommittedBytesMax?: number;
}

interface Dirty<File> {
  readonly file: File;
  readonly use: DescriptorUse;
}

export class ResidencyLog<File extends LoggedContent> {
  readonly #port: DurabilityPort<File>;
  readonly #intervalMs: number;
  readonly #bytesMax: number;
  #dirty = new Map<number, Dirty<File>>();
  #uncommittedBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #committing: Promise<void> | undefined;
  /** Ids of the group under way. */
  #inGroup: ReadonlySet<number> = new Set();
  /** Resolves, and is another one, when something is no longer queued. */
  #turn = Promise.withResolvers<void>();

  constructor(port: DurabilityPort<File>, limits: DurabilityLimits = {}) {
    this.#port = port;
    this.#intervalMs = limits.commitIntervalMs ?? commitIntervalMsDefault;
    this.#bytesMax = limits.uncommittedBytesMax ?? uncommittedBytesMaxDefault;
  }

  /** Bytes written and not yet committed, including the group under way. */
  get uncommittedBytes(): number {
    return this.#uncommittedBytes;
  }

  /** True when writers should wait for `drained` first. */
  get isFull(): boolean {
    return this.#uncommittedBytes >= 2 * this.#bytesMax || this.#dirty.size >= dirtyFilesMax;
  }

  /** Before the first write to a file: keeps its descriptor open until the data was synced. Throws as `use`. */
  opened(file: File): void {
    if (this.#dirty.has(file.id)) return;
    this.#dirty.set(file.id, { file, use: this.#port.use(file) });
    this.#schedule();
  }

  /** Chunks of the file were marked resident in memory. */
  marked(file: File, bytes: number): void {
    this.opened(file);
    this.#uncommittedBytes += bytes;
    if (this.#uncommittedBytes >= this.#bytesMax || this.#dirty.size >= dirtyFilesMax) {
      void this.#startCommit();
    }
  }

  /** For writers that must wait: resolves when there is room again, rejects when the catalog refuses a group. */
  async drained(): Promise<void> {
    while (this.isFull) await (this.#committing ?? this.#commitGroup());
  }

  /** Commits what is queued for this content. Rejects when the catalog refused it. */
  async settled(id: number): Promise<void> {
    while (this.#dirty.has(id) || this.#inGroup.has(id)) {
      await (this.#committing ?? this.#commitGroup());
    }
  }

  /** As `settled`, when its group is due: never rejects, and goes on waiting when the catalog refuses one. */
  async committed(id: number): Promise<void> {
    while (this.#dirty.has(id) || this.#inGroup.has(id)) await this.#turn.promise;
  }

  /** Commits all that is queued now, not what others add meanwhile. Rejects when the catalog refused it. */
  async flush(): Promise<void> {
    await this.#committing?.catch(() => undefined);
    // Somebody else who waited for that group may have begun the next one, which has all of it.
    await (this.#committing ?? this.#commitGroup());
  }

  /**
   * Forgets what is queued for a content that is being deleted, and waits for a group that has it: afterwards the
   * log will not claim anything of it until it is marked again.
   */
  async forget(id: number): Promise<void> {
    if (this.#inGroup.has(id)) await this.#committing?.catch(() => undefined);
    const dirty = this.#dirty.get(id);
    this.#dirty.delete(id);
    dirty?.use[Symbol.dispose]();
    this.#turned();
    if (this.#committing === undefined) this.#planNext();
  }

  /** Drops everything without committing: for a store that is closed after `flush`, and for tests of crashes. */
  abandon(): void {
    clearTimeout(this.#timer);
    for (const { use } of this.#dirty.values()) use[Symbol.dispose]();
    this.#dirty.clear();
  }

  #schedule(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => void this.#startCommit(), this.#intervalMs);
    this.#timer.unref();
  }

  /** At most one group is under way. Never rejects: the port hears of failures. */
  async #startCommit(): Promise<void> {
    await (this.#committing ?? this.#commitGroup()).catch(() => undefined);
  }

  #commitGroup(): Promise<void> {
    assert(this.#committing === undefined, 'one group is committed at a time');
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#dirty.size === 0) return Promise.resolve();
    this.#committing = this.#runGroup().finally(() => {
      this.#committing = undefined;
      this.#inGroup = new Set();
      this.#turned();
      this.#planNext();
    });
    return this.#committing;
  }

  /** Bytes of files that were forgotten are counted until nothing is queued: how much is whose is not known. */
  #planNext(): void {
    if (this.#dirty.size > 0) this.#schedule();
    else this.#uncommittedBytes = 0;
  }

  #turned(): void {
    const { resolve } = this.#turn;
    this.#turn = Promise.withResolvers();
    resolve();
  }

  async #runGroup(): Promise<void> {
    const group = [...this.#dirty.values()];
    const bytes = this.#uncommittedBytes;
    this.#dirty = new Map();
    this.#inGroup = new Set(group.map(({ file }) => file.id));

    const rows = group.map(({ file }) => rowOf(file)); // 1.
    await this.#syncAll(group, rows); // 2.
    try {
      this.#port.commit(rows); // 3.
    } catch (error) {
      this.#requeue(group);
      this.#port.commitFailed(error);
      throw error;
    }
    this.#uncommittedBytes -= bytes;
    for (const [index, { file, use }] of group.entries()) {
      const row = rows[index] as ResidencyRow;
      if (row.complete) file.residency.noteRecorded();
      this.#port.mark(file, row, use.fd); // 4.
      use[Symbol.dispose]();
    }
  }

  /** `rows`: those of the group; of a file whose data could not be synced it then claims nothing. */
  async #syncAll(group: readonly Dirty<File>[], rows: ResidencyRow[]): Promise<void> {
    const fds = group.map(({ use }) => use.fd);
    await this.#port.syncData(fds, (index, error) => {
      const { file } = group[index] as Dirty<File>;
      // At once: the next sync of this descriptor knows of no error any more, whatever becomes of this group.
      file.lose();
      rows[index] = rowOf(file);
      this.#port.syncFailed(file, error);
    });
  }

  /** The data is synced, only the record failed: the claims in memory stay true. */
  #requeue(group: readonly Dirty<File>[]): void {
    for (const dirty of group) {
      if (this.#dirty.has(dirty.file.id)) dirty.use[Symbol.dispose]();
      else this.#dirty.set(dirty.file.id, dirty);
    }
  }
}

function rowOf({ id, residency }: LoggedContent): ResidencyRow {
  const { residentBytes, complete } = residency;
  return { id, bitmap: residency.encode(), residentBytes, complete };
}
