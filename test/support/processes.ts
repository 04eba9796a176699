/** Processes of others, as /proc shows them: which live, whose children they are; and their end. */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { StatField, statFields } from '../../src/base/process-stat.ts';

/** False for zombies, too. */
export function processLives(pid: number): boolean {
  if (pid <= 1) return false;
  try {
    return !['Z', 'X'].includes(statFields(pid)[StatField.state] ?? '');
  } catch {
    return false;
  }
}

/** The processes that `pid` has started (/proc/PID/task/TID/children, of its main thread); none when it is gone. */
export function childrenOf(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1');
    return text.split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

/** Of a tree's supervisor: the daemon that serves, and those that wait. */
export function daemonsOf(supervisorPid: number): number[] {
  return childrenOf(supervisorPid).filter((pid) => {
    try {
      return !readFileSync(`/proc/${pid}/cmdline`, 'latin1').startsWith('/bin/sh\0');
    } catch {
      return false;
    }
  });
}

/** Its children, and theirs. */
export function descendantsOf(pid: number): number[] {
  return childrenOf(pid).flatMap((child) => [child, ...descendantsOf(child)]);
}

/** SIGSTOP, until it has taken hold: before that each of its threads goes on for a moment. */
export async function stopProcess(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  while (!areThreadsStopped(pid)) await sleep(1);
}

function areThreadsStopped(pid: number): boolean {
  const threads = readdirSync(`/proc/${pid}/task`).map(Number);
  try {
    return threads.every((thread) => statFields(thread)[StatField.state] === 'T');
  } catch {
    return false; // one has just ended
  }
}

/** SIGKILL to all of them together: none has a moment without the others. Who is gone already is left out. */
export function killTogether(pids: readonly number[]): void {
  const living = pids.filter(processLives);
  for (const signal of ['SIGSTOP', 'SIGKILL'] as const) {
    for (const pid of living) process.kill(pid, signal);
  }
}
