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

  constructor(journalFd: number, record: Record) {
    this.#journalFd = journalFd;
    this.#record = record;
  }

  /** Throws what recording throws at once. What cannot be recorded stays in the journal, for the next daemon. */
  take(message: Changed | ChangesTold): void {
    if (message.kind === 'changed') {
      try {
        const recording = this.#record(message);
        if (recording !== undefined) this.#recording.push(recording);
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
}
