/**
 * What the event thread has read of users' changes and main has not recorded, in memory that the supervisor keeps: else
 * a change that was read when the daemon is killed would be known to nobody, and its file count as unchanged.
 *
 * The kernel writes the events into that memory itself, so there is no moment at which they are in no queue and not
 * here: a read(2) that has taken events off the queue copies them before its thread can die. They stay as the kernel
 * wrote them, one read behind the other, in blocks with zeros behind the last. Main strikes out what one read returned
 * when all of it is recorded, but for what cannot be. A successor takes in what is left before it reads anything.
 */
import { EventReader } from '../fanotify/event-reader.ts';
import type { IncomingEvent, OnTrouble } from '../fanotify/event-reader.ts';
import { metadataVersion } from '../fanotify/constants.ts';
import type { Group } from '../fanotify/group.ts';
import { pread, pwrite } from '../sys/io.ts';

/** Lengths in event headers have 16 bits. */
const blockBytes = 32_768;
/** Two megabytes hold some 16,000 changes that are not recorded yet. What is read beyond that would be lost. */
const blockCount = 64;
/** What fanotify(7) wants for a read. */
const readMinBytes = 4_096;

/** Size of the memory; zeros at first. */
export const changeJournalBytes = blockCount * blockBytes;

/** struct fanotify_event_metadata. */
const headerBytes = 24;
/** The byte of a header that the kernel leaves 0 (`reserved`). */
const struckAt = 5;

/** Where the events are that one read(2) returned. */
export interface JournalPlace {
  readonly atBytes: number;
  readonly lengthBytes: number;
}

/** For main: what is there is recorded, so that its memory can be used again. Once for each place. */
export function strikeOut(journalFd: number, { atBytes, lengthBytes }: JournalPlace): void {
  const header = new Uint8Array(headerBytes);
  const view = new DataView(header.buffer);
  view.setUint32(0, lengthBytes, true);
  view.setUint8(4, metadataVersion);
  view.setUint16(6, lengthBytes, true);
  view.setInt32(16, -1, true);
  pwrite(journalFd, header, atBytes);
  // By itself, and last: the thread may look at any moment, and a byte is there or not.
  pwrite(journalFd, Uint8Array.of(1), atBytes + struckAt);
}

/** As `strikeOut`, of all but the events that begin at `exceptAtBytes`, in this order. */
export function strikeOutBut(
  journalFd: number,
  place: JournalPlace,
  exceptAtBytes: readonly number[],
): void {
  let fromBytes = place.atBytes;
  const strikeUpTo = (toBytes: number): void => {
    if (toBytes === fromBytes) return;
    strikeOut(journalFd, { atBytes: fromBytes, lengthBytes: toBytes - fromBytes });
  };
  for (const atBytes of exceptAtBytes) {
    strikeUpTo(atBytes);
    fromBytes = atBytes + eventBytes(journalFd, atBytes);
  }
  strikeUpTo(place.atBytes + place.lengthBytes);
}

/** As `strikeOut`, of one event that was left out then. */
export function strikeOutEvent(journalFd: number, atBytes: number): void {
  strikeOut(journalFd, { atBytes, lengthBytes: eventBytes(journalFd, atBytes) });
}

function eventBytes(journalFd: number, atBytes: number): number {
  const header = new Uint8Array(headerBytes);
  pread(journalFd, header, atBytes);
  return new DataView(header.buffer).getUint32(0, true);
}

/** For the event thread: reads a group as an `EventReader` does, by way of the journal. */
export class ChangeJournal {
  readonly #group: Group;
  readonly #onTrouble: OnTrouble;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  readonly #onHandled: (place: JournalPlace) => void;
  /** For when no block is free. */
  readonly #spare: EventReader;
  #reader: EventReader;
  /** Where the memory of `#reader` begins; undefined: it is `#spare`. */
  #atBytes: number | undefined;
  /** What the last read returned. */
  #lengthBytes = 0;
  /** What a predecessor left and is being handled. */
  #leftAtBytes: number | undefined;

  /** `memory`: of `changeJournalBytes`. `onHandled`: all events of a place have been handled. */
  constructor(
    group: Group,
    memory: ArrayBuffer,
    onTrouble: OnTrouble,
    onHandled: (place: JournalPlace) => void,
  ) {
    this.#group = group;
    this.#onTrouble = onTrouble;
    this.#bytes = new Uint8Array(memory, 0, changeJournalBytes);
    this.#view = new DataView(memory, 0, changeJournalBytes);
    this.#onHandled = onHandled;
    this.#spare = new EventReader(group, onTrouble);
    this.#reader = this.#spare;
  }

