/** What a process has taken so far: processor time, memory, system calls. */
import { readFileSync, readdirSync } from 'node:fs';
import { clockTickMs, StatField, statFields } from '../../src/base/process-stat.ts';

/** User and system time of all its threads, in seconds. 0 for pid 0. */
export function cpuSeconds(pid: number): number {
  if (pid === 0) return 0;
  const fields = statFields(pid);
  const ticks = Number(fields[StatField.userTicks]) + Number(fields[StatField.systemTicks]);
  return (ticks * clockTickMs) / 1000;
}

/** Resident memory in MiB. */
export function residentMebibytes(pid: number): number {
  return statusMebibytes(pid, /^VmRSS:\s+(\d+) kB/m);
}

/** The most that was ever resident, in MiB. */
export function peakMebibytes(pid: number): number {
  return statusMebibytes(pid, /^VmHWM:\s+(\d+) kB/m);
}

/**
 * How often the thread of a tree's daemon that is asked by the kernel has read from it (proc_pid_io(5)): whatever the
 * kernel asks, and whoever is to answer it, is read there first.
 */
export function eventReads(pid: number): number {
  const tasks = `/proc/${pid}/task`;
  const readsOf = (thread: string): number => {
    if (readFileSync(`${tasks}/${thread}/comm`, 'utf8').trim() !== 'fanotify') return 0;
    return Number(/^syscr: (\d+)$/m.exec(readFileSync(`${tasks}/${thread}/io`, 'utf8'))?.[1]);
  };
  return readdirSync(tasks).reduce((sum, thread) => sum + readsOf(thread), 0);
}

/** A line of proc_pid_status(5); NaN without it. */
function statusMebibytes(pid: number, line: RegExp): number {
  const [, kibibytes] = line.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kibibytes ?? Number.NaN) / 1024;
}
