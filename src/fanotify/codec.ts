/**
 * Events as the kernel writes them: struct fanotify_event_metadata, then info records (linux/fanotify.h). Pure: a
 * buffer in, fields out. `EventCursor` walks over what one read(2) returned and allocates nothing but what `fids` is
 * asked for.
 *
 * Two kinds of trouble. A *frame* that makes no sense (unknown version, lengths that contradict each other) is an
 * `EventFormatError`: what follows in the buffer cannot be found any more. A *record* that makes no sense in a sound
 * frame is the event's `problem`: its descriptor is known, so it can still be denied.
 */
import { FanEvent, InfoType, metadataVersion, permissionEvents } from './constants.ts';
import type { FileHandle } from '../sys/handle.ts';

/** The kernel writes something else than this library knows. Nothing after it in the buffer is known. */
export class EventFormatError extends Error {
  override readonly name = 'EventFormatError';
}

/**
 * `noRange`: a FAN_PRE_ACCESS event that does not say of what. `record`: an info record with impossible lengths, or two
 * of a kind.
 */
export type EventProblem = 'noRange' | 'record';

/** A record of a group with FID records: which object, or which entry of which directory. */
export interface FidRecord {
  /** `oldEntry` and `newEntry` come with FAN_RENAME. */
  readonly kind: 'object' | 'directory' | 'entry' | 'oldEntry' | 'newEntry';
  /** Two words that name the file system, as statfs(2) f_fsid. */
  readonly fsid: bigint;
  /** For `openByHandle`. Without bytes: no object (some FAN_FS_ERROR events). */
  readonly handle: FileHandle;
  /** Of the entry, raw bytes; `.` means the directory itself. Undefined for `object` and `directory`. */
  readonly name: Uint8Array<ArrayBuffer> | undefined;
}

const metadataBytes = 24;
const recordHeaderBytes = 4;
/** Header, fsid, struct file_handle without its bytes. */
const fidRecordBytes = 20;
/** MAX_HANDLE_SZ. */
const handleMaxBytes = 128;
const twoTo32 = 4_294_967_296;
const largest = Number.MAX_SAFE_INTEGER;

const fidKinds: ReadonlyMap<number, FidRecord['kind']> = new Map([
  [InfoType.fid, 'object'],
  [InfoType.directoryFid, 'directory'],
  [InfoType.directoryFidName, 'entry'],
  [InfoType.oldDirectoryFidName, 'oldEntry'],
  [InfoType.newDirectoryFidName, 'newEntry'],
]);

function hasName(type: number): boolean {
  return (
    type === InfoType.directoryFidName ||
    type === InfoType.oldDirectoryFidName ||
    type === InfoType.newDirectoryFidName
  );
}

/** Walks over a buffer of events. One object for all reads of a group: fields are those of the event it stands on. */
export class EventCursor {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  #lengthBytes = 0;
  #nextAt = 0;
  #recordsAt = 0;

  /** Where the event begins in `bytes`. */
  atBytes = 0;
  /** `FanEvent` bits (the low 32; there are no others). */
  mask = 0;
  /**
   * Open file of the event. Negative: there is none: -1 (FAN_NOFD: overflow, groups with FID records), or with
   * `reportFdError` the errno for which it could not be opened; then the kernel has denied the event already.
   */
  fd = -1;
  /** Process (or thread, with `reportTid`) as seen from this pid namespace; 0 when it is not in it. */
  pid = 0;
  /** Descriptor of the process; -1: it is gone, or none was asked for; -2 or another -errno: could not be made. */
  pidfd = -1;
  /** Whether there is a range: every sound FAN_PRE_ACCESS event has one. */
  hasRange = false;
  /** Where the range begins, bytes; numbers of 2^53 and above are given as 2^53-1. May lie behind the file's end. */
  offset = 0;
  /** Its length, not cut at the file's end; saturated as `offset`. 0: up to the end (FICLONE, truncate). */
  count = 0;
  /** FAN_FS_ERROR: errno (positive) and how often since the last event. */
  errorNumber = 0;
  errorCount = 0;
  problem: EventProblem | undefined = undefined;

  /**
   * What one read(2) may return, or the memory for it. At least 4096 bytes, as fanotify(7) wants; memory not that of a
   * small typed array: those may move.
   */
  constructor(capacity: number | Uint8Array<ArrayBuffer> = 16_384) {
    this.bytes =
      typeof capacity === 'number'
        ? new Uint8Array(new ArrayBuffer(Math.max(4096, capacity)))
        : capacity;
    const { buffer, byteOffset, byteLength } = this.bytes;
    this.#view = new DataView(buffer, byteOffset, byteLength);
  }

  /** There are `lengthBytes` of events in `bytes` now; stands before the first one. */
  reset(lengthBytes: number): void {
    this.#lengthBytes = Math.min(lengthBytes, this.bytes.length);
    this.#nextAt = 0;
    this.#recordsAt = 0;
  }

