/**
 * Whether a directory can become a tree: each problem a sentence with a way out, found before anything is touched.
 * What can change until then is looked at again by those who act (the supervisor's lock, the tree's identity).
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { ebbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import { isEbbMount, isTreeMount, mountAt } from '../base/mount-info.ts';
import type { MountInfo } from '../base/mount-info.ts';
import { isInside } from '../base/run-directory.ts';
import type { RunRecord } from '../base/run-directory.ts';
import { FilesystemMagic, filesystemStatus } from '../sys/statfs.ts';
import { fileStatus } from '../sys/stat.ts';

export interface AttachQuestion {
  /** Absolute real path of an existing directory. */
  readonly tree: string;
  /** Identity of the remote (daemon/options.ts), or the path of a directory. Undefined: the one that it belongs to. */
  readonly remote: string | undefined;
  readonly stateDirectory: string;
}

/** What is looked at; tests have others. */
export interface Machine {
  /** utsname.release: `6.18.44`. */
  readonly kernelRelease: string;
  readonly hasSysAdmin: boolean;
  readonly mounts: readonly MountInfo[];
  /** Daemons and supervisors that run. */
  readonly running: readonly RunRecord[];
  /** Files and directories that Ebb needs itself: their file systems must not be watched. */
  readonly needed: readonly string[];
}

export interface AttachableTree {
  readonly fileSystem: string;
  /** The remote that the directory belongs to already. */
  readonly remote: string | undefined;
  /** Its data is mounted there now, by a daemon or left behind by one that was killed. */
  readonly isShown: boolean;
}

const kernelNeeded = [6, 14] as const;
/** Named in a refusal. */
const shownMountsMax = 3;
/** SB_I_ALLOW_HSM is set by these alone (docs/native.md); the magic of ext4 is ext2's and ext3's, too. */
const fileSystems: ReadonlyMap<number, string> = new Map([
  [FilesystemMagic.xfs, 'xfs'],
  [FilesystemMagic.btrfs, 'btrfs'],
  [FilesystemMagic.ext4, 'ext4'],
]);
export const poolHint = 'ebb pool create makes a file system for it in a file';

/** Throws EPERM, EOPNOTSUPP, EBUSY, EEXIST, EINVAL or EUCLEAN with a sentence. Changes nothing. */
export function checkAttachable(question: AttachQuestion, machine: Machine): AttachableTree {
  const { tree } = question;
  checkMachine(machine);
  checkRelations(question, machine);
  const top = mountAt(machine.mounts, tree);
  // Attached now, or left behind by one that was killed: who starts anew finds out, and the data is below.
  const isShown = top !== undefined && isTreeMount(top);
  const fileSystem = checkFileSystem(tree);
  checkNotNeeded(question, machine);
  const remote = isShown ? undefined : remoteOf(tree);
  if (remote !== undefined && question.remote !== undefined && remote !== question.remote) {
    throw ebbError(
      'EEXIST',
      `${tree} belongs to ${remote}, not to ${question.remote}. Attach another directory, or make this one ordinary ` +
        `first: ebb attach ${tree}, then ebb detach --recall ${tree}`,
    );
  }
  if (remote === undefined && question.remote === undefined && !isShown) {
    throw ebbError('EINVAL', `${tree} was never attached: name the remote, too`);
  }
  return { fileSystem, remote, isShown };
}

function checkMachine({ kernelRelease, hasSysAdmin }: Machine): void {
  const [major = 0, minor = 0] = kernelRelease.split('.').map(Number);
  const [neededMajor, neededMinor] = kernelNeeded;
  if (major < neededMajor || (major === neededMajor && minor < neededMinor)) {
    throw ebbError(
      'EOPNOTSUPP',
      `Trees need Linux ${kernelNeeded.join('.')} (this is ${kernelRelease}); ebb mount works with older ones`,
    );
  }
  if (!hasSysAdmin) {
    throw ebbError('EPERM', 'Attaching needs root (CAP_SYS_ADMIN); ebb mount works without');
  }
}

