/** What the kernel and the system's configuration offer to a FUSE server. Reads /proc, /sys and /etc only. */
import { accessSync, constants, existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { release } from 'node:os';
import { Capability, hasCapability, openFilesLimit } from '../../sys/process.ts';
import type { DoctorCheck } from '../helper-api.ts';

/** Passthrough and FUSE_NOTIFY_RESEND are in the kernel since 6.9 (linux/fuse.h 7.40). */
const passthroughKernel = [6, 9] as const;
/** Older ones lack requests that the daemon relies on; nobody tests them. */
const minimumKernel = [5, 4] as const;
const openFilesWanted = 65_536;

/** All checks of this file, in the order in which they are shown. */
export function kernelChecks(): DoctorCheck[] {
  const privileged = hasCapability(Capability.sysAdmin);
  return [
    checkKernel(),
    checkDevice(),
    checkPassthrough(privileged),
    checkFusermount(privileged),
    checkAllowOther(privileged),
    checkOpenFiles(),
    checkFuseSettings(),
    checkClock(),
  ];
}

/** Major and minor number of a kernel release such as `6.18.44-amd64`. */
export function kernelVersion(text: string): readonly [major: number, minor: number] {
  const match = /^([0-9]+)\.([0-9]+)/.exec(text);
  return [Number(match?.[1] ?? 0), Number(match?.[2] ?? 0)];
}

function isAtLeast(wanted: readonly [number, number]): boolean {
  const [major, minor] = kernelVersion(release());
  return major > wanted[0] || (major === wanted[0] && minor >= wanted[1]);
}

function checkKernel(): DoctorCheck {
  const name = 'kernel';
  if (!isAtLeast(minimumKernel)) {
    const advice = `Linux ${minimumKernel.join('.')} or newer is needed: use a newer kernel.`;
    return { name, outcome: 'fail', found: `Linux ${release()}`, advice };
  }
  if (isAtLeast(passthroughKernel)) return { name, outcome: 'ok', found: `Linux ${release()}` };
  const advice =
    `Before Linux ${passthroughKernel.join('.')} there is no FUSE passthrough: files that are here are read ` +
    'through the daemon, at about a fifth of the native speed; and a mount ends with its daemon.';
  return { name, outcome: 'warn', found: `Linux ${release()}`, advice };
}

function checkDevice(): DoctorCheck {
  const name = '/dev/fuse';
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch (error) {
    const missing = (error as { code?: unknown }).code === 'ENOENT';
    const advice = missing
      ? 'Nothing can be mounted: load the module (modprobe fuse), or give the container --device /dev/fuse.'
      : 'Nothing can be mounted: let this user read and write /dev/fuse (mode 666 is usual).';
    return { name, outcome: 'fail', found: missing ? 'missing' : 'not accessible', advice };
  }
  if (/\bfuse$/m.test(readFileSync('/proc/filesystems', 'utf8'))) {
    return { name, outcome: 'ok', found: 'present' };
  }
  const advice = 'The kernel has no fuse file system yet: modprobe fuse.';
  return { name, outcome: 'warn', found: 'present, file system not registered', advice };
}

function checkPassthrough(privileged: boolean): DoctorCheck {
  const name = 'passthrough';
  if (isAtLeast(passthroughKernel) && privileged) {
    return { name, outcome: 'ok', found: 'possible: kernel and CAP_SYS_ADMIN' };
  }
  const why = privileged ? 'the kernel is too old' : 'no CAP_SYS_ADMIN';
  const advice =
    'Files that are here are read through the daemon instead of straight from the cache; everything works, more ' +
    'slowly. Mount as root on Linux 6.9 or newer for native speed.';
  return { name, outcome: 'warn', found: `not possible: ${why}`, advice };
}

function checkFusermount(privileged: boolean): DoctorCheck {
  const name = 'fusermount3';
  const program = findProgram('fusermount3');
  if (program === undefined) {
    const advice = privileged
      ? 'Only needed for mounts of ordinary users: install the package fuse3 for them.'
      : 'Without privileges nothing can be mounted: install the package fuse3.';
    return { name, outcome: privileged ? 'warn' : 'fail', found: 'not found', advice };
  }
  const { mode, uid } = statSync(program);
  if (uid === 0 && (mode & 0o4000) !== 0) {
    return { name, outcome: 'ok', found: `${program}, setuid root` };
  }
  const advice = `Ordinary users cannot mount: chown root ${program} && chmod u+s ${program}`;
  return {
    name,
    outcome: privileged ? 'warn' : 'fail',
    found: `${program}, not setuid root`,
    advice,
  };
}

function findProgram(name: string): string | undefined {
  const directories = [...(process.env['PATH'] ?? '').split(':'), '/usr/bin', '/bin', '/usr/sbin'];
  return directories
    .filter((directory) => directory !== '')
    .map((directory) => path.join(directory, name))
    .find((file) => existsSync(file));
}

function checkAllowOther(privileged: boolean): DoctorCheck {
  const name = 'allow_other';
  if (privileged) return { name, outcome: 'ok', found: 'allowed: privileged' };
  const text = existsSync('/etc/fuse.conf') ? readFileSync('/etc/fuse.conf', 'utf8') : '';
  if (/^\s*user_allow_other\s*$/m.test(text)) {
    return { name, outcome: 'ok', found: 'user_allow_other in /etc/fuse.conf' };
  }
  const advice =
    'Other users (root included) cannot enter your mounts: put the line user_allow_other into /etc/fuse.conf and ' +
    'mount with --allow-other if they should.';
  return { name, outcome: 'warn', found: 'not allowed by /etc/fuse.conf', advice };
}

function checkOpenFiles(): DoctorCheck {
  const name = 'open files';
  const { hard } = openFilesLimit();
  const found = `limit ${hard === Infinity ? 'unlimited' : String(hard)}`;
  if (hard >= openFilesWanted) return { name, outcome: 'ok', found };
  const advice =
    'Each open file of the mount costs the daemon a descriptor: programs that open very many get ENFILE. ' +
    `Raise it: ulimit -Hn ${openFilesWanted}, or LimitNOFILE= in the unit.`;
  return { name, outcome: 'warn', found, advice };
}

function checkFuseSettings(): DoctorCheck {
  const name = 'fs.fuse';
  const setting = (file: string): string | undefined => {
    try {
      return readFileSync(`/proc/sys/fs/fuse/${file}`, 'utf8').trim();
    } catch {
      return undefined;
    }
  };
  const timeout = setting('max_request_timeout');
  const pages = setting('max_pages_limit');
  const found = [
    pages === undefined ? 'requests up to 1 MiB' : `max_pages_limit ${pages}`,
    ...(timeout === undefined ? [] : [`max_request_timeout ${timeout}`]),
  ].join(', ');
  if (timeout === undefined || timeout === '0') return { name, outcome: 'ok', found };
  const advice =
    `The kernel ends the whole connection when one request takes longer than ${timeout} s: keep --deadline well ` +
    'below that, or set fs.fuse.max_request_timeout to 0.';
  return { name, outcome: 'warn', found, advice };
}

/** A clock that is far off breaks certificates, and listings look as if they came from the future. */
function checkClock(): DoctorCheck {
  const name = 'clock';
  // This file is not older than what is being checked by it, nor can the time be.
  const writtenMs = statSync(import.meta.filename).mtimeMs;
  const found = new Date().toISOString();
  if (Date.now() >= writtenMs - 86_400_000) return { name, outcome: 'ok', found };
  const advice =
    'The clock stands before the time this program was installed: certificates will not be accepted. Set it ' +
    '(timedatectl set-ntp true).';
  return { name, outcome: 'warn', found, advice };
}
