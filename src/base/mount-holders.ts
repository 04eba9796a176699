/**
 * Who keeps a mount busy: processes with a working directory, root, open file or mapping on it. Reads only
 * links and text below /proc, which name paths without asking the file system. All reads are asynchronous on
 * purpose: /proc/PID/maps can wait for a lock that a process holds while it waits for a page of the very mount,
 * so the daemon that serves the mount must not block its main thread here.
 */
import { readFile, readdir, readlink } from 'node:fs/promises';
import { decodeName } from './name.ts';
import { commandName, processIds, threadIds } from './processes.ts';
import { isInside } from './run-directory.ts';
import { mountAt, readMountInfo } from './mount-info.ts';

export interface MountHolder {
  readonly pid: number;
  readonly command: string;
  /** `cwd`, `root`, `fd 3 /mnt/file`, `mapping /mnt/file`. */
  readonly what: string;
}

interface Mount {
  readonly mountPoint: string;
  /** `major:minor`; undefined when nothing is mounted there (any more). */
  readonly device: string | undefined;
}

/** At most this many holders are reported; the rest change nothing about the answer "busy". */
export const mountHoldersMax = 64;

/**
 * Finds holders of the mount at `mountPoint`. `exceptPids` are not looked at (by default this process). Processes
 * that may not be read (other users', for a user without privileges) are skipped. Never throws for processes that
 * end meanwhile.
 */
export async function findMountHolders(
  mountPoint: string,
  exceptPids: ReadonlySet<number> = new Set([process.pid]),
): Promise<MountHolder[]> {
  const device = mountAt(readMountInfo(), mountPoint)?.device;
  const mount: Mount = { mountPoint, device };
  const holders: MountHolder[] = [];
  for (const pid of await processIds()) {
    if (exceptPids.has(pid)) continue;
    const what = await whatOneHolds(pid, mount);
    if (what === undefined) continue;
    holders.push({ pid, command: await commandName(pid), what });
    if (holders.length >= mountHoldersMax) break;
  }
  return holders;
}

async function whatOneHolds(pid: number, mount: Mount): Promise<string | undefined> {
  // Of a process whose first thread has ended the others have them.
  for (const task of await threadIds(pid).catch(() => [pid])) {
    const directory = `/proc/${pid}/task/${task}`;
    for (const link of ['cwd', 'root']) {
      const target = await linkTarget(`${directory}/${link}`);
      if (target !== undefined && isInside(mount.mountPoint, target)) return `${link} ${target}`;
    }
    const descriptors = await readdir(`${directory}/fd`).catch(() => []);
    for (const descriptor of descriptors) {
      const target = await linkTarget(`${directory}/fd/${descriptor}`);
      if (target !== undefined && isInside(mount.mountPoint, target)) {
        return `fd ${descriptor} ${target}`;
      }
    }
    if (descriptors.length > 0) break;
  }
  return mount.device === undefined ? undefined : mappingOn(pid, mount.device);
}

async function linkTarget(file: string): Promise<string | undefined> {
  try {
    return decodeName(await readlink(file, { encoding: 'buffer' }));
  } catch {
    return undefined;
  }
}

/** Mappings are matched by device number: maps prints it in hexadecimal (proc_pid_maps(5)). */
async function mappingOn(pid: number, device: string): Promise<string | undefined> {
  const [major = 0, minor = 0] = device.split(':').map(Number);
  const hex = (value: number): string => value.toString(16).padStart(2, '0');
  const wanted = ` ${hex(major)}:${hex(minor)} `;
  const text = await readFile(`/proc/${pid}/maps`, 'latin1').catch(() => '');
  if (!text.includes(wanted)) return undefined;
  const line = text.split('\n').find((candidate) => candidate.includes(wanted)) ?? '';
  const file = line.slice(line.indexOf('/'));
  return `mapping ${decodeName(Buffer.from(file, 'latin1'))}`;
}
