/** One stub, loaded: what the recall engine writes into. */
import { StubChange } from '../../base/stub-facts.ts';
import type { StubFacts } from '../../base/stub-facts.ts';
import { ebbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import { writeAllAt } from '../../sys/file-io.ts';
import { Seek, seek } from '../../sys/io.ts';
import { fileStatus, setFileTimes } from '../../sys/stat.ts';
import type { FileTime } from '../../sys/stat.ts';
import { LocalContent } from '../local-content.ts';
import type { ContentPort } from '../local-content.ts';
import { contentWriteError } from '../local-io.ts';
import type { Residency } from '../residency.ts';
import { truncateFile } from '../truncate.ts';
import type { StubTimes } from './kept-times.ts';
import type { StubFile } from './stub-store.ts';

/** What only a stub needs of its store. */
export interface StubOwner {
  /** Writes do not move mtime by themselves. */
  readonly isInvisible: boolean;
  /** Stubs are made of blocks of this size, which hold poison; undefined: they are holes. */
  readonly poisonBlockBytes: number | undefined;
  /** Where writes move mtime: keeps the times until disposed, for who comes after a kill (kept-times.ts). */
  keepTimes(stub: LoadedStub, times: StubTimes): Disposable | undefined;
  /**
   * Somebody changed the file past Ebb: reports it. That is not recorded as the user's change: what was not here
   * would be shown as his, poison and all.
   */
  changedPastUs(stub: LoadedStub, message: string): void;
}

/** Of a file that is about to be written to. */
interface TimesBefore extends StubTimes {
  /** When they were looked at, since 1970. */
  readonly atMs: number;
}

/** The kernel's clock for files may be so much behind ours: a tick, at the most. */
const tickMaxMs = 20;

export class LoadedStub extends LocalContent implements StubFile {
  readonly mtime: FileTime;
  /** As recorded, durably. */
  change: StubChange;
  /** Changes that are being recorded: nothing is recalled meanwhile. */
  holds = 0;
  /** Its record was compared with its inode (soundness.ts). */
  isSound = false;
  readonly #port: ContentPort<LoadedStub>;
  readonly #owner: StubOwner;

  constructor(
    facts: StubFacts,
    residency: Residency,
    port: ContentPort<LoadedStub>,
    owner: StubOwner,
  ) {
    super(facts, residency, port, 'tree');
    this.mtime = { seconds: facts.mtimeSeconds, nanoseconds: facts.mtimeNanoseconds };
    this.change = facts.change;
    this.#port = port;
    this.#owner = owner;
  }

  get settled(): boolean {
    const { clean, intent } = StubChange;
    return this.residency.complete || (this.change !== clean && this.change !== intent);
  }

  /**
   * The size is checked before and after: nobody may shorten the file and have us make it longer again. One write at a
   * time, so that the mtime found before is not that of another write of ours.
   */
  protected override async writeNow(bytes: Uint8Array, offsetBytes: number): Promise<void> {
    using use = this.#port.use(this);
    const times = this.#requireUncut(use.fd);
    using _kept = this.#owner.keepTimes(this, times);
    try {
      const isWritten = this.#writeAtOnce(use.fd, bytes, offsetBytes);
      if (!isWritten) await writeAllAt(use.fd, bytes, offsetBytes);
    } finally {
      this.#wrote(use.fd, bytes.byteLength, offsetBytes, times);
    }
  }

  tryWrite(bytes: Uint8Array, offsetBytes: number): boolean {
    if (this.isWriting || !this.#isWritable) return false;
    try {
      if (!this.#port.tryAdmitWrite(this, bytes.byteLength)) return false;
      using use = this.#port.use(this);
      const times = this.#requireUncut(use.fd);
      using _kept = this.#owner.keepTimes(this, times);
      try {
        return this.#writeAtOnce(use.fd, bytes, offsetBytes);
      } finally {
        this.#wrote(use.fd, bytes.byteLength, offsetBytes, times);
      }
    } catch (error) {
      throw contentWriteError(error, this.key, 'tree');
    }
  }

  /** Throws ESTALE when it has another size. */
  #requireUncut(fd: number): TimesBefore {
    const { sizeBytes, atime, mtime } = fileStatus(fd);
    if (sizeBytes !== this.sizeBytes) throw this.#changedPastUs(sizeBytes);
    return { atime, mtime, atMs: Date.now() };
  }

  /** The kernel reads a block of poison before it writes a part of it: that waits for the disk. */
  #writeAtOnce(fd: number, bytes: Uint8Array, offsetBytes: number): boolean {
    const whole = this.#fillsBlocks(offsetBytes, bytes.byteLength);
    return whole && this.#port.writeAtOnce(fd, bytes, offsetBytes);
  }

  /** After a write, however it ended. Throws ESTALE, which is worse than whatever that failed with. */
  #wrote(fd: number, lengthBytes: number, offsetBytes: number, times: TimesBefore): void {
    this.#port.dirtied(this);
    const { sizeBytes, mtime } = fileStatus(fd);
    if (sizeBytes !== this.sizeBytes) {
      if (sizeBytes === offsetBytes + lengthBytes) cutBack(fd, offsetBytes);
      throw this.#changedPastUs(sizeBytes);
    }
    // One that a user has set meanwhile is his.
    if (this.#owner.isInvisible || !isSince(mtime, times.atMs)) return;
    // Both times: setting mtime alone raises FAN_MODIFY, as if a user had written (fsnotify_change(), Linux 6.18).
    setFileTimes(fd, times.atime, times.mtime);
  }

  #fillsBlocks(offsetBytes: number, lengthBytes: number): boolean {
    const { poisonBlockBytes } = this.#owner;
    if (poisonBlockBytes === undefined) return true;
    return offsetBytes % poisonBlockBytes === 0 && lengthBytes % poisonBlockBytes === 0;
  }

  #changedPastUs(sizeBytes: number): EbbError {
    const message =
      `${this.key} has ${sizeBytes} bytes instead of ${this.sizeBytes}: it was changed past Ebb, ` +
      'and is not recalled into.';
    this.#owner.changedPastUs(this, message);
    return ebbError('ESTALE', message, { retryable: false });
  }

  get #isWritable(): boolean {
    return this.change === StubChange.clean && this.holds === 0;
  }

  protected override requireWritable(): void {
    if (this.#isWritable) return;
    throw ebbError('ESTALE', `${this.key} is being changed here: nothing is recalled into it.`, {
      retryable: false,
    });
  }
}

/** Whether a write since `atMs` may have set this time; where the file system keeps whole seconds, in the same one. */
function isSince({ seconds, nanoseconds }: FileTime, atMs: number): boolean {
  const fromMs = atMs - tickMaxMs;
  const timeMs = seconds * 1_000 + nanoseconds / 1_000_000;
  const isLater = timeMs >= (nanoseconds === 0 ? Math.floor(fromMs / 1_000) * 1_000 : fromMs);
  return isLater && timeMs <= Date.now() + 1;
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