  /** Goes to the next event; false at the end. Throws `EventFormatError`; the cursor is at its end then. */
  next(): boolean {
    const at = this.#nextAt;
    const left = this.#lengthBytes - at;
    if (left === 0) return false;
    if (left < metadataBytes) this.#refuse(`${left} bytes are left, too few for an event`);
    const view = this.#view;
    const version = view.getUint8(at + 4);
    if (version !== metadataVersion) this.#refuse(`event version ${version} is not known`);
    const eventBytes = view.getUint32(at, true);
    if (eventBytes < metadataBytes || eventBytes > left) {
      this.#refuse(`an event of ${eventBytes} bytes in ${left}`);
    }
    const headerBytes = view.getUint16(at + 6, true);
    if (headerBytes < metadataBytes || headerBytes > eventBytes) {
      this.#refuse(`event metadata of ${headerBytes} bytes in an event of ${eventBytes}`);
    }
    this.atBytes = at;
    this.#nextAt = at + eventBytes;
    this.#recordsAt = at + headerBytes;
    this.mask = view.getUint32(at + 8, true);
    this.fd = view.getInt32(at + 16, true);
    this.pid = view.getInt32(at + 20, true);
    this.#readRecords();
    return true;
  }

  /** Somebody waits for an answer to this event. */
  get needsAnswer(): boolean {
    return (this.mask & permissionEvents) !== 0 && this.fd >= 0;
  }

  get isOverflow(): boolean {
    return (this.mask & FanEvent.queueOverflow) !== 0;
  }

  /** The FID records of this event, in the kernel's order. None when it has a `problem`. */
  fids(): FidRecord[] {
    const records: FidRecord[] = [];
    if (this.problem !== undefined) return records;
    const view = this.#view;
    for (let at = this.#recordsAt; at < this.#nextAt; at += view.getUint16(at + 2, true)) {
      const type = view.getUint8(at);
      const kind = fidKinds.get(type);
      if (kind === undefined) continue;
      const nameAt = at + fidRecordBytes + view.getUint32(at + 12, true);
      records.push({
        kind,
        fsid: view.getBigUint64(at + 4, true),
        handle: {
          type: view.getInt32(at + 16, true),
          bytes: this.bytes.slice(at + fidRecordBytes, nameAt),
        },
        name: hasName(type) ? this.bytes.slice(nameAt, this.bytes.indexOf(0, nameAt)) : undefined,
      });
    }
    return records;
  }

  #refuse(what: string): never {
    this.#nextAt = this.#lengthBytes;
    throw new EventFormatError(`The kernel's fanotify events cannot be read: ${what}.`);
  }

  #readRecords(): void {
    this.pidfd = -1;
    this.hasRange = false;
    this.offset = 0;
    this.count = 0;
    this.errorNumber = 0;
    this.errorCount = 0;
    this.problem = undefined;
    let hasPidfd = false;
    const end = this.#nextAt;
    let at = this.#recordsAt;
    while (at < end) {
      const bytes = this.#recordBytes(at, end);
      const type = bytes === 0 ? -1 : this.#view.getUint8(at);
      if (bytes === 0 || !this.#isSound(type, at, bytes)) {
        this.problem = 'record';
        return;
      }
      if (type === InfoType.range) {
        if (this.hasRange) this.problem = 'record';
        this.hasRange = true;
        this.offset = this.#u64(at + 8);
        this.count = this.#u64(at + 16);
      } else if (type === InfoType.pidfd) {
        if (hasPidfd) this.problem = 'record';
        else this.pidfd = this.#view.getInt32(at + 4, true);
        hasPidfd = true;
      } else if (type === InfoType.error) {
        this.errorNumber = this.#view.getInt32(at + 4, true);
        this.errorCount = this.#view.getUint32(at + 8, true);
      }
      at += bytes;
    }
    if (!this.hasRange && (this.mask & FanEvent.preAccess) !== 0) this.problem ??= 'noRange';
  }

  /** Length of the record at `at`; 0 when it says something impossible. */
  #recordBytes(at: number, end: number): number {
    if (end - at < recordHeaderBytes) return 0;
    const bytes = this.#view.getUint16(at + 2, true);
    return bytes < recordHeaderBytes || bytes > end - at ? 0 : bytes;
  }

  /** Whether a record is long enough for what its type holds. Unknown types are. */
  #isSound(type: number, at: number, bytes: number): boolean {
    if (type === InfoType.range) return bytes >= 24;
    if (type === InfoType.pidfd) return bytes >= 8;
    if (type === InfoType.error) return bytes >= 12;
    if (!fidKinds.has(type)) return true;
    if (bytes < fidRecordBytes) return false;
    const handleBytes = this.#view.getUint32(at + 12, true);
    const nameAt = at + fidRecordBytes + handleBytes;
    if (handleBytes > handleMaxBytes || nameAt > at + bytes) return false;
    if (!hasName(type)) return true;
    for (let index = nameAt; index < at + bytes; index += 1)
      if (this.bytes[index] === 0) return true;
    return false;
  }

  #u64(at: number): number {
    const value = this.#view.getUint32(at + 4, true) * twoTo32 + this.#view.getUint32(at, true);
    return Math.min(value, largest);
  }
}
