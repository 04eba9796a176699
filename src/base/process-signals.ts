/** Whether a thread is about to end, by the signals that wait for it (proc_pid_status(5), signal(7)). */
import { readFileSync } from './node-fs.ts';

/** Numbers of x86-64 and arm64. */
const SIGINT = 2;
const SIGKILL = 9;
/** What these do by default ends nobody: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH. */
const harmlessByDefault = maskOf(17, 18, 19, 20, 21, 22, 23, 28);
const endless = maskOf(SIGINT, SIGKILL);

function maskOf(...signals: readonly number[]): bigint {
  return signals.reduce((mask, signal) => mask | (1n << BigInt(signal - 1)), 0n);
}

/**
 * Whether a signal waits that ends the thread's program: SIGKILL (which the kernel also gives to the threads of a
 * program that dies of something else), one whose default is that, or a SIGINT that is caught: somebody presses Ctrl-C.
 * A timer, a child, a resized window end nobody. `status`: text of /proc/TID/status.
 */
export function isEndingBy(status: string): boolean {
  const mask = (name: string): bigint => {
    const [, digits] = new RegExp(`^${name}:\\s*([0-9a-f]+)$`, 'm').exec(status) ?? [];
    return digits === undefined ? 0n : BigInt(`0x${digits}`);
  };
  const waiting = (mask('SigPnd') | mask('ShdPnd')) & ~mask('SigBlk') & ~mask('SigIgn');
  const survived = (mask('SigCgt') | harmlessByDefault) & ~endless;
  return (waiting & ~survived) !== 0n;
}

/** The same of a thread; true for one that has ended, or that cannot be looked at. */
export function isEnding(tid: number): boolean {
  if (tid === 0) return true;
  try {
    return isEndingBy(readFileSync(`/proc/${tid}/status`, 'latin1'));
  } catch {
    return true;
  }
}