function checkRelations({ tree, remote }: AttachQuestion, { mounts, running }: Machine): void {
  const other = running.find(
    ({ mountPoint }) =>
      mountPoint !== tree && (isInside(mountPoint, tree) || isInside(tree, mountPoint)),
  );
  if (other !== undefined) {
    const what = other.kind === 'tree' ? 'the attached tree' : 'the mount';
    throw ebbError('EBUSY', `${tree} and ${what} ${other.mountPoint} lie within each other`);
  }
  const outer = ancestors(tree).find((directory) =>
    existsSync(path.join(directory, '.ebb/tree.json')),
  );
  if (outer !== undefined) {
    throw ebbError('EBUSY', `${tree} is inside ${outer}, which is a tree itself; attach that one`);
  }
  if (remote?.startsWith('/') === true && (isInside(tree, remote) || isInside(remote, tree))) {
    throw ebbError('EINVAL', `the tree ${tree} and the remote ${remote} lie within each other`);
  }
  const inner = mounts.filter(
    ({ mountPoint }) => mountPoint !== tree && isInside(tree, mountPoint),
  );
  if (inner.length > 0) {
    const points = inner.slice(0, shownMountsMax).map(({ mountPoint }) => mountPoint);
    if (inner.length > points.length) points.push('...');
    throw ebbError(
      'EBUSY',
      `${tree} has mount points in it (${points.join(', ')}); unmount them first`,
    );
  }
  const top = mountAt(mounts, tree);
  if (top !== undefined && isEbbMount(top)) {
    throw ebbError(
      'EBUSY',
      `${tree} is a mount of Ebb; take it away first with: ebb umount ${tree}`,
    );
  }
}

function ancestors(directory: string): string[] {
  const parent = path.dirname(directory);
  return parent === directory ? [] : [parent, ...ancestors(parent)];
}

function checkFileSystem(tree: string): string {
  const status = filesystemStatus(tree);
  const name = fileSystems.get(status.magic);
  if (name === undefined) {
    const found = Object.entries(FilesystemMagic).find(([, magic]) => magic === status.magic)?.[0];
    throw ebbError(
      'EOPNOTSUPP',
      `${tree} is on ${found ?? 'a file system'} that cannot hold a tree: xfs, btrfs or ext4 can; ${poolHint}`,
    );
  }
  if (status.readOnly) throw ebbError('EROFS', `${tree} is on a read-only file system`);
  return name;
}

/** All files of the tree's file system are watched: what the watching itself needs must lie elsewhere. */
function checkNotNeeded({ tree, stateDirectory }: AttachQuestion, machine: Machine): void {
  const device = deviceOf(machine.mounts, tree);
  if (device === deviceOf(machine.mounts, '/')) {
    throw ebbError('EINVAL', `${tree} is on the file system of the system itself (/); ${poolHint}`);
  }
  if (deviceOf(machine.mounts, existing(stateDirectory)) === device) {
    throw ebbError(
      'EINVAL',
      `the state directory ${stateDirectory} must not be on the file system of ${tree}; name another with --state`,
    );
  }
  const shared = machine.needed.find(
    (file) => existsSync(file) && deviceOf(machine.mounts, file) === device,
  );
  if (shared !== undefined) {
    throw ebbError(
      'EINVAL',
      `${tree} is on the file system of ${shared}, which the system or Ebb needs; ${poolHint}`,
    );
  }
}

/** `major:minor`, as mountinfo has it: btrfs shows each subvolume as a device of its own to stat(2). */
function deviceOf(mounts: readonly MountInfo[], file: string): string | undefined {
  const { mountId } = fileStatus(file);
  return mounts.find((mount) => mount.mountId === mountId)?.device;
}

function existing(file: string): string {
  return statSync(file, { throwIfNoEntry: false }) === undefined
    ? existing(path.dirname(file))
    : file;
}

function remoteOf(tree: string): string | undefined {
  const file = path.join(tree, '.ebb/tree.json');
  if (!existsSync(file)) return undefined;
  try {
    const { remote } = JSON.parse(readFileSync(file, 'utf8')) as { remote?: unknown };
    if (typeof remote === 'string') return remote;
  } catch {
    // Said below.
  }
  throw damaged(file);
}

function damaged(file: string): EbbError {
  return ebbError(
    'EUCLEAN',
    `${file} is damaged; without it nobody knows which remote the tree belongs to`,
  );
}
