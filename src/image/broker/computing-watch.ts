/**
 * Notices a server that computes and reads nothing any more: an image has led it into something without an end that no
 * budget of the reader knows, and everybody waits for it. One that serves reads all the time: requests, blocks of the
 * image, words of the broker. (Hostile code can read, too: that costs what any program of its user costs.)
 *
 * Processor time counts, not the clock: nothing follows from a machine that is busy or was suspended.
 */
import { ebbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import { readFileSync } from '../../base/node-fs.ts';
import { clockTickMs, StatField, statFields } from '../../base/process-stat.ts';

/** Processor time of all threads between two reads. What one request may cost is a few seconds of it. */
export const computingMaxMs = 60_000;
const looksPerMaximum = 6;

interface Look {
  /** System calls that read, all threads together (proc_pid_io(5)). */
  readonly reads: number;
  readonly processorMs: number;
}

export class ComputingWatch implements Disposable {
  readonly #firstPid: number;
  readonly #maxMs: number;
  readonly #onStuck: (why: EbbError) => void;
  readonly #timer: NodeJS.Timeout;
  /** When it was first seen to have done so many reads. */
  #since: Look | undefined;

  /**
   * `firstPid`: the process that was started, which is the server or unshare(1), its parent. `onStuck`: called once.
   * Where /proc tells nothing nobody is watched.
   */
  constructor(firstPid: number, onStuck: (why: EbbError) => void, maxMs = computingMaxMs) {
    this.#firstPid = firstPid;
    this.#onStuck = onStuck;
    this.#maxMs = maxMs;
    this.#timer = setInterval(() => this.#look(), maxMs / looksPerMaximum);
    this.#timer.unref();
  }

  #look(): void {
    const seen = lookAt(this.#firstPid);
    if (seen === undefined) return;
    if (this.#since?.reads !== seen.reads) {
      this.#since = seen;
      return;
    }
    if (seen.processorMs - this.#since.processorMs < this.#maxMs) return;
    this[Symbol.dispose]();
    this.#onStuck(ebbError('EIO', 'the server of the image computes without reading anything'));
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

function lookAt(firstPid: number): Look | undefined {
  try {
    const [child] = read(`/proc/${firstPid}/task/${firstPid}/children`).split(' ');
    const pid = child === undefined || child === '' ? firstPid : Number(child);
    const [, reads] = /^syscr: (\d+)$/m.exec(read(`/proc/${pid}/io`)) ?? [];
    const stat = statFields(pid);
    const ticks = Number(stat[StatField.userTicks]) + Number(stat[StatField.systemTicks]);
    return { reads: Number(reads), processorMs: ticks * clockTickMs };
  } catch {
    return undefined;
  }
}

function read(file: string): string {
  return readFileSync(file, 'latin1');
}