  /** Where the event is that is being handled. Undefined: not in the journal. */
  get eventAtBytes(): number | undefined {
    if (this.#leftAtBytes !== undefined) return this.#leftAtBytes;
    return this.#atBytes === undefined ? undefined : this.#atBytes + this.#reader.atBytes;
  }

  /** Has what a predecessor left handled. Once, before anything is read. */
  takeOver(handle: (event: IncomingEvent) => void, overflow: () => void): void {
    for (let block = 0; block < changeJournalBytes; block += blockBytes) {
      for (const { place, isStruckOut } of this.#events(block)) {
        if (!isStruckOut) this.#takeOver(place, handle, overflow);
      }
    }
  }

  /** As `EventReader.fill`. */
  fill(): number {
    this.#goOn();
    this.#lengthBytes = this.#reader.fill();
    return this.#lengthBytes;
  }

  /** As `EventReader.handleAll`. */
  handleAll(handle: (event: IncomingEvent) => void, overflow: () => void): void {
    this.#reader.handleAll(handle, overflow);
    if (this.#atBytes === undefined) return;
    this.#onHandled({ atBytes: this.#atBytes, lengthBytes: this.#lengthBytes });
  }

  #takeOver(
    place: JournalPlace,
    handle: (event: IncomingEvent) => void,
    overflow: () => void,
  ): void {
    const reader = this.#readerOf(place);
    reader.reset(place.lengthBytes);
    this.#leftAtBytes = place.atBytes;
    try {
      reader.handleAll(handle, overflow);
      this.#onHandled(place);
    } catch (cause) {
      // Another Ebb has written it, or nobody: struck out.
      this.#view.setUint32(place.atBytes, place.lengthBytes, true);
      this.#view.setUint8(place.atBytes + struckAt, 1);
      const message = "What was left of users' changes cannot be read.";
      this.#onTrouble({ kind: 'malformed', message, errno: 0, cause });
    } finally {
      this.#leftAtBytes = undefined;
    }
  }

  /** The next read goes behind the last one, or where all is recorded. */
  #goOn(): void {
    const atBytes = this.#nextPlace();
    if (atBytes === this.#atBytes) return;
    this.#atBytes = atBytes;
    if (atBytes === undefined) this.#reader = this.#spare;
    else
      this.#reader = this.#readerOf({ atBytes, lengthBytes: blockBytes - (atBytes % blockBytes) });
  }

  #nextPlace(): number | undefined {
    if (this.#atBytes !== undefined) {
      const block = this.#atBytes - (this.#atBytes % blockBytes);
      if (this.#isRecorded(block)) return this.#begin(block);
      const behind = this.#atBytes + this.#lengthBytes;
      if (behind <= block + blockBytes - readMinBytes) return behind;
    }
    for (let block = 0; block < changeJournalBytes; block += blockBytes) {
      if (this.#isRecorded(block)) return this.#begin(block);
    }
    return undefined;
  }

  #isRecorded(block: number): boolean {
    for (const { isStruckOut } of this.#events(block)) if (!isStruckOut) return false;
    return true;
  }

  #begin(block: number): number {
    // One that was begun before and has nothing in it is as it was then. Any other may be wiped in part: by who was
    // killed meanwhile.
    const isEmpty = block === this.#atBytes && this.#view.getUint32(block, true) === 0;
    if (!isEmpty) this.#bytes.fill(0, block, block + blockBytes);
    return block;
  }

  /** What is struck out together is one. What makes no sense goes up to the end of the block. */
  *#events(block: number): Generator<{ place: JournalPlace; isStruckOut: boolean }> {
    const end = block + blockBytes;
    for (let atBytes = block; atBytes <= end - headerBytes;) {
      const saidBytes = this.#view.getUint32(atBytes, true);
      if (saidBytes === 0) return;
      const isSound = saidBytes >= headerBytes && saidBytes <= end - atBytes;
      const lengthBytes = isSound ? saidBytes : end - atBytes;
      const isStruckOut = isSound && this.#view.getUint8(atBytes + struckAt) !== 0;
      yield { place: { atBytes, lengthBytes }, isStruckOut };
      atBytes += lengthBytes;
    }
  }

  #readerOf({ atBytes, lengthBytes }: JournalPlace): EventReader {
    const memory = this.#bytes.subarray(atBytes, atBytes + lengthBytes);
    return new EventReader(this.#group, this.#onTrouble, memory);
  }
}
