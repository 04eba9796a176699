/** Changes that main is told of: struck out of the journal (change-journal.ts) when they are recorded. */
import { strikeOut } from './change-journal.ts';
import type { Changed, ChangesTold } from './messages.ts';

/** As `Writers.changed`. */
type Record = (event: Changed) => Promise<boolean> | undefined;

export class ChangeRecords {
  readonly #journalFd: number;
  readonly #record: Record;
  /** Of what was told since the last `changesTold`. */
  #recording: Promise<boolean>[] = [];
  /** Of all that was told, until it is recorded. */
  readonly #unrecorded = new Set<Promise<boolean>>();

  constructor(journalFd: number, record: Record) {
    this.#journalFd = journalFd;
    this.#record = record;
  }

  /** Throws what recording throws at once. What cannot be recorded stays in the journal, for the next daemon. */
  take(message: Changed | ChangesTold): void {
    if (message.kind === 'changed') {
      try {
        const recording = this.#record(message);
        if (recording !== undefined) this.#note(recording);
      } catch (error) {
        this.#recording.push(Promise.resolve(false));
        throw error;
      }
      return;
    }
    const recording = this.#recording;
    this.#recording = [];
    void Promise.all(recording).then((areRecorded) => {
      if (areRecorded.every(Boolean)) strikeOut(this.#journalFd, message.place);
    });
  }

  /** Resolves when all that was told is recorded or cannot be; never rejects. */
  async settled(): Promise<void> {
    while (this.#unrecorded.size > 0) await Promise.all(this.#unrecorded);
  }

  /** `recording` never rejects. */
  #note(recording: Promise<boolean>): void {
    this.#recording.push(recording);
    this.#unrecorded.add(recording);
    void recording.then(() => this.#unrecorded.delete(recording));
  }
}
