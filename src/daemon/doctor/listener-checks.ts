/**
 * Other programs that listen on a file system by fanotify(7): virus scanners on access, mostly. The kernel gives them a
 * descriptor with each event, and reading through that raises no event for anybody (Linux 6.18): of what is not here
 * they read what lies there.
 */
import { readFile, readdir, readlink } from 'node:fs/promises';
import { readMountInfo } from '../../base/mount-info.ts';
import { processIds } from '../../base/processes.ts';
import { GroupFlag } from '../../fanotify/constants.ts';
import { OpenFlag, openFd } from '../../sys/fd.ts';
import { fileStatus } from '../../sys/stat.ts';
import type { DoctorCheck } from '../helper-api.ts';

/** Of a file system: where its events come from. */
export interface WatchedPlaces {
  /** s_dev, as the kernel has it: major << 20 | minor. */
  readonly device: number;
  /** Of its mounts that this process sees. */
  readonly mountIds: ReadonlySet<number>;
}

/** Such groups get no descriptors; those of class pre-content are ours, or another HSM's. */
const harmlessFlags = GroupFlag.classPreContent | GroupFlag.reportFid | GroupFlag.reportMount;

/**
 * Whether a group gets descriptors of files there. `fdinfo`: of its descriptor (proc_pid_fdinfo(5)), where all numbers
 * are hexadecimal.
 */
export function isGivenDescriptors(fdinfo: string, { device, mountIds }: WatchedPlaces): boolean {
  const numberIn = (line: string, name: string): number | undefined => {
    const digits = new RegExp(` ${name}:([0-9a-f]+)`).exec(line)?.[1];
    return digits === undefined ? undefined : Number.parseInt(digits, 16);
  };
  const lines = fdinfo.split('\n').filter((line) => line.startsWith('fanotify '));
  const flags = lines.map((line) => numberIn(line, 'flags')).find((value) => value !== undefined);
  if (flags === undefined || (flags & harmlessFlags) !== 0) return false;
  return lines.some((line) => {
    if ((numberIn(line, 'mask') ?? 0) === 0) return false;
    const mountId = numberIn(line, 'mnt_id');
    return mountId === undefined ? numberIn(line, 'sdev') === device : mountIds.has(mountId);
  });
}

/** The programs that do so, by name and pid. Others than root see their own alone. Throws errno. */
export async function listenersOn(directory: string): Promise<string[]> {
  const places = placesOf(directory);
  const found: string[] = [];
  for (const pid of await processIds()) {
    if (!(await isListener(pid, places))) continue;
    const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '');
    found.push(`${name.trim()} (pid ${pid})`);
  }
  return found;
}

async function isListener(pid: number, places: WatchedPlaces): Promise<boolean> {
  for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
    const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '');
    if (target !== 'anon_inode:[fanotify]') continue;
    const fdinfo = await readFile(`/proc/${pid}/fdinfo/${fd}`, 'latin1').catch(() => '');
    if (isGivenDescriptors(fdinfo, places)) return true;
  }
  return false;
}

function placesOf(directory: string): WatchedPlaces {
  using file = openFd(directory, OpenFlag.path);
  const { mountId } = fileStatus(file.fd);
  const mounts = readMountInfo();
  const device = mounts.find((mount) => mount.mountId === mountId)?.device ?? '';
  const [major = NaN, minor = NaN] = device.split(':').map(Number);
  const there = mounts.filter((mount) => mount.device === device);
  return {
    device: major * 2 ** 20 + minor,
    mountIds: new Set(there.map((mount) => mount.mountId)),
  };
}

/** Throws errno. */
export async function listenerCheck(directory: string): Promise<DoctorCheck> {
  const name = 'other listeners';
  const found = await listenersOn(directory);
  if (found.length === 0) return { name, outcome: 'ok', found: 'none' };
  return {
    name,
    outcome: 'warn',
    found: found.join(', '),
    advice:
      'These programs are given a descriptor of each file there that is opened or read (fanotify), and no event ' +
      'tells Ebb what they read through it: of files that are not here they see poison, on ext4 zeros. If they ' +
      "look at content, a virus scanner say: ebb attach --rule '*=whole' brings files before they hear of them.",
  };
}
