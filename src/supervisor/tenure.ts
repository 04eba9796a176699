/**
 * Who may read a tree's groups and answer for it: one supervisor and its daemons, the waiting ones included. Two of
 * them on one group would have the same numbers for different events. The tenure is an exclusive lock (flock(2)) on
 * the tree's file in memory (kept-tree.ts), through an open file of its own that the supervisor takes before anything
 * else and that every daemon inherits. The kernel lets go of it with the last thread of the last of them, and at no
 * other moment: who has got it knows that everybody of before is dead. The service manager has the file, but never
 * this open file of it.
 *
 * Versions of Ebb may differ in everything else: this is how each tells that another one's processes are gone.
 */
import { readFile, readdir, readlink } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { ebbError, toEbbError } from '../base/errors.ts';
import { processIds } from '../base/processes.ts';
import { OpenFlag, openFd } from '../sys/fd.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { tryLock } from '../sys/lease.ts';

/** In /proc/PID/fd. */
export const tenureFileName = 'ebb-facts';
/** What processes get to die after SIGKILL: one may be writing to a slow disk. */
const deathMaxMs = 60_000;
const lookEveryMs = 100;

/**
 * Ends everybody who has the tenure of the tree whose file in memory is `memoryFd`, and takes it. Throws EAGAIN when
 * somebody does not die, and as soon as `isWanted` says no (the service has been started once more meanwhile).
 */
export async function takeTenure(memoryFd: number, isWanted: () => boolean): Promise<OwnedFd> {
  const tenure = openFd(`/proc/self/fd/${memoryFd}`, OpenFlag.rdwr);
  try {
    const endsAtMs = performance.now() + deathMaxMs;
    for (;;) {
      if (!isWanted()) throw ebbError('EAGAIN', 'another supervisor is being started');
      if (tryLock(tenure.fd)) return tenure;
      if (performance.now() >= endsAtMs) {
        throw ebbError('EAGAIN', 'a process of the supervisor before this one does not die');
      }
      await endOthers(tenure.fd);
      await sleep(lookEveryMs);
    }
  } catch (error) {
    tenure.close();
    throw error;
  }
}

/** SIGKILL to everybody else who has the tenure. `fd`: any descriptor of the same file. */
async function endOthers(fd: number): Promise<void> {
  const file = inodeOf(await readFile(`/proc/self/fdinfo/${fd}`, 'latin1'));
  for (const pid of await processIds()) {
    if (pid === process.pid) continue;
    if (await hasTenure(pid, file)) kill(pid);
  }
}

/** The lock is shown where its open file is (proc_pid_fdinfo(5)): not with the manager, who has another one. */
async function hasTenure(pid: number, file: string | undefined): Promise<boolean> {
  for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
    const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '');
    if (!target.startsWith(`/memfd:${tenureFileName}`)) continue;
    const facts = await readFile(`/proc/${pid}/fdinfo/${fd}`, 'latin1').catch(() => '');
    if (inodeOf(facts) === file && /^lock:.*FLOCK.*WRITE/m.test(facts)) return true;
  }
  return false;
}

function inodeOf(fdinfo: string): string | undefined {
  return /^ino:\s*(\d+)$/m.exec(fdinfo)?.[1];
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (toEbbError(error).code !== 'ESRCH') throw error;
  }
}
