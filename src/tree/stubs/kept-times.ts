/**
 * The times of stubs that are being written to, kept where the successor of a killed daemon finds them.
 *
 * Except on xfs every write of Ebb's own moves mtime, which is set back right afterwards. A daemon that is killed in
 * between leaves a file that looks as if a user had changed it: shown with a time that is not its own, never released.
 * So the times lie in a file of the private directory, one slot for each write under way, while one is: it survives the
 * process, in the page cache. It is not synced: after a power cut within that moment the mtime may be wrong.
 *
 * Only files of which not all is here are set back. Of others the mtime may be what tells that a user wrote.
 */
import { StubChange } from '../../base/stub-facts.ts';
import type { StubFacts } from '../../base/stub-facts.ts';
import { EbbError } from '../../base/errors.ts';
import { OpenFlag, openFd } from '../../sys/fd.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { pread, pwrite } from '../../sys/io.ts';
import { fileStatus, sameTime, setFileTimes } from '../../sys/stat.ts';
import type { FileTime } from '../../sys/stat.ts';
import type { StubAccess } from './stub-access.ts';

const name = 'times';
/** Stub id, then seconds and nanoseconds of atime and of mtime, as 64 bits each; id 0: a free slot. */
const slotWords = 5;
const slotBytes = slotWords * 8;
/** Writes at a time beyond these are not kept: the recall engine has far fewer under way. */
const slotsMax = 256;

export interface StubTimes {
  readonly atime: FileTime;
  readonly mtime: FileTime;
}

export interface TimesInTurn extends Disposable {
  keep(id: number, times: StubTimes): void;
}

export class KeptTimes implements Disposable {
  readonly #file: OwnedFd;
  readonly #taken = new Set<number>();

  /** `privateFd`: the tree's `.ebb`. Sets back what a killed daemon left. Throws when the file cannot be made. */
  constructor(
    privateFd: number,
    access: StubAccess,
    recordOf: (id: number) => StubFacts | undefined,
  ) {
    const flags = OpenFlag.rdwr | OpenFlag.creat | OpenFlag.nofollow;
    this.#file = openFd(name, flags, 0o600, privateFd);
    for (const { id, times } of this.#left()) {
      const record = recordOf(id);
      if (record !== undefined) setBack(access, record, times);
    }
    pwrite(this.#file.fd, new Uint8Array(slotBytes * slotsMax), 0);
  }

  /** Keeps the times of a stub that is about to be written to, until disposed. Without room for them one goes on. */
  keep(id: number, times: StubTimes): Disposable {
    const turn = this.inTurn();
    turn.keep(id, times);
    return turn;
  }

  /** For stubs that are written to one after the other: one is over when the next one begins, or this is disposed. */
  inTurn(): TimesInTurn {
    let slot: number | undefined;
    return {
      keep: (id, { atime, mtime }) => {
        slot ??= this.#takeSlot();
        if (slot === undefined) return;
        const { seconds, nanoseconds } = mtime;
        this.#write(slot, [id, atime.seconds, atime.nanoseconds, seconds, nanoseconds]);
      },
      [Symbol.dispose]: () => {
        if (slot === undefined) return;
        this.#write(slot, [0]);
        this.#taken.delete(slot);
        slot = undefined;
      },
    };
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }

  #takeSlot(): number | undefined {
    for (let slot = 0; slot < slotsMax; slot += 1) {
      if (!this.#taken.has(slot)) {
        this.#taken.add(slot);
        return slot;
      }
    }
    return undefined;
  }

  #write(slot: number, words: readonly number[]): void {
    const bytes = new Uint8Array(BigInt64Array.from(words, BigInt).buffer);
    pwrite(this.#file.fd, bytes, slot * slotBytes);
  }

  *#left(): Generator<{ readonly id: number; readonly times: StubTimes }> {
    const words = new BigInt64Array(slotWords * slotsMax);
    pread(this.#file.fd, new Uint8Array(words.buffer), 0);
    for (let at = 0; at < words.length; at += slotWords) {
      const [id = 0, ...rest] = Array.from(words.subarray(at, at + slotWords), Number);
      const [atimeSeconds = 0, atimeNanoseconds = 0, seconds = 0, nanoseconds = 0] = rest;
      const atime = { seconds: atimeSeconds, nanoseconds: atimeNanoseconds };
      if (id > 0) yield { id, times: { atime, mtime: { seconds, nanoseconds } } };
    }
  }
}

function setBack(access: StubAccess, record: StubFacts, { atime, mtime }: StubTimes): void {
  if (record.change !== StubChange.clean || record.complete) return;
  try {
    using fd = access.openForReading(record.handle);
    const found = fileStatus(fd.fd);
    if (found.sizeBytes !== record.sizeBytes || sameTime(found.mtime, mtime)) return;
    setFileTimes(fd.fd, atime, mtime);
  } catch (error) {
    // Deleted, or open under a lease: its time stays wrong, and it is not released.
    if (!(error instanceof EbbError)) throw error;
  }
}
