/**
 * As long as callers wait for a daemon to start, it goes before other work: on a busy machine it would else wait for
 * the processor ten times as long as it needs it. A start takes half a second of it, and there are pauses between many.
 *
 * Two switches (sched(7)), because it depends on the system which one counts: the nice values of its threads, and where
 * the kernel shares the processor between sessions (autogroup) that of the session. Without the right to it
 * (CAP_SYS_NICE), or in a control group that has a share of its own, all stays as it is.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';
import { StatField, statFields } from '../base/process-stat.ts';

const urgentNice = -10;
const groupFile = '/proc/self/autogroup';

export class Urgency {
  #pid: number | undefined;
  #groupNice: number | undefined;

  /** The daemon is awaited, until `over`. One at a time: the one before no longer is. */
  begin(pid: number | undefined): void {
    this.over();
    this.#pid = pid;
    this.#groupNice = sessionNice();
    if (this.#groupNice !== undefined) setSessionNice(urgentNice);
    if (pid !== undefined) setNice(pid, urgentNice);
  }

  /** It serves, or has died. */
  over(): void {
    if (this.#groupNice !== undefined) setSessionNice(this.#groupNice);
    if (this.#pid !== undefined) setNice(this.#pid, getPriority());
    this.#groupNice = undefined;
    this.#pid = undefined;
  }
}

/** Each thread has one of its own, and new ones that of who started them. */
function setNice(pid: number, nice: number): void {
  try {
    for (let isSettled = false; !isSettled;) {
      const others = readdirSync(`/proc/${pid}/task`).filter(
        (thread) => getPriority(Number(thread)) !== nice,
      );
      for (const thread of others) setPriority(Number(thread), nice);
      isSettled = others.length === 0;
    }
  } catch {
    // It has died, or we may not.
  }
}

/** Undefined: there are no such groups, or the session is not ours alone. */
function sessionNice(): number | undefined {
  try {
    if (Number(statFields('self')[StatField.session]) !== process.pid) return undefined;
    const nice = / nice (-?\d+)/.exec(readFileSync(groupFile, 'utf8'))?.[1];
    return nice === undefined ? undefined : Number(nice);
  } catch {
    return undefined;
  }
}

function setSessionNice(nice: number): void {
  try {
    writeFileSync(groupFile, String(nice));
  } catch {
    // We may not.
  }
}
