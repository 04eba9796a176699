/**
 * Changes that main is told of: struck out of the journal (change-journal.ts) when they are recorded.
 *
 * One that cannot be (a full disk) is tried again, and its file counts as being changed meanwhile: the record calls it
 * the remote's, and its writer may have set the size and time that go with that.
 */
import type { StubStore } from '../tree/stubs/stub-store.ts';
import { strikeOutBut, strikeOutEvent } from './change-journal.ts';
import type { Changed, ChangesTold } from './messages.ts';

/** As `Writers.changed`. */
type Record = (event: Changed) => Promise<boolean> | undefined;

const againMs = 2_000;
/** Of one turn: each may be a sync of the disk. */
const againMax = 256;
/** Some 200 bytes each. When there are more, every file counts as being changed, until the daemon ends. */
const unrecordedMax = 262_144;

interface Unrecorded {
  /** What was told of the file and could not be recorded; undefined: nothing yet. */
  failed: Changed | undefined;
  /** Where the events of `failed` are. */
  readonly atBytes: number[];
  recordings: number;
}

export class ChangeRecords {
  readonly #journalFd: number;
  readonly #files: Pick<StubStore, 'get'>;
  readonly #record: Record;
  readonly #unrecordedMax: number;
  /** Of what was told since the last `changesTold`: which is not recorded. */
  #recording: Promise<Changed | undefined>[] = [];
  /** Of all that was told, until it is recorded or cannot be. */
  readonly #running = new Set<Promise<Changed | undefined>>();
  /** By the text of the handle: files of which something is being recorded, or cannot be. */
  readonly #unrecorded = new Map<string, Unrecorded>();
  /** There were too many. */
  #isAnyUnrecorded = false;
  #timer: NodeJS.Timeout | undefined;

  /** `max`: files with something that cannot be recorded. */
  constructor(
    journalFd: number,
    files: Pick<StubStore, 'get'>,
    record: Record,
    max: number = unrecordedMax,
  ) {
    this.#journalFd = journalFd;
    this.#files = files;
    this.#record = record;
    this.#unrecordedMax = max;
  }

  /**
   * Throws what recording throws at once. What cannot be recorded is tried again, and stays in the journal until then,
   * for the next daemon, too.
   */
  take(message: Changed | ChangesTold): void {
    if (message.kind === 'changed') {
      this.#take(message);
      return;
    }
    const { place } = message;
    const recording = this.#recording;
    this.#recording = [];
    void Promise.all(recording).then((failed) => {
      const left = failed.flatMap((one) => one?.atBytes ?? []);
      const isHere = (at: number): boolean =>
        at >= place.atBytes && at < place.atBytes + place.lengthBytes;
      strikeOutBut(this.#journalFd, place, left.filter(isHere));
    });
  }

  /** Something that users did to a file is not recorded: that its record calls it clean says nothing. */
  isUnrecorded(fileId: number): boolean {
    if (this.#isAnyUnrecorded) return true;
    if (this.#unrecorded.size === 0) return false;
    const file = this.#files.get(fileId);
    return file !== undefined && this.#unrecorded.has(textOf(file.handle));
  }

  /**
   * Resolves when all that was told is recorded, or cannot be; never rejects. What could not is tried once more, and
   * then no more.
   */
  async settled(): Promise<void> {
    await this.#ran();
    clearTimeout(this.#timer);
    this.#timer = undefined;
    // A copy: each goes to the end.
    for (const one of this.#unrecorded.values().toArray()) this.#again(one);
    await this.#ran();
    clearTimeout(this.#timer);
  }

  async #ran(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  #take(message: Changed): void {
    try {
      const recording = this.#record(message);
      if (recording !== undefined) this.#recording.push(this.#run(message, recording));
    } catch (error) {
      this.#recording.push(Promise.resolve(message));
      this.#hasFailed(message);
      throw error;
    }
  }

  /** `recording` never rejects. */
  #run(message: Changed, recording: Promise<boolean>): Promise<Changed | undefined> {
    // From the beginning: when it fails there is no moment in which the file counts as clean.
    const one = this.#oneOf(message);
    one.recordings += 1;
    const run = recording.then((isRecorded) => {
      one.recordings -= 1;
      this.#running.delete(run);
      if (!isRecorded) this.#hasFailed(message);
      else if (one.recordings === 0 && one.failed === undefined) this.#forget(message);
      return isRecorded ? undefined : message;
    });
    this.#running.add(run);
    return run;
  }

  #oneOf({ handle }: Changed): Unrecorded {
    const text = textOf(handle);
    const known = this.#unrecorded.get(text);
    const one = known ?? { failed: undefined, atBytes: [], recordings: 0 };
    if (known === undefined) this.#unrecorded.set(text, one);
    return one;
  }

  #forget({ handle }: Changed): void {
    this.#unrecorded.delete(textOf(handle));
  }

  #hasFailed(message: Changed): void {
    const one = this.#oneOf(message);
    const { failed } = one;
    if (failed === undefined && this.#unrecorded.size > this.#unrecordedMax) {
      this.#isAnyUnrecorded = true;
      if (one.recordings === 0) this.#forget(message);
      return;
    }
    if (message.atBytes !== undefined && !one.atBytes.includes(message.atBytes)) {
      one.atBytes.push(message.atBytes);
    }
    one.failed = {
      ...message,
      modified: message.modified || failed?.modified === true,
      closedForWriting: message.closedForWriting || failed?.closedForWriting === true,
    };
    this.#timer ??= setTimeout(() => this.#allAgain(), againMs).unref();
  }

  #allAgain(): void {
    this.#timer = undefined;
    const failed = this.#unrecorded.values().filter((one) => one.failed !== undefined);
    for (const one of failed.take(againMax).toArray()) this.#again(one);
    const isMore = this.#unrecorded.values().some((one) => one.failed !== undefined);
    if (isMore) this.#timer ??= setTimeout(() => this.#allAgain(), againMs).unref();
  }

  #again(one: Unrecorded): void {
    const { failed } = one;
    if (failed === undefined || one.recordings > 0) return;
    // To the end of those that wait.
    this.#forget(failed);
    this.#unrecorded.set(textOf(failed.handle), one);
    let recording: Promise<boolean> | undefined;
    try {
      recording = this.#record(failed);
    } catch {
      // As it was told of the first time.
      return;
    }
    if (recording === undefined) {
      this.#isRecorded(one, failed);
      return;
    }
    one.recordings += 1;
    const run = recording.then((isRecorded) => {
      one.recordings -= 1;
      this.#running.delete(run);
      if (isRecorded) this.#isRecorded(one, failed);
      return undefined;
    });
    this.#running.add(run);
  }

  /** `failed`: what was tried. More may have failed meanwhile. */
  #isRecorded(one: Unrecorded, failed: Changed): void {
    if (one.failed !== failed) return;
    for (const atBytes of one.atBytes) strikeOutEvent(this.#journalFd, atBytes);
    one.failed = undefined;
    if (one.recordings === 0) this.#forget(failed);
  }
}

function textOf(handle: Uint8Array): string {
  return Buffer.from(handle.buffer, handle.byteOffset, handle.byteLength).toString('latin1');
}
