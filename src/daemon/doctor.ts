/**
 * Entry point of the probes behind `ebb doctor`; a process of its own, since they need system calls that the CLI
 * does not load: `node doctor.ts CACHE_DIRECTORY`, or `node doctor.ts --tree DIRECTORY`. Prints one `DoctorReport` as
 * JSON.
 */
import { readMountInfo, isEbbMount } from '../base/mount-info.ts';
import {
  ensureRunDirectory,
  isRunning,
  readRunRecords,
  runDirectory,
} from '../base/run-directory.ts';
import { toEbbError } from '../base/errors.ts';
import type { DoctorCheck, DoctorReport } from './helper-api.ts';
import { cacheChecks } from './doctor/cache-checks.ts';
import { kernelChecks } from './doctor/kernel-checks.ts';
import { treeChecks } from './doctor/tree-checks.ts';

/** Checks this machine for mounts with a cache in `cacheDirectory`. Changes nothing that stays. */
export function examine(cacheDirectory: string): DoctorReport {
  const checks = [
    checkNode(),
    ...kernelChecks(),
    ...cacheChecks(cacheDirectory),
    checkRunDirectory(),
    checkDeadMounts(),
  ];
  return { canMount: checks.every((check) => check.outcome !== 'fail'), checks };
}

/** Checks whether a directory can be a tree, and what that costs there. Changes nothing that stays. */
export async function examineTree(directory: string): Promise<DoctorReport> {
  const checks = [checkNode(), ...(await treeChecks(directory)), checkRunDirectory()];
  return { canMount: checks.every((check) => check.outcome !== 'fail'), checks };
}

function checkNode(): DoctorCheck {
  const found = `Node.js ${process.version}, ${process.arch}`;
  return { name: 'runtime', outcome: 'ok', found };
}

function checkRunDirectory(): DoctorCheck {
  const name = 'run directory';
  try {
    return { name, outcome: 'ok', found: `${ensureRunDirectory()}, private` };
  } catch (error) {
    const advice = `Daemons cannot be found or commanded: ${toEbbError(error).message}`;
    return { name, outcome: 'fail', found: runDirectory(), advice };
  }
}

/** Mounts whose daemon died: every access to them fails with ENOTCONN. */
function checkDeadMounts(): DoctorCheck {
  const name = 'dead mounts';
  let records: ReturnType<typeof readRunRecords> = [];
  try {
    records = readRunRecords();
  } catch {
    // Said by the check of the run directory.
  }
  const live = new Set(records.filter(isRunning).map((record) => record.mountPoint));
  const mounted = readMountInfo().filter(isEbbMount);
  const own = mounted.filter((mount) => ownerOf(mount.superOptions) === process.getuid?.());
  const dead = own.map((mount) => mount.mountPoint).filter((point) => !live.has(point));
  if (dead.length === 0) return { name, outcome: 'ok', found: 'none' };
  const advice = `Nobody answers there: clean up with ebb umount ${dead.join(' ')}`;
  return { name, outcome: 'warn', found: dead.join(', '), advice };
}

/** FUSE shows in its options who mounted (user_id=N). */
function ownerOf(superOptions: string): number | undefined {
  const match = /(?:^|,)user_id=([0-9]+)/.exec(superOptions);
  return match === null ? undefined : Number(match[1]);
}

if (import.meta.main) {
  const [first = '/var/cache/ebb', second] = process.argv.slice(2);
  const isTree = first === '--tree' && second !== undefined;
  const report = isTree ? await examineTree(second) : examine(first);
  process.stdout.write(`${JSON.stringify(report)}\n`);
}
